"""Probes every target while it exists, each at its own interval.

One heap holds the times when targets are due. A task of the scheduler's group probes each due target.

- No drift: due times are multiples of the interval from a fixed point, however long a probe takes. A due time that
  passes while the target is being probed, or waits for a slot, is skipped and counted, never made up for.
- Probes start together, because waking up is most of the cost of a fast probe: due times are on a grid of a quarter to
  an eighth of the interval, at most two seconds. Grids are powers of two, so those of different intervals meet. A probe
  may also start early by a twentieth of the interval, at most half a second.
- A new target is probed within its interval, at most one second, and again within an interval. Both delays are random,
  so that targets added at the same moment are spread over the grid.
- At most `at_once` probes run. A quarter of these slots is closed to targets whose last probe was slow, so hanging
  targets never delay the others. Only the first probe that hangs takes a normal slot.
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
"""A target whose last probe took longer uses the slots for slow targets."""
_SLACK = 0.05  # of an interval
_MOST_SLACK_SECS = 0.5
_MOST_GRID_SECS = 2.0
_SPARE_HEAP = 64


@frozen
class Target:
    """A target to probe. `health` and `executor` do not take part in comparison."""

    key: Hashable
    address: str
    check: Check
    timing: CheckTiming
    process: Hashable = None
    """Identifies this run of the service, such as its start time. A new value, or a new address, starts over."""
    health: Health = field(default=Health.UNKNOWN, compare=False)
    """The initial health: HEALTHY for a replica that has just passed its startup gate."""
    executor: ExecCapability | None = field(default=None, compare=False, repr=False)


@frozen
class Transition:
    """The health of a target changed."""

    before: Health
    after: Health
    reason: str
    """The reason of the result that changed it, at most 512 bytes."""


class UnitRandom(Protocol):
    """A source of randomness; `random.Random` fits."""

    def random(self) -> float:
        """A float in [0, 1)."""


OnResult = Callable[[Hashable, ProbeResult, Transition | None], None]


def slack_secs(interval_secs: float) -> float:
    """How long before its due time a probe may start."""
    return min(interval_secs * _SLACK, _MOST_SLACK_SECS)


def grid_secs(interval_secs: float) -> float:
    """The distance of the times at which targets with this interval are due."""
    return min(2.0 ** math.floor(math.log2(interval_secs / 4)), _MOST_GRID_SECS)


class HealthScheduler:
    """Probes targets, which may be added, changed and removed while it runs.

    `on_result` is called from the probe's task, once per probe, in the order in which probes end, and never for a
    target that was removed or changed meanwhile. It may add and remove targets. Its exceptions end `run`.
    `clock` is the event loop's clock. Call all methods in the event loop's thread.
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
        """`recoveries` consecutive successes make an unhealthy target healthy. `prober` runs the probes."""
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
        # The number of targets bounds both queues: a target is in the heap, waits for a slot, or is being probed.
        self._fast: deque[_Entry] = deque()
        self._slow: deque[_Entry] = deque()
        self._running = 0
        self._slow_running = 0
        self._missed = 0
        self._wake = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None

    @property
    def missed(self) -> int:
        """How often a due probe was skipped, because the previous one still ran or no slot was free."""
        return self._missed

    def state(self, key: Hashable) -> Health:
        """The health of a target; UNKNOWN before a deciding result, and for an unknown key."""
        entry = self._entries.get(key)
        return Health.UNKNOWN if entry is None else entry.verdict.health

    def set_targets(self, targets: Mapping[Hashable, Target]) -> None:
        """Replace all targets by these, by key. Unchanged targets keep their schedule."""
        for key in [key for key in self._entries if key not in targets]:
            self.remove(key)
        for key, target in targets.items():
            if key != target.key:
                raise AgentError(f"cannot watch {target.key!r} as {key!r}: the keys differ; use the target's own")
            self.put(target)

    def put(self, target: Target) -> None:
        """Add or change a target. An equal target replaces only the executor.

        A new check or timing keeps the health until it has decided. A new process or address starts with
        `target.health` and a start period in which failures do not count.
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
            # As at the start of a deployment: never earlier than an engine's own health check would count a failure.
            timing = target.timing
            entry.counts_from = self._clock() + max(timing.start_period_secs, timing.interval_secs)
        self._entries[target.key] = entry
        self._push_first(entry)

    def passed(self, key: Hashable, process: Hashable, answer: ProbeResult) -> bool:
        """Make a target healthy by this answer to another probe; failures count from now on.

        `on_result` is called when that changes its health. False, with nothing done, when there is no such target, or
        its process is another one.
        """
        entry = self._entries.get(key)
        if entry is None or entry.target.process != process:
            return False
        entry.counts_from = self._clock()
        before = entry.verdict.health
        if before is not Health.HEALTHY:
            entry.verdict = self._verdict(entry.target, Health.HEALTHY)
            self._on_result(key, answer, Transition(before=before, after=Health.HEALTHY, reason=answer.detail))
        return True

    def remove(self, key: Hashable) -> None:
        """Remove a target and stop probing it; no result is reported any more. Unknown keys are ignored."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._discard(entry)

    async def run(self) -> None:
        """Probe until cancelled; all probes have ended when it returns. Can run again; health is kept."""
        if self._group is not None:
            raise AgentError("cannot run the health checks: they run already; start them once")
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                self._heap.clear()
                self._fast.clear()
                self._slow.clear()
                for entry in self._entries.values():
                    entry.queue = None
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
        """Move due targets from the heap to the queues for slots."""
        while self._heap:
            due, ticket, entry = self._heap[0]
            if ticket == entry.ticket:
                if due - slack_secs(entry.target.timing.interval_secs) > now:
                    return
                entry.queue = self._slow if entry.slow else self._fast
                entry.queue.append(entry)
            heapq.heappop(self._heap)

    def _fill(self) -> None:
        """Start probes while slots are free, the longest due first."""
        while self._group is not None and self._running < self._at_once:
            queue = self._next_queue()
            if queue is None:
                return
            entry = queue.popleft()
            entry.queue = None
            self._begin(self._group, entry)

    def _next_queue(self) -> deque[_Entry] | None:
        slow = self._slow if self._slow and self._slow_running < self._slow_at_once else None
        if self._fast and (slow is None or self._fast[0].due <= slow[0].due):
            return self._fast
        return slow

    def _begin(self, group: asyncio.TaskGroup, entry: _Entry) -> None:
        slow = entry.slow
        self._running += 1
        self._slow_running += slow

        def ended(task: asyncio.Task[None]) -> None:
            # A callback, not a finally in the task: a task that is cancelled before its first step never runs.
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
        except Exception as exc:  # an executor may raise anything; the other targets must still be probed
            log.exception("health probe broke", extra={"target": str(target.key)})
            detail = f"the probe itself broke: {type(exc).__name__}"
            result = ProbeResult(ok=False, detail=detail, duration_secs=self._clock() - began)
        now = self._clock()
        entry.slow = now - began > SLOW_SECS
        if not self._is_current(entry):
            return
        before = entry.verdict.health
        if result.ok:
            entry.counts_from = now  # it has started: failures count from now on
        if now >= entry.counts_from:
            entry.verdict.observe(result)
        after = entry.verdict.health
        turned = None if after is before else Transition(before=before, after=after, reason=result.detail)
        self._on_result(target.key, result, turned)

    def _push_first(self, entry: _Entry) -> None:
        interval = entry.target.timing.interval_secs
        self._push(entry, self._clock() + self._rng.random() * min(interval, FIRST_WITHIN_SECS))
        grid = grid_secs(interval)
        entry.fixed = (entry.due // grid + 1 + self._rng.random() * (interval // grid) // 1) * grid
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
        if entry.queue is not None:
            entry.queue.remove(entry)
        # Removed targets stay in the heap until they are due; with long intervals they could pile up.
        if len(self._heap) > 2 * len(self._entries) + _SPARE_HEAP:
            self._heap = [item for item in self._heap if item[1] == item[2].ticket]
            heapq.heapify(self._heap)

    def _is_current(self, entry: _Entry) -> bool:
        return self._entries.get(entry.target.key) is entry

    def _verdict(self, target: Target, health: Health) -> SteadyVerdict:
        return SteadyVerdict(retries=target.timing.retries, recoveries=self._recoveries, health=health)


class _Entry:
    """The schedule of one target."""

    __slots__ = ("counts_from", "due", "fixed", "queue", "slow", "target", "task", "ticket", "turns", "verdict")

    def __init__(self, target: Target, verdict: SteadyVerdict) -> None:
        self.target = target
        self.verdict = verdict
        self.counts_from = -math.inf  # failures before this time do not count
        self.due = 0.0
        self.fixed = 0.0  # the time of the second probe; all later ones are whole intervals after it
        self.turns = -1
        self.ticket = -1  # identifies its one valid heap item
        self.slow = False
        self.queue: deque[_Entry] | None = None  # the queue in which it waits for a slot
        self.task: asyncio.Task[None] | None = None
