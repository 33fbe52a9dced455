"""What a deploy of a service file would change, and its steps: by the code that carries the deploy out."""

from __future__ import annotations

from syntra.agent.journal.journal import Journal
from syntra.agent.messages import LOCAL
from syntra.agent.operations.context import PlanContext
from syntra.agent.operations.job import Job
from syntra.agent.operations.name_claims import NameClaims
from syntra.agent.operations.secrets import with_secrets
from syntra.agent.operations.targets import check_unchanged
from syntra.model.command import Deploy, Operation, Pace, Scale
from syntra.model.fields import Json
from syntra.model.ids import RequestId
from syntra.model.spec import Deployment
from syntra.model.spec_changes import SpecChange, changes
from syntra.runtime.runtime import Runtime
from syntra.utils.frozen import frozen

UNROUTED = "nothing routes "
"""How a runtime's note begins that says why requests do not reach a service."""


@frozen
class Wanted:
    """What has to be done for a service file: `none`, `create`, `scale` or `deploy`, and what changes by that."""

    action: str
    changes: tuple[SpecChange, ...] = ()
    current: Deployment | None = None


class Plans:
    """Plans deployments. Never writes."""

    def __init__(self, journal: Journal, runtime: Runtime, names: NameClaims) -> None:
        self._journal = journal
        self._runtime = runtime
        self._names = names

    async def plan(self, deployment: Deployment, *, is_forced: bool, with_manifests: bool = False) -> dict[str, Json]:
        """The answer to `plan`. `is_forced`: deploy even if nothing changes. Raises RequestError."""
        deployment = await with_secrets(deployment, self._journal)
        wanted = await self._wanted(deployment, is_forced=is_forced)
        answer: dict[str, Json] = {
            "service_id": deployment.spec.service_id,
            "deployment_id": deployment.deployment_id,
            "strategy": deployment.strategy.value,
            "action": wanted.action,
            "changes": [{"setting": change.setting, "text": change.text} for change in wanted.changes],
            "replicas": deployment.spec.replicas,
        }
        if wanted.action == "none":
            return {**answer, "steps": [], "notes": []}
        return {**answer, **await self._steps(deployment, wanted, with_manifests=with_manifests)}

    async def route_problems(self, deployment: Deployment) -> list[str]:
        """Why requests do not reach the domains of a deployment that runs; empty when nothing is known of that."""
        command = Deploy(request_id=RequestId("plan"), deployment=deployment, auth=None)
        replicas = deployment.spec.replicas
        job = Job(command=command, kind="plan", origin=LOCAL, deployment=deployment, replicas=replicas)
        rollout = self._runtime.rollout(PlanContext(job, self._journal))
        notes = rollout.plan(await rollout.observe()).notes
        return [note for note in notes if note.startswith(UNROUTED)]

    async def _wanted(self, deployment: Deployment, *, is_forced: bool) -> Wanted:
        spec = deployment.spec
        current = await self._journal.current(spec.service_id)
        if current is None or current.deployment is None:
            return Wanted(action="create")
        found = changes(current.deployment, deployment, replicas=current.row.replicas)
        # What an operation under way will leave is not known yet: the file must win over it.
        if is_forced or current.row.stopped or await self._journal.is_busy(spec.service_id):
            stopped = (SpecChange(setting="state", text="state stopped → running"),) if current.row.stopped else ()
            return Wanted(action="deploy", changes=(*stopped, *found))
        if not found:
            return Wanted(action="none")
        if [change.setting for change in found] == ["replicas"]:
            return Wanted(action="scale", changes=found, current=current.deployment)
        return Wanted(action="deploy", changes=found)

    async def _steps(self, deployment: Deployment, wanted: Wanted, *, with_manifests: bool) -> dict[str, Json]:
        spec, request_id = deployment.spec, RequestId("plan")
        command: Operation = Deploy(request_id=request_id, deployment=deployment, auth=None)
        target = deployment
        if wanted.action == "scale" and wanted.current is not None:
            command = Scale(
                request_id=request_id, service_id=spec.service_id, replicas=spec.replicas, pace=Pace.ROLLING
            )
            target = wanted.current
        else:
            await check_unchanged(deployment, self._journal)
            await self._names.check(spec)
            await self._runtime.check(deployment, reserve=False)
        job = Job(command=command, kind="plan", origin=LOCAL, deployment=target, replicas=spec.replicas)
        rollout = self._runtime.rollout(PlanContext(job, self._journal))
        observed = await rollout.observe()
        job.prior = rollout.prior(observed)
        planned = rollout.plan(observed)
        objects = [
            {
                "object": preview.name,
                "changes": list(preview.changes),
                **({"manifest": dict(preview.manifest)} if with_manifests else {}),
            }
            for preview in await rollout.preview()
        ]
        return {
            **({"objects": objects} if objects else {}),
            "steps": [{"phase": step.phase.value, "text": str(step)} for step in planned.steps],
            "notes": [*planned.notes, *await self._runtime.obstacles(target)],
        }
