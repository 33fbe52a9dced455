"""Asks every target for as long as it is there, each in its own rhythm.

One heap holds the times at which targets are due; a target that is due is probed by a task of the scheduler's group.

- No drift: due times are multiples of the interval from a fixed point, whatever a probe took. A time that has passed
  while the target was still being asked, or waited for a slot, is left out and counted, never made up for.
- Probes may begin early by a twentieth of the interval, half a second at most, so that those that are due close to
  each other begin together: waking up is most of what a fast probe costs.
- After a target is put, it is asked within the shorter of a second and its interval, and again after half an interval
  to one interval; chance decides, so that targets put at one moment are spread over the time.
- At most `at_once` probes run. A quarter of these slots is closed to targets that were slow the last time, so however
  many hang, those that answer are asked on time. Only the first probe that hangs finds the target unknown.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import field
from typing import Protocol

from syntra.health.checks import Check, CheckTiming
from syntra.health.probes import ExecCapability, Prober, probe
from syntra.health.result import ProbeResult
from syntra.health.verdict import SteadyVerdict
from syntra.model.status import Health
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

log = logging.getLogger(__name__)

AT_ONCE = 20
RECOVERIES = 2
FIRST_WITHIN_SECS = 1.0
SLOW_SECS = 0.25
"""A target whose last probe took longer shares the slots for slow ones."""
_SLACK = 0.05  # of an interval
_MOST_SLACK_SECS = 0.5
_SPARE_HEAP = 64


@frozen
class Target:
    """What is asked. `health` and `executor` are no part of what makes two targets equal."""

    key: Hashable
    address: str
    check: Check
    timing: CheckTiming
    process: Hashable = None
    """Which run of the service this is, such as its start time: another value, or another address, is judged anew."""
    health: Health = field(default=Health.UNKNOWN, compare=False)
    """Where judging begins: HEALTHY for a replica that has just passed its startup gate."""
    executor: ExecCapability | None = field(default=None, compare=False, repr=False)


@frozen
class Transition:
    """The condition of a target turned."""

    before: Health
    after: Health
    reason: str
    """Of the result that turned it, at most 512 bytes."""


class UnitRandom(Protocol):
    """Where chance comes from; `random.Random` fits."""

    def random(self) -> float:
        """A float in [0, 1)."""


OnResult = Callable[[Hashable, ProbeResult, Transition | None], None]


def slack_secs(interval_secs: float) -> float:
    """How much earlier than due a probe may begin."""
    return min(interval_secs * _SLACK, _MOST_SLACK_SECS)


class HealthScheduler:
    """Probes targets that come, change and go while it runs.

    `on_result` is called from a probe's task, once per probe, in the order in which probes end; never for a target
    that has been removed or changed since. It may put and remove targets. What it raises ends `run`.
    `clock` is the event loop's. All methods belong to the event loop's thread.
    """

    def __init__(
        self,
        on_result: OnResult,
        clock: Callable[[], float],
        rng: UnitRandom,
        at_once: int = AT_ONCE,
        *,
        recoveries: int = RECOVERIES,
        prober: Prober = probe,
    ) -> None:
        """`recoveries` successes in a row make an unhealthy target healthy. `prober` asks an address."""
        if at_once < 1 or recoveries < 1:
            raise AgentError(
                f"cannot schedule health checks: at_once {at_once} and recoveries {recoveries} must be 1 or more;"
                " correct the setting"
            )
        self._on_result = on_result
        self._prober = prober
        self._clock = clock
        self._rng = rng
        self._at_once = at_once
        self._slow_at_once = max(1, at_once - max(1, at_once // 4))
        self._recoveries = recoveries
        self._entries: dict[Hashable, _Entry] = {}
        self._heap: list[tuple[float, int, _Entry]] = []
        self._tickets = itertools.count()
        # Both are bounded by the number of targets: a target is in the heap, waiting for a slot, or being asked.
        self._fast: deque[_Entry] = deque()
        self._slow: deque[_Entry] = deque()
        self._running = 0
        self._slow_running = 0
        self._missed = 0
        self._wake = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None

    @property
    def missed(self) -> int:
        """How often a target was not asked when due, because it was still being asked or there was no slot."""
        return self._missed

    def state(self, key: Hashable) -> Health:
        """The condition of a target; UNKNOWN without a result that decides it, and for a key that is not there."""
        entry = self._entries.get(key)
        return Health.UNKNOWN if entry is None else entry.verdict.health

    def set_targets(self, targets: Mapping[Hashable, Target]) -> None:
        """Make these, under their own keys, all targets there are. Those that stay the same keep their rhythm."""
        for key in [key for key in self._entries if key not in targets]:
            self.remove(key)
        for key, target in targets.items():
            if key != target.key:
                raise AgentError(f"cannot watch {target.key!r} as {key!r}: the keys differ; use the target's own")
            self.put(target)

    def put(self, target: Target) -> None:
        """Add a target or change it. The same once more changes nothing but who executes its commands.

        Another check or timing keeps the condition until the new one has decided. Another process or address begins
        from `target.health`, with a start period in which failures do not count.
        """
        old = self._entries.get(target.key)
        if old is not None and old.target == target:
            old.target = target
            return
        same = old is not None and (old.target.address, old.target.process) == (target.address, target.process)
        entry = _Entry(target, self._verdict(target, old.verdict.health if old and same else target.health))
        if old is not None:
            self._discard(old)
        if old is not None and same:
            entry.counts_from, entry.slow = old.counts_from, old.slow
        elif target.health is Health.UNKNOWN:
            # As at the start of a deployment: never sooner than an engine's own health check would count one.
            timing = target.timing
            entry.counts_from = self._clock() + max(timing.start_period_secs, timing.interval_secs)
        self._entries[target.key] = entry
        self._push_first(entry)

    def remove(self, key: Hashable) -> None:
        """Forget a target and stop asking it; nothing is reported of it any more. Unknown keys are no error."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._discard(entry)

    async def run(self) -> None:
        """Ask until cancelled; every probe has ended then. Can be run again, conditions are kept."""
        if self._group is not None:
            raise AgentError("cannot run the health checks: they run already; start them once")
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                self._heap.clear()
                self._fast.clear()
                self._slow.clear()
                for entry in self._entries.values():
                    entry.line = None
                    self._push_first(entry)
                while True:
                    self._collect(self._clock())
                    self._fill()
                    await self._until_due()
            finally:
                self._group = None

    async def _until_due(self) -> None:
        self._wake.clear()
        delay = max(0.0, self._heap[0][0] - self._clock()) if self._heap else None
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _collect(self, now: float) -> None:
        """Move what may begin from the heap to those that wait for a slot."""
        while self._heap:
            due, ticket, entry = self._heap[0]
            if ticket == entry.ticket:
                if due - slack_secs(entry.target.timing.interval_secs) > now:
                    return
                entry.line = self._slow if entry.slow else self._fast
                entry.line.append(entry)
            heapq.heappop(self._heap)

    def _fill(self) -> None:
        """Begin probes while there are slots, the longest due first."""
        while self._group is not None and self._running < self._at_once:
            line = self._next_line()
            if line is None:
                return
            entry = line.popleft()
            entry.line = None
            self._begin(self._group, entry)

    def _next_line(self) -> deque[_Entry] | None:
        slow = self._slow if self._slow and self._slow_running < self._slow_at_once else None
        if self._fast and (slow is None or self._fast[0].due <= slow[0].due):
            return self._fast
        return slow

    def _begin(self, group: asyncio.TaskGroup, entry: _Entry) -> None:
        slow = entry.slow
        self._running += 1
        self._slow_running += slow

        def ended(task: asyncio.Task[None]) -> None:
            # A callback and not the task's own end: a task cancelled before its first step has none.
            self._running -= 1
            self._slow_running -= slow
            entry.task = None
            if not task.cancelled() and task.exception() is not None:
                self._group = None  # the group is ending and takes no more tasks
            if self._is_current(entry):
                self._push_next(entry)
            if self._fast or self._slow:
                self._fill()

        entry.task = group.create_task(self._ask(entry), name=f"probe of {entry.target.key}")
        entry.task.add_done_callback(ended)

    async def _ask(self, entry: _Entry) -> None:
        target = entry.target
        began = self._clock()
        try:
            result = await self._prober(target.address, target.check, target.timing.timeout_secs, target.executor)
        except Exception as exc:  # one target's executor may raise anything; the others are asked all the same
            log.exception("health probe broke", extra={"target": str(target.key)})
            detail = f"the probe itself broke: {type(exc).__name__}"
            result = ProbeResult(ok=False, detail=detail, duration_secs=self._clock() - began)
        now = self._clock()
        entry.slow = now - began > SLOW_SECS
        if not self._is_current(entry):
            return
        before = entry.verdict.health
        if result.ok:
            entry.counts_from = now  # it has started: what fails from here on has broken
        if now >= entry.counts_from:
            entry.verdict.observe(result)
        after = entry.verdict.health
        turned = None if after is before else Transition(before=before, after=after, reason=result.detail)
        self._on_result(target.key, result, turned)

    def _push_first(self, entry: _Entry) -> None:
        interval = entry.target.timing.interval_secs
        self._push(entry, self._clock() + self._rng.random() * min(interval, FIRST_WITHIN_SECS))
        entry.fixed = entry.due + interval * (1 + self._rng.random()) / 2
        entry.turns = -1

    def _push_next(self, entry: _Entry) -> None:
        interval = entry.target.timing.interval_secs
        now = self._clock()
        turns = entry.turns + 1
        if entry.fixed + turns * interval <= now:
            passed = math.floor((now - entry.fixed) / interval) + 1
            self._missed += passed - turns
            turns = passed
        entry.turns = turns
        self._push(entry, entry.fixed + turns * interval)

    def _push(self, entry: _Entry, due: float) -> None:
        entry.due = due
        entry.ticket = next(self._tickets)
        heapq.heappush(self._heap, (due, entry.ticket, entry))
        if self._heap[0][2] is entry:
            self._wake.set()

    def _discard(self, entry: _Entry) -> None:
        entry.ticket = -1
        if entry.task is not None:
            entry.task.cancel()
        if entry.line is not None:
            entry.line.remove(entry)
        # What was removed stays in the heap until it is due; with long intervals that could be many.
        if len(self._heap) > 2 * len(self._entries) + _SPARE_HEAP:
            self._heap = [item for item in self._heap if item[1] == item[2].ticket]
            heapq.heapify(self._heap)

    def _is_current(self, entry: _Entry) -> bool:
        return self._entries.get(entry.target.key) is entry

    def _verdict(self, target: Target, health: Health) -> SteadyVerdict:
        return SteadyVerdict(retries=target.timing.retries, recoveries=self._recoveries, health=health)


class _Entry:
    """A target's place in the schedule."""

    __slots__ = ("counts_from", "due", "fixed", "line", "slow", "target", "task", "ticket", "turns", "verdict")

    def __init__(self, target: Target, verdict: SteadyVerdict) -> None:
        self.target = target
        self.verdict = verdict
        self.counts_from = -math.inf  # failures before this time do not count
        self.due = 0.0
        self.fixed = 0.0  # the time of the second probe; all later ones are whole intervals from it
        self.turns = -1
        self.ticket = -1  # of its one valid item in the heap
        self.slow = False
        self.line: deque[_Entry] | None = None  # where it waits for a slot
        self.task: asyncio.Task[None] | None = None
