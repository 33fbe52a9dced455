"""Carries out one operation: observe, plan, perform; again after the engine was away; unwind when it fails.

Decisions are made by `runtime.plan`; this module performs them, journals each step before its effect, and sees that
every operation ends in exactly one report.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Sequence

from syntra.agent.journal.rows import ServiceRow
from syntra.agent.operations.engine_away import until_back, why_away
from syntra.agent.operations.job import Interrupted, Interruption, Job, OperationPhase
from syntra.agent.operations.progress import Outcome, ProgressReporter
from syntra.agent.operations.step_runner import StepRunner, Tools
from syntra.model.command import Deploy, Restart, Rollback, Scale, Stop
from syntra.model.fields import Json
from syntra.model.spec import Strategy
from syntra.model.spec_payload import fingerprint
from syntra.model.status import Failure, LogLine, Replica
from syntra.runtime import plan
from syntra.runtime.errors import RuntimeUnavailable, StepFailed
from syntra.runtime.steps import Commit, Hold, Plan, Step
from syntra.runtime.traffic import with_traffic
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

# How long an agent that comes back gives a deployment whose deadline passed while nobody was there.
LEAST_SECS_AFTER_RESTART = 5.0
# Cleaning up after the commit, or unwinding: what is left after that is said and left to the next start.
CLEANUP_SECS = 300.0
UNWIND_SECS = 180.0
UNWIND_PASSES = 3
REPORTED_LINES = 50

Planner = Callable[[Sequence[Replica]], Plan]


class Execution:
    """One run of one job. `run` returns when the job is reported, raises Interrupted(SHUTDOWN) when it is parked."""

    def __init__(self, job: Job, tools: Tools, progress: ProgressReporter) -> None:
        self._job = job
        self._adapter = tools.adapter
        self._journal = tools.journal
        self._traffic = tools.traffic
        self._progress = progress
        self._runner = StepRunner(job, tools, progress)
        self._position = 0
        self._pinned = False
        self._cleanup_errors: list[str] = []

    async def run(self) -> None:
        """Carry the job to its report. Cancellation parks it: the journal lets the next start go on."""
        job = self._job
        try:
            if job.phase is OperationPhase.UNWINDING:
                failure, logs = _recalled(job.reason)
                await self._unwind_and_report(failure, logs)
                return
            await self._forward()
        except Interrupted as interrupted:
            if interrupted.cause is Interruption.SHUTDOWN:
                log.info("operation parked", extra={"request_id": job.command.request_id, "kind": job.kind})
                raise
            await self._fail(Failure(code=interrupted.cause.name, message=_why(interrupted.cause, job)), ())
        except StepFailed as failed:
            await self._fail(Failure(code=failed.code, message=str(failed)), await self._last_lines(failed))
        except RuntimeUnavailable as away:
            await self._fail(Failure(code=away.code, message=str(away)), ())

    async def _forward(self) -> None:
        job = self._job
        if job.phase is OperationPhase.WAITING:
            observed = await self._first_look()
            job.prior = frozenset(r.container_id for r in observed if r.is_up or isinstance(job.command, Scale))
            job.begun_at = time.time()
            if isinstance(job.command, Restart):
                # A restart goes by what was started before it; a clock that was set back, or another than the engine's,
                # must not make everything look restarted already.
                newest = max((r.started_ns or 0 for r in observed), default=0)
                job.begun_at = max(job.begun_at, newest / 1e9 + 0.001)
            await self._journal.begin(job.command.request_id, job.prior, self._progress.began(), job.begun_at)
            job.phase = OperationPhase.RUNNING
            self._progress.tell()
        await self._converge(self._planner(), self._deadline())
        await self._progress.finish(self._outcome(None, ()))

    def _outcome(self, failure: Failure | None, logs: Sequence[LogLine], *, restored: bool = False) -> Outcome:
        return Outcome(
            failure=failure,
            logs=tuple(logs),
            restored=restored,
            container_ids=tuple(self._runner.created.values()),
            notes=(*self._runner.remarks, *self._cleanup_errors),
        )

    async def _fail(self, failure: Failure, logs: Sequence[LogLine]) -> None:
        if self._job.phase is OperationPhase.COMMITTED and not isinstance(self._job.command, Stop):
            # What is new is proven and serving; only tidying was cut short.
            self._cleanup_errors.append(failure.message)
            await self._progress.finish(self._outcome(None, ()))
            return
        if self._job.phase is OperationPhase.WAITING or not isinstance(self._job.command, Deploy | Rollback | Scale):
            await self._progress.finish(self._outcome(failure, logs))
            return
        reason: dict[str, Json] = {"code": failure.code, "message": failure.message}
        reason["logs"] = [line.message for line in logs]
        await self._journal.unwinding(self._job.command.request_id, reason)
        self._job.phase, self._job.reason = OperationPhase.UNWINDING, json.dumps(reason)
        await self._unwind_and_report(failure, logs)

    async def _unwind_and_report(self, failure: Failure, logs: Sequence[LogLine]) -> None:
        # The interruption has had its effect; unwinding has a deadline of its own, and only a shutdown parks it.
        job = self._job
        if job.interruption is not Interruption.SHUTDOWN:
            job.interruption = None
        restored = False
        deadline = asyncio.get_running_loop().time() + UNWIND_SECS
        for attempt in range(1, UNWIND_PASSES + 1):
            try:
                await self._converge(self._unwinder(), deadline)
                # Without a way back the old ones may still serve: they had not been stopped yet.
                restored = bool(job.prior) and (self._restores() or all(r.is_up for r in self._prior_seen()))
                self._cleanup_errors.append("what ran before serves on" if restored else "nothing of it was left")
                break
            except (StepFailed, RuntimeUnavailable) as failed:
                log.warning("unwinding failed", extra={"attempt": attempt, "reason": str(failed)})
                self._cleanup_errors.append(f"could not undo everything: {failed}")
            except Interrupted as interrupted:
                if interrupted.cause is Interruption.SHUTDOWN:
                    raise
                self._cleanup_errors.append("could not undo everything in time")
                break
        await self._progress.finish(self._outcome(failure, logs, restored=restored))

    def _prior_seen(self) -> list[Replica]:
        return [replica for replica in self._runner.observed if replica.container_id in self._job.prior]

    async def _converge(self, planner: Planner, deadline: float) -> None:
        """Observe, plan and perform until a plan was performed whole; an engine that went away is waited for."""
        while True:
            try:
                observed = await self._adapter.observe(self._job.service_id)
                if self._job.deployment is not None:
                    self._pinned = await self._adapter.has_image(self._job.deployment)
                self._runner.begin(observed)
                planned = planner(observed)
                if self._job.deployment is not None and self._traffic.routes(self._job.deployment.spec):
                    planned = with_traffic(planned, serving=sum(1 for replica in observed if replica.is_up))
                for note in planned.notes:
                    self._progress.remark(note)
                stage = self._job.stage
                for number, step in enumerate(planned.steps):
                    self._job.safe_point()
                    if self._job.stage != stage:
                        # Promoted: what is left is another plan.
                        break
                    if asyncio.get_running_loop().time() >= deadline:
                        raise Interrupted(Interruption.DEADLINE)
                    begun = asyncio.get_running_loop().time()
                    try:
                        await self._perform(step, 100 * number // len(planned.steps), deadline)
                    finally:
                        if isinstance(step, Hold):
                            # On top of the command's time, also when the engine went away in the middle.
                            deadline += asyncio.get_running_loop().time() - begun
                            stage = max(stage, step.number)
                    if isinstance(step, Commit) and not isinstance(self._job.command, Stop):
                        # The command's time was for proving; what is old must not serve on because it ran short.
                        deadline = max(deadline, asyncio.get_running_loop().time() + CLEANUP_SECS)
                else:
                    return
            except (StepFailed, RuntimeUnavailable) as failed:
                away = await why_away(self._adapter, failed)
                if away is None:
                    raise
                log.warning("engine is away; the operation goes on when it is back", extra={"reason": str(away)})
                async with self._job.interruptible(deadline):
                    await until_back(self._adapter)

    async def _first_look(self) -> list[Replica]:
        deadline = self._deadline()
        while True:
            self._job.safe_point()
            try:
                return await self._adapter.observe(self._job.service_id)
            except RuntimeUnavailable:
                async with self._job.interruptible(deadline):
                    await until_back(self._adapter)

    async def _perform(self, step: Step, percent: int, deadline: float) -> None:
        self._position += 1
        messages = self._progress.step(step, percent)
        if isinstance(step, Commit):
            self._progress.tell()
            await self._commit()
            return
        await self._journal.step(self._job.command.request_id, self._position, str(step), messages)
        self._progress.tell()
        await self._runner.perform(step, deadline)

    async def _commit(self) -> None:
        job = self._job
        if job.phase is OperationPhase.UNWINDING:
            return
        row = await self._journal.service(job.service_id)
        deployment_id = job.deployment_id or (row.deployment_id if row else job.deployment_id)
        replicas = row.replicas if row and isinstance(job.command, Stop | Restart) else job.replicas
        committed = await self._journal.commit(
            job.command.request_id,
            ServiceRow(
                service_id=job.service_id,
                deployment_id=deployment_id,
                replicas=replicas,
                stopped=isinstance(job.command, Stop),
                at=time.time(),
            ),
        )
        if not committed:
            raise Interrupted(Interruption.ABORTED)
        job.settle()

    def _deadline(self) -> float:
        now = asyncio.get_running_loop().time()
        if self._job.phase is OperationPhase.COMMITTED:
            return now + CLEANUP_SECS
        command = self._job.command
        deployment = self._job.deployment
        allowed = deployment.timeout_secs if deployment else CLEANUP_SECS
        if isinstance(command, Stop | Restart):
            allowed = max(command.grace_secs * 2 + 60.0, allowed)
        spent = max(0.0, time.time() - (self._job.begun_at or time.time()))
        if self._job.is_canary:
            # Holds are on top; what an earlier run of the agent spent was mostly that.
            spent = 0.0
        return now + max(allowed - spent, LEAST_SECS_AFTER_RESTART)

    def _planner(self) -> Planner:
        job = self._job
        match job.command:
            case Stop(remove=remove):
                return lambda observed: plan.stop(observed, remove=remove)
            case Restart():
                begun_ns = int((job.begun_at or 0) * 1e9)
                # What an earlier deployment left behind stays down.
                return lambda observed: plan.restart(
                    [r for r in observed if r.is_up or r.deployment_id == job.deployment_id], begun_ns=begun_ns
                )
            case Scale(pace=pace):
                return lambda observed: plan.scale(self._goal(), observed, pace=pace, committed=self._is_committed())
            case Deploy() | Rollback():
                return lambda observed: plan.deploy(self._goal(), observed, committed=self._is_committed())

    def _is_committed(self) -> bool:
        return self._job.phase is OperationPhase.COMMITTED

    def _unwinder(self) -> Planner:
        if isinstance(self._job.command, Scale):
            return lambda observed: plan.unwind_scale(self._goal(), observed)
        return lambda observed: plan.unwind(self._goal(), observed, restore=self._restores())

    def _restores(self) -> bool:
        deployment = self._job.deployment
        return deployment is None or deployment.rollback_on_failure or deployment.strategy is not Strategy.INSTANT

    def _goal(self) -> plan.Goal:
        deployment = self._job.deployment
        assert deployment is not None, "cannot happen because the deployer resolves it first"
        if deployment.strategy is Strategy.CANARY and not self._job.is_canary:
            deployment = dataclasses.replace(deployment, strategy=Strategy.BLUE_GREEN)
        return plan.Goal(
            deployment=deployment,
            spec_hash=fingerprint(deployment.spec),
            replicas=self._job.replicas,
            prior=self._job.prior,
            pinned=self._pinned,
            stage=self._job.stage,
        )

    async def _last_lines(self, failed: StepFailed) -> list[LogLine]:
        if failed.container_id is None:
            return []
        try:
            return await self._adapter.tail(failed.container_id, REPORTED_LINES)
        except AgentError as lost:
            log.debug("no last lines", extra={"reason": str(lost)})
            return []


def _why(cause: Interruption, job: Job) -> str:
    if cause is Interruption.ABORTED:
        return abort_reason(job).message
    if cause is Interruption.SUPERSEDED:
        return f"cannot finish {job.kind} of {job.service_id}: a newer command for the service took its place"
    allowed = job.deployment.timeout_secs if job.deployment else CLEANUP_SECS
    return (
        f"cannot finish {job.kind} of {job.service_id}: not done within {allowed:g} s; "
        "raise timeout_seconds or look at the service's logs"
    )


def abort_reason(job: Job) -> Failure:
    """What is reported of a canary that was told to end."""
    return Failure(code=Interruption.ABORTED.name, message=f"the canary of {job.service_id} was aborted")


def _recalled(reason: str) -> tuple[Failure, list[LogLine]]:
    stored = json.loads(reason or "{}")
    failure = Failure(
        code=stored.get("code", "INTERRUPTED"), message=stored.get("message", "the agent stopped in the middle")
    )
    return failure, [LogLine(timestamp="", stream="stdout", message=line) for line in stored.get("logs", [])]
