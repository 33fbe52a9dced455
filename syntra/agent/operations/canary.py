"""Holds a canary at its share of the requests, and judges it meanwhile.

A canary fails when one of its replicas becomes unhealthy, exits or restarts. With an error limit, it also fails when
the proxy counts too many 5xx responses, or when they cannot be counted.
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

# How often replicas are inspected, and the proxy's count is read.
CHECK_SECS = 1.0
COUNT_SECS = 5.0
# How long to wait at the end of a hold for a proxy that is unreachable, such as during its restart.
UNCOUNTED_SECS = 30.0
# How often to report a hold. A client that follows a deploy takes a long silence for the end, but a hold of hours must
# not fill the outbox.
REPORT_SECS = 5.0
LONGEST_SILENCE_SECS = 60.0
USUAL_REPORTS = 20


class RequestCounter(Protocol):
    """Counts the responses of a service's canary."""

    async def answers(self, service_id: ServiceId) -> Answers:
        """The counts since the proxy started. Raises AgentError when they cannot be read."""


@frozen
class CanaryTools:
    """The sources that canaries are judged by. Without `counter`, no deployment may set an error limit."""

    readiness: Readiness | None = None
    counter: RequestCounter | None = None


async def check_counter(deployment: Deployment, counter: RequestCounter | None) -> None:
    """Raise RequestError for a canary with an error limit when errors cannot be counted."""
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
    """The holds of one job. `tell` sends a progress sentence, `remark` adds a sentence to the report."""

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
        # Restart count and start time of each replica at its first inspection.
        self._known: dict[ContainerId, tuple[int, int | None]] = {}

    def begin(self) -> None:
        """Begin a new plan. Forget earlier restart counts: an engine restart is not the canary's fault."""
        self._known.clear()

    async def hold(self, step: Hold, containers: Sequence[ContainerId], deployment: Deployment) -> None:
        """Return when the hold is over or the canary is promoted. Raises StepFailed when it fails. Safe to cancel."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        errors = self._errors(deployment, step.percent)
        count_at, report_at = begun, begun
        while True:
            for container_id in containers:
                await self._check_replica(container_id, deployment.spec, step.percent)
            now = loop.time()
            remaining = begun + step.secs - now
            if errors is not None and (now >= count_at or remaining <= 0):
                count_at = now + COUNT_SECS
                await errors.count()
            if remaining <= 0 and (errors is None or errors.is_current or remaining <= -UNCOUNTED_SECS):
                break
            if now >= report_at and remaining > 0:
                report_at = now + min(max(REPORT_SECS, step.secs / USUAL_REPORTS), LONGEST_SILENCE_SECS)
                await self._tell(f"{step.percent} % of the requests, held for {remaining:.0f} s more")
            if await self._is_promoted(min(CHECK_SECS, remaining) if remaining > 0 else CHECK_SECS):
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

    async def _check_replica(self, container_id: ContainerId, spec: ServiceSpec, percent: int) -> None:
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
    """All responses and 5xx responses since the first count. A lower count means that the proxy restarted at zero."""

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
        """Read the proxy's count. Raises StepFailed for too many errors, once there are enough requests."""
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
    """Promote or abort the canary of `job`. Raises RequestError (NO_CANARY) when it is not a canary or has ended.

    Returns after the answer is stored and sent. When cancelled before, the journal may have the decision; the next
    start of the agent follows it.
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
    operation = job.command.request_id
    if isinstance(command, Promote):
        stage = _stage_of(command, job, job.deployment.canary)
        if not await journal.canary.promote(operation, stage, answered):
            raise _no_canary(command, kind)
        if stage > job.stage:
            job.promote(stage)
    else:
        failure = abort_reason(job)
        reason = {"code": failure.code, "message": failure.message}
        if not await journal.canary.abort(operation, reason, answered):
            raise _no_canary(command, kind)
        job.interrupt(Interruption.ABORTED)
    reports.notify(command.request_id, "command_response", response)


def _stage_of(command: Promote, job: Job, canary: Canary) -> int:
    """The number of complete steps at the wanted share. Raises RequestError when the canary cannot go there."""
    percents = [step.percent for step in canary.steps]
    if command.percent is None or command.percent == percents[-1]:
        return len(percents)
    if command.percent not in percents:
        known = ", ".join(str(percent) for percent in percents)
        raise RequestError("INVALID_PAYLOAD", f"percent: {command.percent} is not a step of the canary; use {known}")
    stage = percents.index(command.percent)
    if stage < job.stage:
        raise RequestError(
            "INVALID_PAYLOAD", f"percent: the canary is past {command.percent} % and cannot go back; abort it"
        )
    return stage


def _no_canary(command: CanaryCommand, kind: str) -> RequestError:
    return RequestError(
        "NO_CANARY",
        f"cannot {kind} {command.service_id}: no canary of it is under way; deploy one with strategy canary",
    )
