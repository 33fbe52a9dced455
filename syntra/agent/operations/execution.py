"""Carries out one operation: observe, plan, perform; repeat after the runtime was away; roll back on failure.

The runtime decides the steps. This module journals each step before it performs it, and ends every operation with
exactly one report.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import time
from collections.abc import Sequence

from syntra.agent.changes import Changes
from syntra.agent.journal.journal import Journal
from syntra.agent.journal.rows import ServiceRow
from syntra.agent.messages import LOCAL
from syntra.agent.operations.canary import CanaryHolds, CanaryTools
from syntra.agent.operations.context import JobContext
from syntra.agent.operations.engine_away import until_back, why_away
from syntra.agent.operations.failures import CLEANUP_SECS, Ended, interruption_message, restored
from syntra.agent.operations.job import Interrupted, Interruption, Job, OperationPhase
from syntra.agent.operations.observed_end import after_failure, running
from syntra.agent.operations.progress import Outcome, ProgressReporter
from syntra.model.command import Deploy, Restart, Rollback, Scale, Stop
from syntra.model.container import DEFAULT_STOP_GRACE_SECS
from syntra.model.ids import ContainerId
from syntra.model.status import Failure, LogLine, Phase, Replica
from syntra.runtime.errors import RuntimeFailure, RuntimeUnavailable, StepFailed
from syntra.runtime.runtime import Commit, ForgetService, Hold, Observation, Plan, Runtime, Step
from syntra.utils.companion import alongside
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

log = logging.getLogger(__name__)

# The least time after a restart for a deployment whose deadline passed while the agent was down.
LEAST_SECS_AFTER_RESTART = 5.0
# The limit of a rollback. The report says when one did not finish.
ROLLBACK_SECS = 180.0
ROLLBACK_ATTEMPTS = 3
# The time to observe what runs, for the report.
OBSERVE_SECS = 30.0
HOLD_SLACK_SECS = 120.0
REPORTED_LINES = 50


@frozen
class Dependencies:
    """The services that an operation uses."""

    runtime: Runtime
    journal: Journal
    changes: Changes
    canary: CanaryTools


class Deadline:
    """A time on the loop's clock that can be extended. It is checked before each step."""

    def __init__(self, secs: float) -> None:
        self.at = _now() + secs

    def check(self) -> None:
        """Raise Interrupted when the deadline has passed."""
        if _now() >= self.at:
            raise Interrupted(Interruption.DEADLINE)

    def at_least(self, secs: float) -> None:
        """Extend the deadline to at least `secs` from now."""
        self.at = max(self.at, _now() + secs)


