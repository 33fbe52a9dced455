"""Ships one consumer's batches from the ring to a destination.

A batch is due when it is full (items or bytes), or when the oldest waiting item has waited for the interval. Several
batches are in flight when one at a time is not enough. After a failure everything waits, then one batch tries. A batch
that was not taken goes back to the reader, which decides what comes next. The ring keeps what is not taken, so a
failure loses nothing; what a peer refuses for good is dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, NamedTuple

from syntra.telemetry.shipping.condition import STUCK_SECS, Condition
from syntra.telemetry.shipping.counts import Progress, SignalCounts
from syntra.telemetry.shipping.destination import B, Batch, Destination, Reader, Sent, later, refused
from syntra.telemetry.shipping.pacing import Backoff, Replay, Uniform, Window
from syntra.telemetry.signals import Signal
from syntra.utils.frozen import frozen

logger = logging.getLogger(__name__)

CHECKS_PER_INTERVAL = 20
CHECK_SECS = (0.02, 0.25)
"""Bounds of the time between two checks of a batch that fills. One wake-up for each request would cost more. The time
doubles up to `QUIET_CHECK_SECS` while nothing new is found: on a quiet server a batch is one record."""
QUIET_CHECK_SECS = 2.0
NOTHING_WAITS = -1.0


@frozen
class BatchLimits:
    """When a batch is due."""

    interval_secs: float = 5.0
    max_items: int = 1000
    full_batches: int = 1
    """How many full batches leave in one request when more wait: as many as the window has, up to this."""
    max_bytes: int = 3_500_000
    """Size before compression. Many gRPC peers refuse messages from 4 MiB on."""
    replay_items_per_sec: float = 20_000.0
    """Rate of a backlog after an outage, on top of the rate of what arrives."""


class Waiting(NamedTuple):
    """What the reader can hand out."""

    items: int
    bytes: int


class Shipper(Generic[B]):
    """Run `run` in a task; everything else may be called from the same loop at any time."""

    def __init__(
        self,
        reader: Reader[B],
        destination: Destination,
        limits: BatchLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Uniform = random.uniform,
    ) -> None:
        self._reader = reader
        self._destination = destination
        self._limits = limits
        self._clock = clock
        self._window = Window()
        self._backoff = Backoff(uniform)
        self._replay = Replay(limits.replay_items_per_sec, clock())
        self._condition = Condition(destination.name, clock)
        self._counts: dict[Signal, SignalCounts] = {}
        self._rests: deque[tuple[B, Batch]] = deque()
        """Batches of which the peer has taken a part; at most one window of them."""
        self._in_flight = 0
        self._out_items = 0
        self._out_bytes = 0
        """Of batches that the reader has handed out and not got back."""
        self._retry_at: float | None = None
        self._waiting_since: float | None = None
        self._due_items = 0
        """What waited when the interval ended, and has not left yet. A batch has one signal; all of them are due."""
        self._seen = Waiting(0, 0)
        """What waited at the last check."""
        self._quiet_checks = 0
        self._known = Waiting(0, 0)
        """What waits at least; the ring is asked again when it is less than a batch."""
        self._changed = asyncio.Event()
        self._finishing = False
        self._finish_at: float | None = None
        self._deadline: asyncio.Timeout | None = None

    @property
    def progress(self) -> Progress:
        """The state now."""
        return Progress(
            in_flight=self._in_flight,
            window=self._window.size,
            waiting=self._waiting().items,
            replaying=self._replay.active,
            last_success_at=self._condition.last_success_at,
            last_error_at=self._condition.last_error_at,
            last_error=self._condition.last_error,
            failures=self._backoff.failures,
            retry_at=self._retry_at,
            counts=self._counts,
        )

    @property
    def problem(self) -> str | None:
        """Why telemetry does not arrive, as a sentence for people; None while all is well."""
        patience = max(2.0 * STUCK_SECS, 3.0 * self._limits.interval_secs)
        return self._condition.problem(lambda: self._reader.pending().items, patience=patience)

    def set_interval(self, interval_secs: float) -> None:
        """Let a batch wait this long from now on; a control plane may ask for it."""
        if interval_secs != self._limits.interval_secs:
            self._limits = replace(self._limits, interval_secs=interval_secs)
            self._changed.set()

    def finish(self, within_secs: float) -> None:
        """Ask `run` to ship what waits, full batch or not, and to return within that time.

        It also returns at the first failure: the ring keeps the rest for the next start.
        """
        self._finishing = True
        self._finish_at = asyncio.get_running_loop().time() + within_secs
        if self._deadline is not None:
            self._deadline.reschedule(self._finish_at)
        self._changed.set()

    async def run(self) -> None:
        """Ship until `finish` or cancelled. Batches in flight then go back to the ring and may arrive twice."""
        try:
            async with asyncio.timeout_at(self._finish_at) as self._deadline, asyncio.TaskGroup() as tasks:
                if self._waiting().items > 2 * self._limits.max_items:
                    self._replay.begin()  # of an earlier run
                while await self._next_is_due():
                    self._start_one(tasks)
        except TimeoutError:
            logger.warning("telemetry was not shipped before the shutdown; the ring keeps it")
        finally:
            self._deadline = None
            while self._rests:
                self._give_back(self._rests.popleft()[0])

    def _waiting(self) -> Waiting:
        pending = self._reader.pending()
        # Less than nothing may wait for a moment: the ring has dropped what is in flight.
        return Waiting(max(0, pending.items - self._out_items), max(0, pending.bytes - self._out_bytes))

    def _count_out(self, batch: Batch, sign: int) -> None:
        self._out_items += sign * batch.items
        self._out_bytes += sign * batch.raw_bytes

    def _at_least(self) -> Waiting:
        """What waits: exactly, or more than a batch at least. To ask the ring for each batch would cost too much."""
        known, limits = self._known, self._limits
        if self._replay.active or (known.items < limits.max_items and known.bytes < limits.max_bytes):
            self._known = self._waiting()
            self._replay.measure(self._clock(), self._known.items)
        return self._known

    def _give_back(self, batch: B) -> None:
        self._count_out(batch, -1)
        self._replay.handed_out(-batch.items)
        self._reader.returned(batch)

    def _start_one(self, tasks: asyncio.TaskGroup) -> None:
        limits = self._limits
        if self._rests:
            batch, rest = self._rests.popleft()
        else:
            # A slow peer gets fewer and smaller requests, so that each meets its deadline.
            most = limits.max_items * min(self._window.size, limits.full_batches)
            found = self._reader.next(max_items=most, max_bytes=limits.max_bytes)
            if found is None:
                self._known = Waiting(0, 0)
                self._waiting_since = None
                self._due_items = 0
                return
            self._due_items -= found.items
            batch, rest = found, found
            self._count_out(found, 1)
            self._known = Waiting(self._known.items - found.items, self._known.bytes - found.raw_bytes)
            self._replay.handed_out(found.items)
        self._in_flight += 1
        self._waiting_since = self._condition.moved_at = self._clock()
        tasks.create_task(self._ship(batch, rest, self._window.ticket), name="telemetry batch")

    async def _next_is_due(self) -> bool:
        """Wait until a batch should leave; False when there is nothing to send any more."""
        while True:
            if self._finishing and self._retry_at is not None:
                return False
            pause = self._pause()
            if pause is None:
                return True
            if pause == NOTHING_WAITS:
                if self._finishing and self._in_flight == 0:
                    return False
                # Nothing waits. While batches are in flight, one that is returned ends the wait, too.
                await self._reader_or_change()
            else:
                await self._change(pause)

    def _pause(self) -> float | None:
        """None: a batch is due. Otherwise seconds until the next check, or NOTHING_WAITS."""
        now = self._clock()
        most = 1 if self._backoff.failures else self._window.size
        if self._in_flight >= most:
            self._window.is_limit = bool(self._rests) or self._at_least().items >= self._limits.max_items
            return STUCK_SECS
        if self._retry_at is not None:
            if now < self._retry_at:
                return self._retry_at - now
            self._retry_at = None
        if self._rests:
            return None
        waiting = self._at_least()
        if waiting.items <= 0:
            self._waiting_since = None
            self._condition.moved_at = now
            self._window.is_limit = False
            return NOTHING_WAITS
        if self._waiting_since is None:
            self._waiting_since = now
        limits = self._limits
        pace = self._replay.wait(now, waiting.items, done_below=2 * limits.max_items)
        if pace > 0.0 and not self._finishing:
            return pace
        if waiting.items >= limits.max_items or waiting.bytes >= limits.max_bytes or self._finishing:
            return None
        left = self._waiting_since + limits.interval_secs - now
        if left <= 0.0:
            self._due_items = waiting.items
            return None
        if self._due_items > 0:
            return None
        self._window.is_limit = False
        low, high = CHECK_SECS
        self._quiet_checks = self._quiet_checks + 1 if waiting == self._seen else 0
        self._seen = waiting
        pause = max(low, min(high, limits.interval_secs / CHECKS_PER_INTERVAL))
        return min(left, max(pause, min(QUIET_CHECK_SECS, pause * 2.0 ** min(self._quiet_checks, 8))))

    async def _change(self, seconds: float) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _reader_or_change(self) -> None:
        self._changed.clear()
        async with asyncio.TaskGroup() as waits:
            new = waits.create_task(self._reader.wait_async(STUCK_SECS))
            change = waits.create_task(self._changed.wait())
            await asyncio.wait((new, change), return_when=asyncio.FIRST_COMPLETED)
            new.cancel()
            change.cancel()

    async def _ship(self, batch: B, rest: Batch, ticket: int) -> None:
        done = False
        try:
            sent = await self._send(rest)
            self._counts.setdefault(batch.signal, SignalCounts()).add(sent)
            if sent.retry is None:
                self._reader.taken(batch)
                self._count_out(batch, -1)
                done = True
                self._succeeded()
            else:
                self._failed(sent, ticket)
                if sent.retry.rest is not batch:
                    self._rests.append((batch, sent.retry.rest))
                    done = True
            if sent.refused or sent.rejected:
                self._condition.lost(batch.signal, sent)
        finally:
            if not done:
                self._give_back(batch)
            self._in_flight -= 1
            self._changed.set()

    async def _send(self, batch: Batch) -> Sent:
        try:
            return await self._destination.send(batch)
        except OSError as broken:
            return later(batch, str(broken) or type(broken).__name__)
        except Exception:  # A batch that the code cannot handle must not stop the others; dropped, counted and said.
            logger.exception("a batch of telemetry cannot be sent", extra={"signal": batch.signal.value})
            return refused(batch, "the agent cannot encode it; see the agent's log")

    def _succeeded(self) -> None:
        self._window.succeeded()
        self._backoff.succeeded()
        # What the peer asked another batch to wait is still waited.
        if self._condition.succeeded():
            self._replay.begin()

    def _failed(self, sent: Sent, ticket: int) -> None:
        now = self._clock()
        self._window.failed(ticket)
        self._condition.failed(sent.reason)
        asked = sent.retry.after_secs if sent.retry else None
        if self._retry_at is None or asked is not None:
            # Batches that fail together are one failure, but each may ask for a longer wait.
            self._retry_at = max(self._retry_at or now, now + self._backoff.delay(asked))
