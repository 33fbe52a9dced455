"""Deciding from observations whether a container works. Pure: time comes in with each observation.

The startup gate, per observation:

    ended (exited, dead, could not start)  -> FAILED, with exit code, OOM or the engine's error
    second restart since the first sight   -> FAILED, a crash loop
    first restart                          -> all timers begin anew
    not up (created, restarting, paused)   -> PENDING, what was held is lost
    up, no check                           -> HEALTHY after min_healthy_secs without a restart
    up, check passes                       -> HEALTHY after passing for min_healthy_secs without a restart
    up, check fails                        -> PENDING; FAILED after `retries` consecutive failures that count

In a crash loop the engine keeps State.Running true while Status alternates between running and restarting, so being up
proves nothing by itself; RestartCount and StartedAt, held over a time, do.

A failure counts once the start period and one interval have passed since the start, and one interval has passed since
the last that counted: early probes come much faster than the interval, to see a fast service fast, and must not use up
the retries of a slow one. Failing takes as long as it does under the engine's own health check.
"""

from __future__ import annotations

from enum import Enum

from syntra.health.checks import CheckTiming
from syntra.health.result import ProbeResult, bounded
from syntra.model.status import Health
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

FIRST_DELAY_SECS = 0.025
# A failing check is asked again after a quarter of the time that the start has taken so far: a service is found ready
# at most that much late, and a slow one is not asked much more often than a fast one.
_LATENESS = 0.25
_LEAST_DELAY_SECS = 0.01
_LOOK_SECS = 1.0  # without a check: the longest time between two looks
_ENDED = frozenset({"exited", "dead", "removing", "removed"})
_NOT_YET = frozenset({"created", "configured", "initialized", "restarting", "paused"})
_MAX_RESTARTS = 2
# Times are sums of floats; a probe that is due at 10.0 may come at 9.999999999.
_TOLERANCE = 1e-6


class VerdictState(Enum):
    """What is known so far."""

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
    """One look at a container, with the result of a probe when one was made.

    Look after probing, not before: a crash that the probe missed is then seen before the probe is believed.
    """

    at: float
    """Seconds on any clock that does not go back."""
    running: bool
    restart_count: int
    started_at_ns: int | None
    exit_code: int | None
    oom_killed: bool
    status: str
    """The engine's word: created, running, paused, restarting, removing, exited or dead; `removed` when it is gone."""
    error: str = ""
    """The engine's own error, such as a port that is taken."""
    probe: ProbeResult | None = None

    @property
    def up(self) -> bool:
        """Whether its process runs, and not just between two crashes."""
        return self.running and self.status == "running"


class StartupGate:
    """Decides whether a container that was just started may have traffic. The overall deadline is the caller's.

    FAILED is final. HEALTHY is not: a later observation may take it back.
    """

    def __init__(self, timing: CheckTiming | None, min_healthy_secs: float) -> None:
        """`timing` is None for a service without a check, which must only stay up."""
        if not 0 <= min_healthy_secs < float("inf"):
            raise AgentError(f"cannot use min_healthy_secs {min_healthy_secs}: it must not be negative; correct it")
        self._timing = timing
        self._min_healthy = min_healthy_secs
        self._now: float | None = None
        self._restarts = _Restarts()
        self._failed: Verdict | None = None
        self._was_up = False
        self._idle_delay = FIRST_DELAY_SECS
        self._begun = 0.0  # of the current run of the process, as far as it was seen
        self._held_since: float | None = None
        self._failures = 0
        self._counted_at: float | None = None
        self._delay = FIRST_DELAY_SECS
        self._next = 0.0

    @property
    def in_crash_loop(self) -> bool:
        """Whether the process ended too often; between two ends the engine calls it running."""
        return self._restarts.count >= _MAX_RESTARTS

    def observe(self, observation: Observation) -> Verdict:
        """Take the next observation. An earlier `at` than before counts as the latest seen."""
        if self._failed is not None:
            return self._failed
        now = observation.at if self._now is None else max(self._now, observation.at)
        self._now = now
        restarted = self._restarts.see(observation)
        if observation.status in _ENDED or not (observation.running or observation.status in _NOT_YET):
            return self._fail(f"the container {_end_in_words(observation)}")
        if observation.status == "created" and (observation.error or observation.exit_code):
            return self._fail(f"the container did not start: {_end_in_words(observation)}")
        if self.in_crash_loop:
            return self._fail(f"crash loop: restarted {self._restarts.count} times{self._restarts.last_end}")
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
        """A new run of the process: everything is judged from here, and the first probe is due at once."""
        self._begun = now
        self._held_since = None
        self._failures = 0
        self._counted_at = None
        self._delay = FIRST_DELAY_SECS
        self._next = now

    def _advance(self, now: float) -> None:
        """Set the next look at what is well: 25 ms after the first, doubling up to the interval."""
        longest = _LOOK_SECS if self._timing is None else self._timing.interval_secs
        self._next = now + min(self._delay, longest)
        self._delay = min(self._delay * 2, longest)

    def _pending(self, reason: str) -> Verdict:
        return Verdict(state=VerdictState.PENDING, reason=bounded(reason), next_probe_at=self._next)

    def _fail(self, reason: str) -> Verdict:
        self._failed = Verdict(state=VerdictState.FAILED, reason=bounded(reason), next_probe_at=None)
        return self._failed


