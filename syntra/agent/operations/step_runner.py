"""Performs single steps of a plan: each step one call, or several at once, of the runtime adapter or the proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from syntra.agent.health.gate import HealthGate
from syntra.agent.journal.journal import Journal
from syntra.agent.operations.canary import CanaryHolds, CanaryTools
from syntra.agent.operations.job import Job, OperationPhase
from syntra.agent.operations.progress import ProgressReporter
from syntra.agent.traffic.port import Traffic
from syntra.model.command import Deploy, Restart, Stop
from syntra.model.ids import ContainerId
from syntra.model.spec import ServiceSpec
from syntra.model.status import Replica
from syntra.runtime.adapter import Adapter
from syntra.runtime.errors import RuntimeUnavailable, StepFailed
from syntra.runtime.steps import (
    AwaitHealthy,
    CreateReplica,
    EnsureNetwork,
    EnsureVolume,
    ForgetService,
    Hold,
    Named,
    ObtainImage,
    Publish,
    RemoveReplicas,
    ReplicaRef,
    RestartReplica,
    Shift,
    StartReplica,
    Step,
    StopReplicas,
    Withdraw,
)
from syntra.utils.companion import alongside

# SIGTERM to SIGKILL for replicas that a deployment retires; `stop` and `restart` bring their own.
RETIRE_GRACE_SECS = 10.0
STOPS_AT_ONCE = 5
HOLD_SLACK_SECS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What an operation works with."""

    adapter: Adapter
    journal: Journal
    gate: HealthGate
    traffic: Traffic
    canary: CanaryTools = field(default_factory=CanaryTools)


