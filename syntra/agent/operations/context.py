"""Implements `runtime.runtime.OperationContext`, the agent's side of an operation's steps, with job and journal."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractAsyncContextManager

from syntra.agent.journal.journal import Journal
from syntra.agent.operations.job import Job, OperationPhase
from syntra.agent.operations.progress import ProgressReporter
from syntra.model.command import Deploy
from syntra.model.ids import ContainerId, DeploymentId
from syntra.model.image import ResolvedImage
from syntra.model.spec import Deployment, ServiceSpec
from syntra.runtime.runtime import Desired


class PlanContext:
    """The context of a job whose plan is only shown: it reports no progress."""

    def __init__(self, job: Job, journal: Journal) -> None:
        self._job = job
        self._journal = journal
        self.service_id = job.service_id

    @property
    def desired(self) -> Desired:
        return self._job.desired()

    def interruptible(self, deadline: float) -> AbstractAsyncContextManager[None]:
        return self._job.interruptible(deadline)

    def report_pull(self, percent: int, text: str) -> None:
        return

    def remark(self, sentence: str) -> None:
        return

    async def resolved(self, image: ResolvedImage) -> None:
        return

    async def replaced(self, old: ContainerId, new: ContainerId) -> None:
        return

    async def kept(self, deployment_id: DeploymentId) -> Deployment | None:
        return await self._journal.deployment(self.service_id, deployment_id)

    async def current(self) -> Deployment | None:
        current = await self._journal.current(self.service_id)
        return current.deployment if current else None

    async def effective_spec(self, spec: ServiceSpec) -> ServiceSpec:
        # A deploy has its own health check: no override applies.
        if isinstance(self._job.command, Deploy) and self._job.phase is not OperationPhase.ROLLING_BACK:
            return spec
        change = await self._journal.health_changes.of(self.service_id)
        return spec if change is None else change.applied(spec)


class JobContext(PlanContext):
    """The context of a job that is carried out."""

    def __init__(self, job: Job, journal: Journal, progress: ProgressReporter) -> None:
        super().__init__(job, journal)
        self._progress = progress

    def report_pull(self, percent: int, text: str) -> None:
        self._progress.pulling(percent, text)

    async def resolved(self, image: ResolvedImage) -> None:
        deployment = self._job.deployment
        assert deployment is not None, "cannot happen because only deployments have images"
        await self._journal.resolved(self.service_id, deployment.deployment_id, image)
        self._job.deployment = dataclasses.replace(deployment, resolved=image)

    def remark(self, sentence: str) -> None:
        self._progress.remark(sentence)

    async def replaced(self, old: ContainerId, new: ContainerId) -> None:
        if old in self._job.prior:
            self._job.prior = self._job.prior - {old} | {new}
            await self._journal.set_prior(self._job.command.request_id, self._job.prior)