class _Restarts:
    """Counts restarts since the first sight, by RestartCount and by StartedAt: each may show a restart first.

    A restart by hand sets RestartCount back to 0, and one policy restart changes both, so the larger count holds.
    """

    def __init__(self) -> None:
        self.last_end = ""
        """How the process last ended, as the tail of a sentence."""
        self._by_count = 0
        self._by_start = 0
        self._last_count: int | None = None
        self._last_start: int | None = None

    @property
    def count(self) -> int:
        return max(self._by_count, self._by_start)

    def see(self, observation: Observation) -> bool:
        """Take an observation; True when either sign changed: the hold must be of the newest process."""
        before = (self._by_count, self._by_start)
        if self._last_count is not None and observation.restart_count > self._last_count:
            self._by_count += observation.restart_count - self._last_count
        self._last_count = observation.restart_count
        if observation.started_at_ns is not None:
            if self._last_start is not None and observation.started_at_ns != self._last_start:
                self._by_start += 1
            self._last_start = observation.started_at_ns
        # Between two runs the engine still shows how the last one ended; while running it shows zeros.
        if observation.status == "restarting" and (observation.oom_killed or observation.exit_code is not None):
            self.last_end = f", last time it {_end_in_words(observation)}"
        return (self._by_count, self._by_start) != before


def _end_in_words(observation: Observation) -> str:
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
    """The condition after one more result."""

    health: Health
    changed: bool
    reason: str
    """Of the last result."""


class SteadyVerdict:
    """Follows a service that has started: one result alone does not turn the condition, so that it does not flap.

    `retries` consecutive failures make it unhealthy, `recoveries` consecutive successes healthy again. The first
    success makes an unknown condition healthy at once.
    """

    def __init__(self, *, retries: int, recoveries: int = 1, health: Health = Health.UNKNOWN) -> None:
        """`health` is where to begin: HEALTHY for a service that has just passed its startup gate."""
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
        """The condition now."""
        return self._health

    def observe(self, result: ProbeResult) -> SteadyChange:
        """Take the next result."""
        if result.ok:
            self._successes += 1
            self._failures = 0
            enough = self._successes >= self._recoveries or self._health is Health.UNKNOWN
            return self._turn(Health.HEALTHY if enough else self._health, result.detail)
        self._failures += 1
        self._successes = 0
        return self._turn(Health.UNHEALTHY if self._failures >= self._retries else self._health, result.detail)

    def down(self, reason: str) -> SteadyChange:
        """The container does not run: unhealthy at once, no probe needed."""
        self._failures = self._retries
        self._successes = 0
        return self._turn(Health.UNHEALTHY, bounded(reason))

    def _turn(self, health: Health, reason: str) -> SteadyChange:
        changed = health is not self._health
        self._health = health
        return SteadyChange(health=health, changed=changed, reason=reason)
