"""Decides from observations whether a container is healthy. Pure: every observation carries its time.

The startup gate, per observation:

    ended (exited, dead, could not start)  -> FAILED, with exit code, OOM or the engine's error
    second restart since the first look    -> FAILED, a crash loop
    first restart                          -> all timers start over
    not up (created, restarting, paused)   -> PENDING; the time held so far is lost
    up, no check                           -> HEALTHY after min_healthy_secs without a restart
    up, check passes                       -> HEALTHY after passing for min_healthy_secs without a restart
    up, check fails                        -> PENDING; FAILED after `retries` consecutive failures that count

In a crash loop the engine keeps State.Running true while Status alternates between running and restarting. So being up
is not enough: RestartCount and StartedAt must stay the same for a time.

A failure counts if the start period and one interval have passed since the start, and one interval since the last
failure that counted. Early probes run much more often than the interval, to find a fast service early; they must not
use up the retries of a slow one. Failing takes as long as with the engine's own health check.
"""

from __future__ import annotations

from enum import Enum

from syntra.health.checks import CheckTiming
from syntra.health.result import ProbeResult, bounded
from syntra.model.status import Health
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

FIRST_DELAY_SECS = 0.025
# A failing check is repeated after a quarter of the time since the start. So a service is found ready at most that much
# late, and a slow service is not probed much more often than a fast one.
_LATENESS = 0.25
_LEAST_DELAY_SECS = 0.01
_LOOK_SECS = 1.0  # without a check: the longest time between two observations
_ENDED = frozenset({"exited", "dead", "removing", "removed"})
_NOT_YET = frozenset({"created", "configured", "initialized", "restarting", "paused"})
_MAX_RESTARTS = 2
# Times are sums of floats: a probe that is due at 10.0 may arrive at 9.999999999.
_TOLERANCE = 1e-6


class VerdictState(Enum):
    """The decision so far."""

    PENDING = "pending"
    HEALTHY = "healthy"
    FAILED = "failed"


@frozen
class Verdict:
    """A decision and its reason."""

    state: VerdictState
    reason: str
    """A sentence, at most 512 bytes."""
    next_probe_at: float | None
    """When to observe again at the latest, on the clock of `Observation.at`; None after a failure."""


@frozen
class Observation:
    """The state of a container, with the result of a probe if there was one.

    Inspect after probing, not before: then a crash during the probe is seen before its result counts.
    """

    at: float
    """Seconds on a monotonic clock."""
    running: bool
    restart_count: int
    started_at_ns: int | None
    exit_code: int | None
    oom_killed: bool
    status: str
    """The engine's status: created, running, paused, restarting, removing, exited or dead; or `removed`."""
    error: str = ""
    """The engine's own error, such as a port that is already in use."""
    probe: ProbeResult | None = None

    @property
    def up(self) -> bool:
        """Whether the process runs, and not only between two crashes."""
        return self.running and self.status == "running"


