"""Holds a canary at its share of the requests, and judges it meanwhile.

What fails it: one of its replicas turns unhealthy, ends or restarts; or, when the deployment sets a limit, too many of
its answers are 5xx by the proxy's own count. A canary that cannot be judged as was asked for is no canary that passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from syntra.agent.health.readiness import Readiness
from syntra.agent.journal.canary import Answered
from syntra.agent.journal.journal import Journal
from syntra.agent.messages import Reports, for_control_plane, success
from syntra.agent.operations.job import Interruption, Job, abort_reason
from syntra.model.command import CanaryCommand, Promote
from syntra.model.errors import RequestError
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import Canary, Deployment, ServiceSpec, Strategy
from syntra.model.status import Health
from syntra.networking.canary_requests import KEY, Answers
from syntra.runtime.errors import StepFailed
from syntra.runtime.runtime import Hold, Replicas
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

# How often replicas are looked at, and the proxy's count is read.
LOOK_SECS = 1.0
COUNT_SECS = 5.0
# A proxy that is away when the hold ends, as while it restarts, is waited for so long.
UNCOUNTED_SECS = 30.0
# A person wants to see that it goes on, and who follows a deploy takes long silence for an end; but a hold of hours
# must not fill the outbox for that.
REPORT_SECS = 5.0
LONGEST_SILENCE_SECS = 60.0
USUAL_REPORTS = 20


class RequestCounter(Protocol):
    """Who counts the answers of a service's canary."""

    async def answers(self, service_id: ServiceId) -> Answers:
        """Since the proxy began to count. Raises AgentError when they cannot be had."""


@frozen
class CanaryTools:
    """What canaries are judged by. Without `counter` no limit of errors can be asked for."""

    readiness: Readiness | None = None
    counter: RequestCounter | None = None


async def check_counter(deployment: Deployment, counter: RequestCounter | None) -> None:
    """Raise RequestError when the deployment is a canary with a limit of errors that cannot be counted."""
    if deployment.strategy is not Strategy.CANARY or deployment.canary.max_error_percent is None:
        return
    field = "canary.max_error_percent"
    if counter is None:
        raise RequestError(
            "INVALID_PAYLOAD", f"{field}: the agent does not know the proxy's metrics; set {KEY} or leave it out"
        )
    try:
        await counter.answers(deployment.spec.service_id)
    except AgentError as unread:
        raise RequestError("METRICS_UNAVAILABLE", f"{field}: {unread}") from unread


