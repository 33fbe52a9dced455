"""Reads batches out of the ring for one consumer, and remembers what the consumer has taken."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple

from syntra.telemetry.buffer.intervals import Interval
from syntra.telemetry.buffer.segment import Block, Segment
from syntra.telemetry.buffer.signal_log import Feed, SignalLog
from syntra.telemetry.buffer.store import Store
from syntra.telemetry.buffer.turns import Replay, SignalTurns
from syntra.telemetry.buffer.waiting import Waiting
from syntra.telemetry.signals import Signal
from syntra.utils.frozen import frozen

_READ_ATTEMPTS = 3


@frozen
class Batch:
    """Blocks of one signal, in the order in which they were appended."""

    signal: Signal
    blocks: tuple[bytes, ...]
    """Each is one zstd frame of the data of one or more records."""
    items: int
    raw_bytes: int
    """Size of all blocks together before compression."""
    oldest_at_ns: int
    newest_at_ns: int
    """When the first and the last block were appended, in nanoseconds since 1970."""
    first: int
    last: int
    """Numbers of the first and the last block."""


@frozen
class Pending:
    """What a consumer has not taken yet."""

    items: int
    bytes: int
    """Before compression."""
    oldest_at_ns: int
    """When the oldest of it was appended, in nanoseconds since 1970; 0 when there is none."""


class _Place(NamedTuple):
    log: SignalLog
    feed: Feed
    interval: Interval


class Reader:
    """The reader of one consumer. `next` is called by one thread at a time; the other methods by any."""

    def __init__(
        self, store: Store, lock: threading.RLock, waiting: Waiting, consumer: str, feeds: Mapping[Signal, Feed]
    ) -> None:
        self._store = store
        self._lock = lock
        self._waiting = waiting
        self._consumer = consumer
        self._feeds = feeds
        self._turns = SignalTurns()
        self._replays = {signal: Replay(store.logs[signal].next_sequence) for signal in feeds}

    def next(self, *, max_items: int, max_bytes: int) -> Batch | None:
        """The next batch, or None when there is nothing to read now.

        It has at least one block, and more as long as they have at most `max_items` items and `max_bytes` bytes before
        compression. Every batch must come back through `taken` or `returned`; more than one may be out. Blocks on the
        disk: call it from a thread where that matters.
        """
        while True:
            with self._lock:
                place = self._choose()
            if place is None:
                return None
            log, feed, (first, last) = place
            blocks = self._read(log, first, last, max_items, max_bytes)
            if blocks is None:
                return None
            if not blocks:
                continue
            batch = Batch(
                signal=log.signal,
                blocks=tuple([block.frame for block in blocks]),
                items=sum([block.items for block in blocks]),
                raw_bytes=sum([block.raw for block in blocks]),
                oldest_at_ns=blocks[0].at_ns,
                newest_at_ns=blocks[-1].at_ns,
                first=first,
                last=blocks[-1].sequence,
            )
            with self._lock:
                feed.out = feed.out.add(batch.first, batch.last)
                self._replays[log.signal].was_read(
                    first,
                    batch.oldest_at_ns,
                    now_ns=self._store.clock(),
                    head=log.next_sequence,
                    fragments=len(log.unread(self._consumer)),
                )
            return batch

    def taken(self, batch: Batch) -> None:
        """The consumer has the batch: it is not read again, not even after a crash."""
        with self._lock:
            log, feed = self._store.logs[batch.signal], self._feeds[batch.signal]
            if not feed.out.covers(batch.first, batch.last):
                return
            feed.out = feed.out.remove(batch.first, batch.last)
            feed.items -= batch.items
            feed.raw -= batch.raw_bytes
            if batch.first < log.first_sequence or log.feeds.get(self._consumer) is not feed:
                # Part of it was evicted meanwhile and is counted as dropped, or the consumer has a newer reader.
                log.count_again()
            self._store.take(log, self._consumer, batch.first, batch.last)

    def returned(self, batch: Batch) -> None:
        """The consumer could not take the batch: it is read again."""
        with self._lock:
            feed = self._feeds[batch.signal]
            if feed.out.covers(batch.first, batch.last):
                feed.out = feed.out.remove(batch.first, batch.last)
                self._waiting.wake()

    def pending(self) -> Pending:
        """What is not taken, batches that are out included."""
        items = raw = oldest = 0
        with self._lock:
            for signal, feed in self._feeds.items():
                log = self._store.logs[signal]
                unread = log.unread(self._consumer)
                if feed.is_stale:
                    feed.items, feed.raw = log.count(unread)
                    feed.is_stale = False
                items += feed.items
                raw += feed.raw
                if unread:
                    at_ns = self._time_of(log, feed, unread[0])
                    oldest = min(oldest or at_ns, at_ns)
        return Pending(items=items, bytes=raw, oldest_at_ns=oldest)

    def wait(self, timeout: float) -> bool:
        """Wait until there is something to read; false after `timeout` seconds, or when the ring closes."""
        until = time.monotonic() + timeout
        arrived = threading.Event()
        with self._waiting.callback(arrived.set):
            while not self._has_unread():
                if self._store.is_closed or not arrived.wait(max(0.0, until - time.monotonic())):
                    return False
                arrived.clear()
        return True

    async def wait_async(self, timeout: float) -> bool:
        """As `wait`, on an event loop."""
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()
        with self._waiting.callback(lambda: loop.call_soon_threadsafe(arrived.set)):
            try:
                async with asyncio.timeout(timeout):
                    while not self._has_unread():
                        if self._store.is_closed:
                            return False
                        await arrived.wait()
                        arrived.clear()
            except TimeoutError:
                return False
        return True

    def _has_unread(self) -> bool:
        with self._lock:
            return any(
                self._store.logs[signal].unread(self._consumer, feed.out) for signal, feed in self._feeds.items()
            )

    def _choose(self) -> _Place | None:
        ready = {}
        for signal, feed in self._feeds.items():
            if unread := self._store.logs[signal].unread(self._consumer, feed.out):
                ready[signal] = unread
        if not ready:
            return None
        signal = self._turns.pick(ready)
        return _Place(self._store.logs[signal], self._feeds[signal], self._replays[signal].choose(ready[signal]))

    def _read(self, log: SignalLog, first: int, last: int, max_items: int, max_raw: int) -> list[Block] | None:
        """Blocks from `first` on; empty when the place must be chosen again, None when the disk does not read now."""
        blocks: list[Block] = []
        while first <= last and max_items > 0 and max_raw > 0:
            with self._lock:
                segment = log.segment_of(first)
                if segment is None:
                    found = _fitting(log, first, last, max_items, max_raw, at_least_one=not blocks)
                    end = last
                else:
                    segment.pin()
                    end = min(last, segment.next_sequence - 1)
            if segment is not None:
                try:
                    found = segment.read_blocks(first, end, max_items=max_items, max_raw=max_raw)
                except OSError as exc:
                    return blocks or self._unreadable(log, segment, first, end, exc)
                finally:
                    with self._lock:
                        segment.unpin()
                if blocks and found and (found[0].items > max_items or found[0].raw > max_raw):
                    break
            if not found:
                if not blocks:
                    self._skip(log, segment, first, end)
                break
            blocks += found
            max_items -= sum([block.items for block in found])
            max_raw -= sum([block.raw for block in found])
            if found[-1].sequence < end:
                break
            first = end + 1
        return blocks

    def _unreadable(self, log: SignalLog, segment: Segment, first: int, last: int, exc: OSError) -> list[Block] | None:
        with self._lock:
            self._store.read_failed(exc)
            segment.read_failures += 1
            if segment.read_failures < _READ_ATTEMPTS:
                return None
            self._skip(log, segment, first, last)
        return []

    def _skip(self, log: SignalLog, segment: Segment | None, first: int, last: int) -> None:
        """Leave out numbers that have no block, or none that can be read."""
        with self._lock:
            if segment is not None:
                log.lost_blocks += max(0, last - max(first, segment.first_sequence) + 1)
                log.count_again()
            self._store.take(log, self._consumer, first, last)

    def _time_of(self, log: SignalLog, feed: Feed, unread: Interval) -> int:
        first, last = unread
        if feed.oldest[0] == first:
            return feed.oldest[1]
        segment = log.segment_of(first)
        if segment is None:
            at_ns = next((block.at_ns for block in log.memory if block.sequence >= first), 0)
        else:
            try:
                found = segment.read_blocks(first, last, max_items=1, max_raw=1)
            except OSError:
                found = []
            at_ns = found[0].at_ns if found else segment.first_at_ns
        feed.oldest = (first, at_ns)
        return at_ns


def _fitting(log: SignalLog, first: int, last: int, max_items: int, max_raw: int, *, at_least_one: bool) -> list[Block]:
    """Blocks in memory from `first` to `last`, as many as fit."""
    blocks: list[Block] = []
    for block in log.memory:
        if not first <= block.sequence <= last:
            continue
        max_items -= block.items
        max_raw -= block.raw
        if (max_items < 0 or max_raw < 0) and (blocks or not at_least_one):
            break
        blocks.append(block)
    return blocks