class StartupGate:
    """Decides whether a container that was just started may receive traffic. The caller has the overall deadline.

    FAILED is final. HEALTHY is not: a later observation may revoke it.
    """

    def __init__(self, timing: CheckTiming | None, min_healthy_secs: float) -> None:
        """`timing` is None for a service without a check, which only has to stay up."""
        if not 0 <= min_healthy_secs < float("inf"):
            raise AgentError(f"cannot use min_healthy_secs {min_healthy_secs}: it must not be negative; correct it")
        self._timing = timing
        self._min_healthy = min_healthy_secs
        self._now: float | None = None
        self._restarts = _Restarts()
        self._failed: Verdict | None = None
        self._was_up = False
        self._idle_delay = FIRST_DELAY_SECS
        self._begun = 0.0  # when the current run of the process was first seen
        self._held_since: float | None = None
        self._failures = 0
        self._counted_at: float | None = None
        self._delay = FIRST_DELAY_SECS
        self._next = 0.0

    @property
    def in_crash_loop(self) -> bool:
        """Whether the process exited too often; between two exits the engine calls it running."""
        return self._restarts.count >= _MAX_RESTARTS

    def observe(self, observation: Observation) -> Verdict:
        """Process the next observation. If `at` is earlier than before, the latest time counts."""
        if self._failed is not None:
            return self._failed
        now = observation.at if self._now is None else max(self._now, observation.at)
        self._now = now
        restarted = self._restarts.update(observation)
        if observation.status in _ENDED or not (observation.running or observation.status in _NOT_YET):
            return self._fail(f"the container {_describe_exit(observation)}")
        if observation.status == "created" and (observation.error or observation.exit_code):
            return self._fail(f"the container did not start: {_describe_exit(observation)}")
        if self.in_crash_loop:
            return self._fail(f"crash loop: restarted {self._restarts.count} times{self._restarts.last_exit}")
        if restarted:
            self._begin(now)
        if not observation.up:
            self._begin(now)
            self._was_up = False
            self._next = now + self._idle_delay
            self._idle_delay = min(self._idle_delay * 2, _LOOK_SECS)
            return self._pending(f"waiting: the container is {observation.status or 'not running'}")
        if not self._was_up:
            self._begin(now)
            self._was_up = True
            self._idle_delay = FIRST_DELAY_SECS
        return self._judge_up(now, observation.probe)

    def _judge_up(self, now: float, probe: ProbeResult | None) -> Verdict:
        if self._timing is None:
            if self._held_since is None:
                self._held_since = now
            self._advance(now)
            return self._judge_held(now, self._held_since, "up without a restart")
        if probe is None:
            return self._pending("waiting: not probed yet" if self._held_since is None else "waiting: passed, in trial")
        if probe.ok:
            self._advance(now)
            self._failures = 0
            self._counted_at = None
            if self._held_since is None:
                self._held_since = now
            return self._judge_held(now, self._held_since, "passing its check")
        self._held_since = None
        self._delay = FIRST_DELAY_SECS
        return self._judge_failure(now, self._timing, probe)

    def _judge_held(self, now: float, since: float, what: str) -> Verdict:
        held = now - since
        if held + _TOLERANCE >= self._min_healthy:
            return Verdict(state=VerdictState.HEALTHY, reason=f"{what} for {held:.1f} s", next_probe_at=self._next)
        self._next = min(self._next, since + self._min_healthy)
        return self._pending(f"waiting: {what} for {held:.1f} of {self._min_healthy:g} s")

    def _judge_failure(self, now: float, timing: CheckTiming, probe: ProbeResult) -> Verdict:
        if self._counted_at is None:
            counts_from = self._begun + max(timing.start_period_secs, timing.interval_secs)
        else:
            counts_from = self._counted_at + timing.interval_secs
        if now + _TOLERANCE >= counts_from:
            self._counted_at = now
            self._failures += 1
            counts_from = now + timing.interval_secs
        delay = max((now - self._begun) * _LATENESS, _LEAST_DELAY_SECS)
        self._next = min(now + delay, now + timing.interval_secs, counts_from)
        if self._failures >= timing.retries:
            times = "once" if self._failures == 1 else f"{self._failures} times in a row"
            return self._fail(f"the health check failed {times}: {probe.detail}")
        return self._pending(f"waiting: failure {self._failures} of {timing.retries}: {probe.detail}")

    def _begin(self, now: float) -> None:
        """A new run of the process: all timers start here, and the first probe is due at once."""
        self._begun = now
        self._held_since = None
        self._failures = 0
        self._counted_at = None
        self._delay = FIRST_DELAY_SECS
        self._next = now

    def _advance(self, now: float) -> None:
        """Schedule the next observation of a passing container: 25 ms after the first, doubling up to the interval."""
        longest = _LOOK_SECS if self._timing is None else self._timing.interval_secs
        self._next = now + min(self._delay, longest)
        self._delay = min(self._delay * 2, longest)

    def _pending(self, reason: str) -> Verdict:
        return Verdict(state=VerdictState.PENDING, reason=bounded(reason), next_probe_at=self._next)

    def _fail(self, reason: str) -> Verdict:
        self._failed = Verdict(state=VerdictState.FAILED, reason=bounded(reason), next_probe_at=None)
        return self._failed