class CanaryHolds:
    """The holds of one job. `tell` sends a sentence of progress, `remark` keeps one for the report."""

    def __init__(
        self,
        job: Job,
        replicas: Replicas,
        tools: CanaryTools,
        *,
        tell: Callable[[str], Awaitable[None]],
        remark: Callable[[str], None],
    ) -> None:
        self._job = job
        self._replicas = replicas
        self._tools = tools
        self._tell = tell
        self._remark = remark
        # Restart count and start of each replica when it was first seen here.
        self._known: dict[ContainerId, tuple[int, int | None]] = {}

    def begin(self) -> None:
        """A new plan: the engine may have been away, and a restart of its own is not the canary's."""
        self._known.clear()

    async def hold(self, step: Hold, containers: Sequence[ContainerId], deployment: Deployment) -> None:
        """Return when the hold is over, or the canary is promoted; raises StepFailed when it fails. Safe to cancel."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        errors = self._errors(deployment, step.percent)
        count_at, report_at = begun, begun
        while True:
            for container_id in containers:
                await self._look(container_id, deployment.spec, step.percent)
            now = loop.time()
            left = begun + step.secs - now
            if errors is not None and (now >= count_at or left <= 0):
                count_at = now + COUNT_SECS
                await errors.count()
            if left <= 0 and (errors is None or errors.is_current or left <= -UNCOUNTED_SECS):
                break
            if now >= report_at and left > 0:
                report_at = now + min(max(REPORT_SECS, step.secs / USUAL_REPORTS), LONGEST_SILENCE_SECS)
                await self._tell(f"{step.percent} % of the requests, held for {left:.0f} s more")
            if await self._is_promoted(min(LOOK_SECS, left) if left > 0 else LOOK_SECS):
                return
        if errors is not None:
            self._remark_unjudged(errors, step.percent)

    async def _is_promoted(self, within_secs: float) -> bool:
        try:
            async with asyncio.timeout(within_secs):
                await self._job.promoted.wait()
        except TimeoutError:
            return False
        return True

    def _errors(self, deployment: Deployment, percent: int) -> _Errors | None:
        if deployment.canary.max_error_percent is None:
            return None
        if self._tools.counter is None:
            raise StepFailed("CANARY_FAILED", f"canary at {percent} %: its errors cannot be counted without {KEY}")
        return _Errors(self._tools.counter, deployment.spec.service_id, deployment.canary, percent)

    def _remark_unjudged(self, errors: _Errors, percent: int) -> None:
        if not errors.is_current:
            raise StepFailed("CANARY_FAILED", f"canary at {percent} %: its errors are not known: {errors.unread}")
        if errors.total < errors.canary.min_requests:
            self._remark(
                f"the canary at {percent} % answered {errors.total:.0f} requests, fewer than "
                f"{errors.canary.min_requests}: its error rate was not judged"
            )

    async def _look(self, container_id: ContainerId, spec: ServiceSpec, percent: int) -> None:
        replica = await self._replicas.inspect(container_id)
        if replica is None:
            raise StepFailed("CONTAINER_NOT_FOUND", f"container {container_id[:12]} was removed outside the agent")
        known = self._known.setdefault(container_id, (replica.restart_count, replica.started_ns))
        reason = ""
        code = "CONTAINER_CRASHED"
        if not replica.is_running:
            out_of_memory = ", out of memory" if replica.oom_killed else ""
            exit_code = "" if replica.exit_code is None else f" with exit code {replica.exit_code}"
            reason = f"it ended{exit_code}{out_of_memory} (now {replica.state_name})"
        elif (replica.restart_count, replica.started_ns) != known:
            reason = "it restarted"
        elif self._tools.readiness is not None and self._tools.readiness.readiness(replica, spec) is Health.UNHEALTHY:
            code, reason = "HEALTH_CHECK_FAILED", "it became unhealthy"
        if reason:
            raise StepFailed(code, f"canary at {percent} %: {replica.name}: {reason}", container_id=container_id)


class _Errors:
    """5xx answers among all since the first count. A count that went down begins anew: the proxy restarted."""

    def __init__(self, counter: RequestCounter, service_id: ServiceId, canary: Canary, percent: int) -> None:
        self._counter = counter
        self._service_id = service_id
        self.canary = canary
        self._percent = percent
        self._last: Answers | None = None
        self.total = self.failed = 0.0
        self.is_current = False
        self.unread = ""

    async def count(self) -> None:
        """Read the proxy's count; raises StepFailed when there are too many errors among enough requests."""
        try:
            answers = await self._counter.answers(self._service_id)
        except AgentError as unread:
            self.is_current, self.unread = False, str(unread)
            return
        self.is_current = True
        if self._last is not None:
            base = self._last if answers.total >= self._last.total else Answers()
            self.total += answers.total - base.total
            self.failed += max(0.0, answers.failed - base.failed)
        self._last = answers
        limit = self.canary.max_error_percent
        assert limit is not None, "cannot happen because only a limit makes errors count"
        if self.total >= self.canary.min_requests and 100 * self.failed > limit * self.total:
            share = f"{100 * self.failed / self.total:.1f} % of {self.total:.0f} answers"
            raise StepFailed("CANARY_FAILED", f"canary at {self._percent} %: {share} were 5xx, more than {limit:g} %")


async def decide_canary(
    command: CanaryCommand, kind: str, origin: str, *, job: Job | None, journal: Journal, reports: Reports
) -> None:
    """Promote or abort the canary that `job` is; raises RequestError (NO_CANARY) when it is none, or no more.

    The answer is told and sent by the time this returns. Cancelled before that, the journal has the decision or not;
    the next start of the agent goes by what it has.
    """
    if job is None or job.deployment is None or not job.can_be_decided:
        raise _no_canary(command, kind)
    response = success(
        command.request_id,
        {"accepted": True, "service_id": job.service_id, "deployment_id": job.deployment_id},
    )
    answered = Answered(
        request_id=command.request_id,
        kind=kind,
        service_id=command.service_id,
        origin=origin,
        response=response,
        messages=for_control_plane(origin, "command_response", response),
    )
    operation, stage = job.command.request_id, len(job.deployment.canary.steps)
    if isinstance(command, Promote):
        if not await journal.canary.promote(operation, stage, answered):
            raise _no_canary(command, kind)
        job.promote(stage)
    else:
        failure = abort_reason(job)
        reason = {"code": failure.code, "message": failure.message}
        if not await journal.canary.abort(operation, reason, answered):
            raise _no_canary(command, kind)
        job.interrupt(Interruption.ABORTED)
    reports.tell(command.request_id, "command_response", response)


def _no_canary(command: CanaryCommand, kind: str) -> RequestError:
    return RequestError(
        "NO_CANARY",
        f"cannot {kind} {command.service_id}: no canary of it is under way; deploy one with strategy canary",
    )
