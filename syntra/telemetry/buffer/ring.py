"""The durable ring: keeps records on disk within a budget, oldest out first, until every consumer has taken them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from syntra.model.fields import Json
from syntra.telemetry.buffer.blocks import pack
from syntra.telemetry.buffer.disk import Disk
from syntra.telemetry.buffer.entry import HEADER_BYTES, Marks, encode_block_marks
from syntra.telemetry.buffer.errors import RecordTooLarge
from syntra.telemetry.buffer.gather import Gatherer
from syntra.telemetry.buffer.intervals import Intervals
from syntra.telemetry.buffer.reader import Reader
from syntra.telemetry.buffer.segment import Segment
from syntra.telemetry.buffer.signal_log import Feed, SignalLog
from syntra.telemetry.buffer.stats import BufferStats, SignalStats
from syntra.telemetry.buffer.storage import Storage
from syntra.telemetry.buffer.store import Store
from syntra.telemetry.buffer.syncing import DURABLE_SECS, Syncer
from syntra.telemetry.buffer.waiting import Waiting
from syntra.telemetry.signals import Record, Signal
from syntra.utils.errors import AgentError

_NO_MARKS: Mapping[str, Json] = {}
_LARGEST = 4
"""A block takes at most this fraction of the budget."""


class Buffer:
    """The ring. Every method may be called from any thread; `append_async` from any event loop."""

    def __init__(self, store: Store, *, always: bool, gather_secs: float, clock: Callable[[], int]) -> None:
        self._store = store
        self._largest = store.max_bytes // _LARGEST
        self._always = always
        self._clock = clock
        self._lock = threading.RLock()
        self._waiting = Waiting()
        self._refused = 0
        self._maintaining = threading.Lock()
        self._syncer = Syncer(self.maintain)
        self._gatherer = Gatherer(self._append, gather_secs)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        max_bytes: int,
        fsync: str = "interval",
        gather_secs: float = 0.0,
        disk: Disk | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> Buffer:
        """Open the ring in `directory`, which becomes private to it. It never fails because of what is there.

        With `fsync="interval"` a power cut loses about the last second; with `"always"` an append waits for the disk.
        `append_async` waits `gather_secs` for others to share a write with; with 0 for one cycle of the loop.
        `clock` returns nanoseconds since 1970. If the directory cannot be used, the ring works in memory until it can.
        """
        store = Store(Storage(disk or Disk(), directory, max_bytes), max_bytes, clock)
        store.open()
        buffer = cls(store, always=fsync == "always", gather_secs=gather_secs, clock=clock)
        buffer._syncer.start()
        return buffer

    def append(self, records: Sequence[Record], marks: Marks = _NO_MARKS) -> None:
        """Keep records; on return they survive kill -9, with `fsync="always"` a power cut too.

        Records of one signal become one block. `marks` say how far the sources of the log records were read: a crash
        leaves both or neither. Raises RecordTooLarge, and has then kept none of them.
        """
        if records or marks:
            self._append(records, marks)
            if self._always and not self._syncer.wait():
                self._stuck()

    async def append_async(self, records: Sequence[Record]) -> None:
        """As `append`. Calls that arrive in the same cycle of the loop share blocks, one write and one sync."""
        if records:
            await self._gatherer.append(records)
            if self._always and not await self._syncer.wait_async():
                self._stuck()

    @property
    def memory_bytes(self) -> int:
        """What is in memory because the disk does not take it."""
        return self._store.memory_bytes

    def marks(self) -> dict[str, Json]:
        """How far the sources of log records were read, by the names given in `append`."""
        with self._lock:
            return dict(self._store.logs[Signal.LOGS].marks)

    def reader(self, consumer: str, signals: Iterable[Signal]) -> Reader:
        """Open the reader of a consumer, which continues where the last one of that name ended.

        One reader for each name. Entries of `signals` are held for it until it has taken them; what it once read of
        other signals is forgotten.
        """
        wanted = frozenset(signals)
        feeds: dict[Signal, Feed] = {}
        with self._lock:
            for signal, log in self._store.logs.items():
                if signal in wanted:
                    log.taken.setdefault(consumer, Intervals())
                    feeds[signal] = log.feeds[consumer] = Feed()
                else:
                    self._store.forget(log, consumer)
            return Reader(self._store, self._lock, self._waiting, consumer, feeds)

    def consumers(self) -> frozenset[str]:
        """Names of all consumers for which entries are held."""
        with self._lock:
            return frozenset(name for log in self._store.logs.values() for name in log.taken)

    def forget(self, consumer: str) -> None:
        """Forget a consumer that is no longer configured, and release what was held for it only."""
        with self._lock:
            for log in self._store.logs.values():
                self._store.forget(log, consumer)

    def stats(self) -> BufferStats:
        """State and counters."""
        with self._lock:
            store, storage = self._store, self._store.storage
            return BufferStats(
                max_bytes=store.max_bytes,
                disk_bytes=storage.bytes,
                segments=sum(len(log.segments) for log in store.logs.values()),
                memory_bytes=store.memory_bytes,
                memory_only=not storage.is_open or store.memory_bytes > 0,
                reason=store.reason,
                bad_segments=storage.bad_segments,
                torn_bytes=store.torn_bytes,
                sync_failures=store.sync_failures,
                read_failures=store.read_failures,
                refused_records=self._refused,
                signals={signal: _signal_stats(log) for signal, log in store.logs.items()},
            )

    def maintain(self) -> None:
        """Sync what was written, and try again what the disk refused. The ring's own thread calls this every second."""
        with self._maintaining:
            with self._lock:
                segments = self._store.unsynced()
            failed: list[Segment] = []
            error: OSError | None = None
            for segment in segments:
                try:
                    segment.sync()
                except OSError as exc:
                    failed.append(segment)
                    error = exc
            try:
                self._store.storage.sync()
            except OSError as exc:
                error = exc
            with self._lock:
                for segment in segments:
                    segment.unpin()
                if error is not None:
                    self._store.sync_failed(failed, error)
                self._store.retry(synced=error is None)

    def close(self) -> None:
        """Sync, write what is in memory if the disk takes it, and close all files. The ring is of no use afterwards."""
        self._syncer.stop()
        with self._lock:
            self._store.close()
        self._waiting.wake()

    def _append(self, records: Sequence[Record], marks: Marks = _NO_MARKS) -> None:
        packed = pack(records, whole=bool(marks)) if records else []
        block_marks = encode_block_marks(marks) if any(signal is Signal.LOGS for signal, _ in packed) else b""
        for signal, blocks in packed:
            for block in blocks:
                if len(block.frame) + HEADER_BYTES > self._largest:
                    self._refused += 1
                    raise RecordTooLarge(
                        f"cannot keep {block.items} items of {signal.value}: they take {len(block.frame)} bytes "
                        f"compressed, more than a quarter of the buffer; raise telemetry.buffer_max_mb"
                    )
        at_ns = self._clock()
        with self._lock:
            if self._store.is_closed:
                raise AgentError("cannot keep telemetry: the buffer is closed; send it again after the restart")
            # Log records last: if a kill comes between two signals, the marks do not speak of what is lost.
            for signal, blocks in sorted(packed, key=lambda one: one[0] is Signal.LOGS):
                self._store.append(signal, blocks, at_ns, block_marks if signal is Signal.LOGS else b"")
            if marks and not block_marks:
                self._store.mark(Signal.LOGS, marks)
        if self._waiting.callbacks:
            self._waiting.wake()

    def _stuck(self) -> None:
        with self._lock:
            self._store.fail(TimeoutError(f"no sync within {DURABLE_SECS:.0f} s"))


def _signal_stats(log: SignalLog) -> SignalStats:
    return SignalStats(
        appended_items=log.appended_items,
        appended_bytes=log.appended_raw,
        stored_items=sum(segment.items for segment in log.segments) + sum(block.items for block in log.memory),
        stored_bytes=sum(segment.raw for segment in log.segments) + sum(block.raw for block in log.memory),
        dropped_items=log.dropped.items,
        dropped_bytes=log.dropped.raw,
        dropped_at_ns=log.dropped_at_ns,
        lost_blocks=log.lost_blocks,
    )