class _Restarts:
    """Counts restarts since the first observation, by RestartCount and by StartedAt: either may change first.

    A manual restart resets RestartCount to 0, and one restart by the policy changes both, so the larger count is used.
    """

    def __init__(self) -> None:
        self.last_exit = ""
        """How the process last exited, as the end of a sentence."""
        self._by_count = 0
        self._by_start = 0
        self._last_count: int | None = None
        self._last_start: int | None = None

    @property
    def count(self) -> int:
        return max(self._by_count, self._by_start)

    def update(self, observation: Observation) -> bool:
        """Process an observation; True when either value changed: the timers then belong to the new process."""
        before = (self._by_count, self._by_start)
        if self._last_count is not None and observation.restart_count > self._last_count:
            self._by_count += observation.restart_count - self._last_count
        self._last_count = observation.restart_count
        if observation.started_at_ns is not None:
            if self._last_start is not None and observation.started_at_ns != self._last_start:
                self._by_start += 1
            self._last_start = observation.started_at_ns
        # Between two runs the engine still shows how the last one exited; while running it shows zeros.
        if observation.status == "restarting" and (observation.oom_killed or observation.exit_code is not None):
            self.last_exit = f", last time it {_describe_exit(observation)}"
        return (self._by_count, self._by_start) != before


def _describe_exit(observation: Observation) -> str:
    words = []
    if observation.oom_killed:
        words.append("ran out of memory and was killed")
    if observation.status == "removed":
        words.append("was removed")
    elif observation.exit_code is not None and (observation.exit_code != 0 or not observation.error):
        words.append(f"exited with code {observation.exit_code}")
    if not words:
        words.append(f"is {observation.status}" if observation.status else "is not running")
    sentence = ", ".join(words)
    return f"{sentence}: {observation.error}" if observation.error else sentence


@frozen
class SteadyChange:
    """The health after one more result."""

    health: Health
    changed: bool
    reason: str
    """The reason of the last result."""


class SteadyVerdict:
    """Follows a service that has started. One result alone does not change its health, so that it does not flap.

    `retries` consecutive failures make it unhealthy, `recoveries` consecutive successes healthy again. The first
    success makes an unknown service healthy at once.
    """

    def __init__(self, *, retries: int, recoveries: int = 1, health: Health = Health.UNKNOWN) -> None:
        """`health` is the initial health: HEALTHY for a service that has just passed its startup gate."""
        if retries < 1 or recoveries < 1:
            raise AgentError(
                f"cannot use retries {retries} and recoveries {recoveries}: both must be 1 or more; correct the setting"
            )
        self._retries = retries
        self._recoveries = recoveries
        self._health = health
        self._failures = 0
        self._successes = 0

    @property
    def health(self) -> Health:
        """The current health."""
        return self._health

    def observe(self, result: ProbeResult) -> SteadyChange:
        """Process the next result."""
        if result.ok:
            self._successes += 1
            self._failures = 0
            enough = self._successes >= self._recoveries or self._health is Health.UNKNOWN
            return self._change(Health.HEALTHY if enough else self._health, result.detail)
        self._failures += 1
        self._successes = 0
        return self._change(Health.UNHEALTHY if self._failures >= self._retries else self._health, result.detail)

    def down(self, reason: str) -> SteadyChange:
        """The container does not run: unhealthy at once, without a probe."""
        self._failures = self._retries
        self._successes = 0
        return self._change(Health.UNHEALTHY, bounded(reason))

    def _change(self, health: Health, reason: str) -> SteadyChange:
        changed = health is not self._health
        self._health = health
        return SteadyChange(health=health, changed=changed, reason=reason)
