"""Holds a canary at its share of the requests, and judges it meanwhile.

What fails it: one of its replicas turns unhealthy, ends or restarts; or, when the deployment sets a limit, too many of
its answers are 5xx by the proxy's own count. A canary that cannot be judged as was asked for is no canary that passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from syntra.agent.operations.job import Job
from syntra.model.errors import RequestError
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import Canary, Deployment, ServiceSpec, Strategy
from syntra.model.status import ContainerState, Health, Replica
from syntra.networking.canary_requests import KEY, Answers
from syntra.runtime import plan
from syntra.runtime.adapter import Adapter
from syntra.runtime.errors import StepFailed
from syntra.runtime.steps import Hold
from syntra.utils.errors import AgentError

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


class Judge(Protocol):
    """Who keeps asking replicas how they are."""

    def readiness(self, replica: Replica, spec: ServiceSpec) -> Health:
        """What is known of the replica now."""


class RequestCounter(Protocol):
    """Who counts the answers of a service's canary."""

    async def answers(self, service_id: ServiceId) -> Answers:
        """Since the proxy began to count. Raises AgentError when they cannot be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryTools:
    """What canaries are judged by. Without `counter` no limit of errors can be asked for."""

    judge: Judge | None = None
    counter: RequestCounter | None = None


async def check_canary(deployment: Deployment, adapter: Adapter, counter: RequestCounter | None) -> None:
    """Raise RequestError when the deployment is a canary that cannot run beside what is up, or not be judged."""
    if deployment.strategy is not Strategy.CANARY:
        return
    if deployment.canary.max_error_percent is not None:
        field = "canary.max_error_percent"
        if counter is None:
            raise RequestError(
                "INVALID_PAYLOAD", f"{field}: the agent does not know the proxy's metrics; set {KEY} or leave it out"
            )
        try:
            await counter.answers(deployment.spec.service_id)
        except AgentError as unread:
            raise RequestError("METRICS_UNAVAILABLE", f"{field}: {unread}") from unread
    check_beside(deployment, await adapter.observe(deployment.spec.service_id))


def check_beside(deployment: Deployment, observed: Sequence[Replica]) -> None:
    """Raise RequestError when the deployment is a canary that cannot run beside what is up."""
    if deployment.strategy is not Strategy.CANARY:
        return
    obstacle = plan.canary_obstacle(deployment, observed)
    if obstacle is not None:
        raise RequestError("INVALID_PAYLOAD", f"strategy: a canary is impossible here: {obstacle}; use rolling")


class CanaryHolds:
    """The holds of one job. `tell` sends a sentence of progress, `remark` keeps one for the report."""

    def __init__(
        self,
        job: Job,
        adapter: Adapter,
        tools: CanaryTools,
        *,
        tell: Callable[[str], Awaitable[None]],
        remark: Callable[[str], None],
    ) -> None:
        self._job = job
        self._adapter = adapter
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
                await self._tell(f"{step.percent} % of the requests, held {left:.0f} s more")
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
                f"{errors.canary.min_requests}: its errors were not judged"
            )

    async def _look(self, container_id: ContainerId, spec: ServiceSpec, percent: int) -> None:
        replica = await self._adapter.inspect(container_id)
        if replica is None:
            raise StepFailed("CONTAINER_NOT_FOUND", f"container {container_id[:12]} was removed by another hand")
        known = self._known.setdefault(container_id, (replica.restart_count, replica.started_ns))
        reason = ""
        code = "CONTAINER_CRASHED"
        if replica.state is not ContainerState.RUNNING:
            out_of_memory = ", out of memory" if replica.oom_killed else ""
            exit_code = "" if replica.exit_code is None else f" with exit code {replica.exit_code}"
            reason = f"it ended{exit_code}{out_of_memory} (now {replica.state.value})"
        elif (replica.restart_count, replica.started_ns) != known:
            reason = "it restarted"
        elif self._tools.judge is not None and self._tools.judge.readiness(replica, spec) is Health.UNHEALTHY:
            code, reason = "HEALTH_CHECK_FAILED", "it turned unhealthy"
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