class Execution:
    """One run of one job. `run` returns when the job is reported; raises Interrupted(SHUTDOWN) when it is parked."""

    def __init__(self, job: Job, dependencies: Dependencies, progress: ProgressReporter) -> None:
        self._job = job
        self._runtime = dependencies.runtime
        self._journal = dependencies.journal
        self._changes = dependencies.changes
        self._progress = progress
        self._rollout = self._runtime.rollout(JobContext(job, self._journal, progress))
        self._holds = CanaryHolds(
            job, self._runtime, dependencies.canary, tell=progress.holding, remark=progress.remark
        )
        self._position = 0
        self._step: Step | None = None

    async def run(self) -> None:
        """Run the job until it is reported. Cancellation parks it: the next start resumes it from the journal."""
        job = self._job
        try:
            if job.phase is OperationPhase.ROLLING_BACK:
                await self._roll_back_and_report(restored(job.reason))
                return
            await self._carry_out()
        except Interrupted as interrupted:
            if interrupted.cause is Interruption.SHUTDOWN:
                log.info("operation parked", extra={"request_id": job.command.request_id, "kind": job.kind})
                raise
            message = interruption_message(interrupted.cause, job, self._where())
            # What a person or a newer command ended has not failed.
            at_fault = self._at_fault(None) if interrupted.cause is Interruption.DEADLINE else None
            await self._fail(Ended(failure=Failure(code=interrupted.cause.name, message=message), at_fault=at_fault))
        except RuntimeFailure as failed:
            details = failed.details if isinstance(failed, StepFailed) else ""
            failure = Failure(code=failed.code, message=str(failed), details=details)
            logs = tuple(await self._last_lines(failed))
            await self._fail(Ended(failure=failure, logs=logs, at_fault=self._at_fault(failed)))

    async def _carry_out(self) -> None:
        job = self._job
        if job.phase is OperationPhase.WAITING:
            observed = await self._observe_first()
            job.prior = self._rollout.prior(observed)
            job.begun_at = time.time()
            if isinstance(job.command, Restart):
                # A restart skips replicas that started after it began. Begin after all start times, even when the clock
                # was set back or differs from the engine's.
                newest = max((replica.started_ns or 0 for replica in observed.replicas), default=0)
                job.begun_at = max(job.begun_at, newest / 1e9 + 0.001)
            await self._journal.begin(job.command.request_id, job.prior, self._progress.began(), job.begun_at)
            job.phase = OperationPhase.RUNNING
            self._progress.notify()
        await self._converge(Deadline(self._allowed_secs()))
        await self._finish_done()

    def _outcome(self, failure: Failure | None, logs: Sequence[LogLine], *, restored: bool = False) -> Outcome:
        created = tuple(self._rollout.created)
        return Outcome(failure=failure, logs=tuple(logs), restored=restored, container_ids=created)

    def _where(self) -> str:
        """The step that was under way, with what it saw last."""
        if self._step is None:
            return ""
        seen = self._rollout.last_seen(self._step)
        return f"{self._step}{f' (last probe: {seen})' if seen else ''}"

    def _at_fault(self, failed: RuntimeFailure | None) -> ContainerId | None:
        """The new container to keep after a failed deployment: the one that the failure names, or the step's."""
        known = failed.container_id if isinstance(failed, StepFailed) else None
        if known is None and self._step is not None:
            known = self._rollout.at_fault(self._step)
        return None if known in self._job.prior else known

    async def _finish_done(self) -> None:
        outcome = self._outcome(None, ())
        replicas = None if isinstance(self._job.command, Stop) else await self._seen_at_end(is_patient=True)
        if replicas is not None:
            outcome = dataclasses.replace(outcome, running=running(replicas, self._job.deployment_id))
        await self._progress.finish(outcome)

    async def _finish_failed(self, failure: Failure, logs: Sequence[LogLine], *, is_rolled_back: bool = False) -> None:
        """Report a failure and what is seen to run after it."""
        job = self._job
        if job.reports_deployment:
            try:
                await self._rollout.give_back()
            except RuntimeFailure as later:
                self._progress.remark(str(later))
        # After a rollback that ended because the runtime was away, do not wait for it once more.
        replicas = await self._seen_at_end(is_patient=is_rolled_back)
        if replicas is None:
            await self._progress.finish(self._outcome(failure, logs))
            return
        row = await self._journal.service(job.service_id)
        is_same_version = isinstance(job.command, Scale | Restart | Stop)
        end = after_failure(row, job.prior, replicas, is_same_version=is_same_version)
        self._progress.remark(end.sentence)
        await self._progress.finish(self._outcome(failure, logs, restored=is_rolled_back and end.restored))

    async def _seen_at_end(self, *, is_patient: bool) -> Sequence[Replica] | None:
        """The replicas, observed once more for the report; None, with a remark, when that is impossible.

        `is_patient`: wait for a runtime that is away.
        """
        try:
            async with asyncio.timeout(OBSERVE_SECS):
                while True:
                    try:
                        return (await self._rollout.observe()).replicas
                    except RuntimeUnavailable:
                        if not is_patient:
                            raise
                        await until_back(self._runtime)
        except (RuntimeFailure, TimeoutError) as unseen:
            self._progress.remark(f"what runs now is not known: {str(unseen) or 'the runtime does not answer'}")
            return None

    async def _fail(self, ended: Ended) -> None:
        failure = ended.failure
        if self._job.phase is OperationPhase.COMMITTED and not isinstance(self._job.command, Stop):
            # The new version is healthy and running; only the cleanup was cut short.
            self._progress.remark(failure.message)
            await self._finish_done()
            return
        if self._job.phase is OperationPhase.WAITING:
            await self._progress.finish(self._outcome(failure, ended.logs))
            return
        if not isinstance(self._job.command, Deploy | Rollback | Scale):
            await self._finish_failed(failure, ended.logs)
            return
        reason = ended.stored()
        await self._journal.begin_rollback(self._job.command.request_id, reason)
        self._job.phase, self._job.reason = OperationPhase.ROLLING_BACK, json.dumps(reason)
        await self._roll_back_and_report(ended)

    async def _roll_back_and_report(self, ended: Ended) -> None:
        # Clear the interruption: the rollback has its own deadline, and only a shutdown parks it.
        job = self._job
        job.at_fault = ended.at_fault
        if job.interruption is not Interruption.SHUTDOWN:
            job.interruption = None
        is_complete = False
        deadline = Deadline(ROLLBACK_SECS)
        for attempt in range(1, ROLLBACK_ATTEMPTS + 1):
            try:
                await self._converge(deadline)
                is_complete = True
                break
            except RuntimeFailure as failed:
                log.warning("rollback failed", extra={"attempt": attempt, "reason": str(failed)})
                self._progress.remark(f"the rollback is incomplete: {failed}")
            except Interrupted as interrupted:
                if interrupted.cause is Interruption.SHUTDOWN:
                    raise
                self._progress.remark("the rollback did not finish in time")
                break
        await self._finish_failed(ended.failure, ended.logs, is_rolled_back=is_complete)

    async def _converge(self, deadline: Deadline) -> None:
        """Observe, plan and perform until a plan is complete. Waits for a runtime that is away."""
        while True:
            try:
                plan = self._rollout.plan(await self._rollout.observe())
                if await self._perform_all(plan, deadline):
                    return
            except RuntimeFailure as failed:
                away = await why_away(self._runtime, failed)
                if away is None:
                    raise
                log.warning("engine is away; the operation resumes when it is back", extra={"reason": str(away)})
                async with self._job.interruptible(deadline.at):
                    await until_back(self._runtime)

    async def _perform_all(self, plan: Plan, deadline: Deadline) -> bool:
        """Perform a plan. Returns False when a new plan is needed: an image was obtained, or the canary was promoted.

        What an image declares is known only when it is here, so a plan that begins with its pull is provisional.
        """
        if not any(step.phase is Phase.PULL_IMAGE for step in plan.steps):
            for note in plan.notes:
                self._progress.remark(note)
        self._holds.begin()
        # The plan includes every decision made before it.
        self._job.promoted.clear()
        decisions = self._job.decisions
        for number, step in enumerate(plan.steps):
            self._job.safe_point()
            if self._job.decisions != decisions:
                return False
            deadline.check()
            await self._perform(step, 100 * number // len(plan.steps), deadline)
            if step.phase is Phase.PULL_IMAGE:
                return False
        return True

    async def _observe_first(self) -> Observation:
        deadline = Deadline(self._allowed_secs())
        while True:
            self._job.safe_point()
            try:
                return await self._rollout.observe()
            except RuntimeUnavailable:
                async with self._job.interruptible(deadline.at):
                    await until_back(self._runtime)

    async def _perform(self, step: Step, percent: int, deadline: Deadline) -> None:
        self._position += 1
        self._step = step
        messages = self._progress.step(step, percent)
        if not isinstance(step, Commit):
            await self._journal.step(self._job.command.request_id, self._position, str(step), messages)
        self._progress.notify()
        match step:
            case Commit():
                await self._commit()
                if not isinstance(self._job.command, Stop):
                    # The command's timeout is for the rollout; the old version must be removed even when it is short.
                    deadline.at_least(CLEANUP_SECS)
            case Hold():
                await self._hold(step, deadline)
            case ForgetService():
                await self._rollout.perform(step, deadline.at)
                await self._journal.forget_service(self._job.service_id)
            case _ if step.phase is Phase.PULL_IMAGE:
                await alongside(self._rollout.perform(step, deadline.at), self._progress.pump())
            case _:
                begun = _now()
                work = self._rollout.perform(step, deadline.at)
                if self._job.reports_deployment and self._job.origin == LOCAL:
                    await alongside(work, self._progress.tell(lambda: self._rollout.progress(step)))
                else:
                    await work
                if step.phase is Phase.STOP_OLD and self._job.phase is OperationPhase.COMMITTED:
                    # An old replica may take all of its grace, however long; removing it is still to come.
                    deadline.at += _now() - begun

    async def _hold(self, step: Hold, deadline: Deadline) -> None:
        job = self._job
        assert job.deployment is not None, "cannot happen because only deployments are held"
        begun = _now()
        job.is_holding = True
        try:
            # A hold ends by itself; the deadline is for an engine that hangs.
            async with job.interruptible(begun + step.secs + HOLD_SLACK_SECS):
                await self._holds.hold(step, self._rollout.resolve(step.replicas), job.deployment)
        finally:
            job.is_holding = False
            # A hold does not count against the command's timeout, even when the engine went away during it.
            deadline.at += _now() - begun
        if not job.promoted.is_set():
            await self._journal.canary.passed(job.command.request_id, step.number)
            job.stage = max(job.stage, step.number)

    async def _commit(self) -> None:
        job = self._job
        if job.phase is OperationPhase.ROLLING_BACK:
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
        job.mark_committed()
        self._changes.announce()

    def _allowed_secs(self) -> float:
        if self._job.phase is OperationPhase.COMMITTED:
            return CLEANUP_SECS
        command = self._job.command
        deployment = self._job.deployment
        allowed = deployment.timeout_secs if deployment else CLEANUP_SECS
        if isinstance(command, Stop | Restart):
            grace = command.grace_secs
            if grace is None:
                grace = (deployment.spec.options.stop_grace_secs if deployment else None) or DEFAULT_STOP_GRACE_SECS
            allowed = max(grace * 2 + 60.0, allowed)
        spent = max(0.0, time.time() - (self._job.begun_at or time.time()))
        if self._job.is_canary:
            # Holds do not count, and an earlier run of the agent spent its time mostly on holds.
            spent = 0.0
        return max(allowed - spent, LEAST_SECS_AFTER_RESTART)

    async def _last_lines(self, failed: RuntimeFailure) -> list[LogLine]:
        if not isinstance(failed, StepFailed) or failed.container_id is None:
            return []
        try:
            return await self._runtime.tail(failed.container_id, REPORTED_LINES)
        except AgentError as lost:
            log.debug("no last lines", extra={"reason": str(lost)})
            return []


def _now() -> float:
    return asyncio.get_running_loop().time()