class StepRunner:
    """The steps of one job. `observed` is what the plan in hand was made from; `created` what it has made since."""

    def __init__(self, job: Job, tools: Tools, progress: ProgressReporter) -> None:
        self._job = job
        self._adapter = tools.adapter
        self._journal = tools.journal
        self._gate = tools.gate
        self._traffic = tools.traffic
        self._progress = progress
        self._holds = CanaryHolds(job, tools.adapter, tools.canary, tell=progress.holding, remark=progress.remark)
        self.observed: list[Replica] = []
        self.created: dict[int, ContainerId] = {}
        # What went wrong beside the point; it goes into the report as a note.
        self.remarks: list[str] = []

    def begin(self, observed: list[Replica]) -> None:
        """A plan made from `observed` is about to be performed."""
        self.observed = observed
        self.created.clear()
        self._holds.begin()

    async def perform(self, step: Step, deadline: float) -> None:
        """Perform any step but Commit. Raises StepFailed, RuntimeUnavailable or Interrupted."""
        deployment = self._job.deployment
        match step:
            case StopReplicas(replicas=replicas):
                await self._each(replicas, self._stop)
            case RemoveReplicas(replicas=replicas):
                await self._each(replicas, self._adapter.remove)
            case ForgetService():
                await self._forget()
            case RestartReplica(replica=named):
                await self._adapter.restart(named.container_id, self._grace())
            case StartReplica(replica=ref):
                await self._adapter.start(self._resolve(ref))
            case AwaitHealthy(replicas=refs):
                async with self._job.interruptible(deadline):
                    await self._await_healthy([self._resolve(ref) for ref in refs])
            case Publish(replicas=refs):
                for spec, group in await self._by_spec([self._resolve(ref) for ref in refs]):
                    assert spec is not None, "cannot happen because only deployments are routed"
                    await self._traffic.publish(spec, group)
            case Shift(replicas=refs, percent=percent):
                assert deployment is not None, "cannot happen because only deployments are routed"
                await self._traffic.publish(deployment.spec, [self._resolve(ref) for ref in refs], share=percent)
            case Hold():
                await self._hold(step)
            case Withdraw(replicas=replicas):
                await self._withdraw([named.container_id for named in replicas])
            case ObtainImage():
                await self._obtain_image(deadline)
            case EnsureNetwork(project=project):
                await self._adapter.ensure_network(project)
                assert deployment is not None, "cannot happen because only deployments plan a network"
                await self._traffic.prepare(deployment.spec)
            case EnsureVolume(name=name):
                await self._adapter.ensure_volume(name)
            case CreateReplica(index=index):
                assert deployment is not None, "cannot happen because only deployments plan replicas"
                self.created[index], _ = await self._adapter.create(deployment, index)

    async def _obtain_image(self, deadline: float) -> None:
        deployment = self._job.deployment
        assert deployment is not None, "cannot happen because only deployments plan an image"
        auth = self._job.command.auth if isinstance(self._job.command, Deploy) else None
        pull = self._adapter.obtain_image(deployment, auth, self._progress.pulling)
        async with self._job.interruptible(deadline):
            note = await alongside(pull, self._progress.pump())
        if note:
            self._progress.remark(note)

    async def _hold(self, step: Hold) -> None:
        job = self._job
        assert job.deployment is not None, "cannot happen because only deployments are held"
        job.is_holding = True
        try:
            # The hold ends itself; its bound is for an engine that does not answer.
            async with job.interruptible(asyncio.get_running_loop().time() + step.secs + HOLD_SLACK_SECS):
                await self._holds.hold(step, [self._resolve(ref) for ref in step.replicas], job.deployment)
        finally:
            job.is_holding = False
        if not job.promoted.is_set():
            await self._journal.canary.passed(job.command.request_id, step.number)
            job.stage = max(job.stage, step.number)

    async def _await_healthy(self, containers: Sequence[ContainerId]) -> None:
        for spec, group in await self._by_spec(containers):
            await self._gate.wait(group, await self._asked(spec))

    async def _asked(self, spec: ServiceSpec | None) -> ServiceSpec | None:
        """The spec with the live change of its health check; what a deploy brings has its own."""
        if spec is None or (isinstance(self._job.command, Deploy) and self._job.phase is not OperationPhase.UNWINDING):
            return spec
        change = await self._journal.health_changes.of(self._job.service_id)
        return spec if change is None else change.applied(spec)

    async def _by_spec(self, containers: Sequence[ContainerId]) -> list[tuple[ServiceSpec | None, list[ContainerId]]]:
        deployment = self._job.deployment
        if self._job.phase is not OperationPhase.UNWINDING:
            return [(deployment.spec if deployment else None, [*containers])]
        # What comes back is judged, and routed, by what it was deployed with, not by what has just failed.
        made_from = {replica.container_id: replica.deployment_id for replica in self.observed}
        found: list[tuple[ServiceSpec | None, list[ContainerId]]] = []
        for deployment_id in sorted({made_from[container_id] for container_id in containers}):
            earlier = await self._journal.deployment(self._job.service_id, deployment_id)
            group = [container_id for container_id in containers if made_from[container_id] == deployment_id]
            found.append((earlier.spec if earlier else deployment.spec if deployment else None, group))
        return found

    async def _withdraw(self, containers: Sequence[ContainerId]) -> None:
        await self._traffic.withdraw(self._job.service_id, containers)
        if self._job.phase is not OperationPhase.UNWINDING:
            return
        # What failed may have brought other domains; those that serve on have their own.
        row = await self._journal.service(self._job.service_id)
        earlier = await self._journal.deployment(self._job.service_id, row.deployment_id) if row else None
        if earlier is not None:
            await self._traffic.publish(earlier.spec, ())

    async def _forget(self) -> None:
        await self._traffic.forget(self._job.service_id)
        # The images first: once the service is forgotten nobody knows whose they were.
        try:
            await self._adapter.collect_garbage({}, frozenset({self._job.service_id}))
        except StepFailed as failed:
            self.remarks.append(str(failed))
        if self._job.deployment is not None:
            try:
                await self._adapter.release_network(self._job.deployment.spec.project_name)
            except StepFailed as failed:
                self.remarks.append(str(failed))
        await self._journal.forget_service(self._job.service_id)

    async def _each(self, replicas: Sequence[Named], act: Callable[[ContainerId], Awaitable[None]]) -> None:
        # Several at once, but not all: a hundred containers stopping together starve what serves.
        gate = asyncio.Semaphore(STOPS_AT_ONCE)
        failures: list[StepFailed | RuntimeUnavailable] = []

        async def one(container_id: ContainerId) -> None:
            async with gate:
                try:
                    await act(container_id)
                except (StepFailed, RuntimeUnavailable) as failed:
                    failures.append(failed)

        async with asyncio.TaskGroup() as group:
            for named in replicas:
                group.create_task(one(named.container_id), name=f"step {named.name}")
        if failures:
            raise failures[0]

    async def _stop(self, container_id: ContainerId) -> None:
        await self._adapter.stop(container_id, self._grace())

    def _grace(self) -> float:
        command = self._job.command
        return command.grace_secs if isinstance(command, Stop | Restart) else RETIRE_GRACE_SECS

    def _resolve(self, ref: ReplicaRef) -> ContainerId:
        return self.created[ref] if isinstance(ref, int) else ref
