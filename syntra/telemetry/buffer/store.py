"""The entries of all signals within one budget: appending, eviction, positions, and memory when no disk works."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from syntra.telemetry.buffer import entry
from syntra.telemetry.buffer.beginnings import beginning, beginning_bytes, marks_entry, positions_entry
from syntra.telemetry.buffer.blocks import Packed
from syntra.telemetry.buffer.entry import HEADER_BYTES, Marks
from syntra.telemetry.buffer.eviction import ORDER, victim
from syntra.telemetry.buffer.intervals import Intervals
from syntra.telemetry.buffer.opening import attach
from syntra.telemetry.buffer.segment import Block, Count, Segment
from syntra.telemetry.buffer.signal_log import SignalLog, count_or_all
from syntra.telemetry.buffer.storage import Storage
from syntra.telemetry.buffer.turns import PRIORITY
from syntra.telemetry.signals import Signal

log = logging.getLogger(__name__)

MEMORY_BYTES = 8 * 1024 * 1024
"""What is kept in memory while no disk takes it."""
_SEGMENTS = 16
_WRITE_BACK_BYTES = 256 * 1024


class Store:
    """Not thread-safe: the ring's lock protects it. Failures of the disk end here, in `reason` and in memory."""

    def __init__(self, storage: Storage, max_bytes: int, clock: Callable[[], int]) -> None:
        self.storage = storage
        self.max_bytes = max_bytes
        self.segment_bytes = max_bytes // _SEGMENTS
        self.clock = clock
        self.logs = {signal: SignalLog(signal) for signal in PRIORITY}
        self.memory_bytes = 0
        self.reason = ""
        self.torn_bytes = 0
        self.sync_failures = 0
        self.read_failures = 0
        self.is_closed = False

    def open(self) -> None:
        """Read what the directory holds, or begin in memory."""
        try:
            attach(self)
        except OSError as exc:
            self.fail(exc)
            for each in self.logs.values():
                # Above every number in the directory, which may become readable later.
                each.next_sequence = max(each.next_sequence, self.clock())

    def append(self, signal: Signal, packed: Sequence[Packed], at_ns: int, marks: bytes = b"") -> None:
        """Keep blocks; encoded `marks` belong to the last one."""
        each = self.logs[signal]
        number = each.next_sequence
        items = raw = 0
        blocks = []
        for frame, block_items, block_raw in packed:
            blocks.append(Block(number, block_items, block_raw, at_ns, frame))
            number += 1
            items += block_items
            raw += block_raw
        if marks:
            blocks[-1] = blocks[-1]._replace(marks=marks)
        each.next_sequence = number
        each.appended_items += items
        each.appended_raw += raw
        if each.memory or not self.storage.is_open:
            self._remember(each, blocks)
        else:
            try:
                self._write(each, blocks)
            except OSError as exc:
                self.fail(exc)
                self._remember(each, blocks)
        for feed in each.feeds.values():
            feed.items += items
            feed.raw += raw

    def mark(self, signal: Signal, marks: Marks) -> None:
        """Keep changes of marks that belong to no block."""
        each = self.logs[signal]
        each.mark(marks)
        each.marks_unwritten = True
        if self.storage.is_open and not each.memory:
            try:
                self._write_marks(each)
            except OSError as exc:
                self.fail(exc)

    def take(self, each: SignalLog, consumer: str, first: int, last: int) -> None:
        """Note that a consumer has taken a range of numbers, and remove what no consumer needs."""
        each.taken[consumer] = each.taken.get(consumer, Intervals()).add(first, last)
        self._release(each)

    def forget(self, each: SignalLog, consumer: str) -> None:
        """Forget a consumer of one signal."""
        each.feeds.pop(consumer, None)
        if each.taken.pop(consumer, None) is not None:
            self._release(each)

    def unsynced(self) -> list[Segment]:
        """The segments with something that is not synced, each pinned: the caller syncs and unpins them."""
        segments = [segment for each in self.logs.values() for segment in each.segments if segment.dirty]
        for segment in segments:
            segment.dirty = False
            segment.pin()
        return segments

    def sync_failed(self, segments: Sequence[Segment], exc: OSError) -> None:
        """Note a failed sync. The kernel may have given up on those pages, so nothing is appended behind them."""
        self.sync_failures += 1
        for each in self.logs.values():
            if each.active in segments:
                each.active = None
        self.fail(exc)

    def read_failed(self, exc: OSError) -> None:
        """Note that the disk does not read."""
        self.read_failures += 1
        log.error("telemetry buffer cannot read a segment", extra={"reason": exc.strerror or str(exc)})

    def close(self) -> None:
        """Close all files."""
        self.is_closed = True
        for each in self.logs.values():
            for segment in each.segments:
                segment.remove()
            each.segments.clear()
            each.active = None
        self.storage.close()

    def retry(self, *, synced: bool = True) -> None:
        """Write to the disk what it refused before, if it takes it now. `synced`: the last sync worked."""
        if self.is_closed:
            return
        try:
            if not self.storage.is_open:
                attach(self)
            elif self.storage.reopen_if_removed():
                for each in self.logs.values():
                    each.active = None
            for signal in PRIORITY:
                self._write_back(self.logs[signal])
        except OSError as exc:
            self.fail(exc)
            return
        if self.reason and synced and not self.memory_bytes:
            log.warning("telemetry buffer writes to disk again", extra={"reason": self.reason})
            self.reason = ""

    def fail(self, exc: OSError) -> None:
        """Note that the disk does not work."""
        reason = exc.strerror or str(exc)
        if reason != self.reason:
            log.error("telemetry buffer does not write to disk", extra={"reason": reason})
        self.reason = reason

    # Writing

    def _write(self, each: SignalLog, blocks: Sequence[Block]) -> None:
        size = HEADER_BYTES * len(blocks)
        for block in blocks:
            size += len(block.frame) + len(block.marks)
        segment = each.active
        first = blocks[0].sequence
        if (
            segment is None
            or segment.size + size > self.segment_bytes
            or self.storage.bytes + size > self.max_bytes
            or segment.next_sequence != first
        ):
            segment = self._place(each, size, first)
        marker = segment.marker
        parts = [
            entry.pack(marker, entry.BLOCK, frame, items, raw, sequence, at_ns, marks)
            for sequence, items, raw, at_ns, frame, marks in blocks
        ]
        offset = segment.size
        if offset == 0:
            begins = beginning(each, marker, first, self.clock())
            parts.insert(0, begins)
            offset = len(begins)
        self._append(each, segment, parts[0] if len(parts) == 1 else b"".join(parts))
        if len(parts) > len(blocks):
            each.positions_unwritten = each.marks_unwritten = False
        for sequence, items, raw, at_ns, frame, marks in blocks:
            segment.note(sequence, items, raw, at_ns, offset)
            offset += HEADER_BYTES + len(frame) + len(marks)
            if marks:
                each.mark(entry.decode_block_marks(marks))

    def _write_positions(self, each: SignalLog) -> None:
        """Positions speak of what is on disk: without a segment there is nothing to write."""
        each.positions_unwritten = bool(each.segments)
        if each.segments:
            size = HEADER_BYTES + len(entry.encode_positions(each.taken))
            following = each.memory[0].sequence if each.memory else each.next_sequence
            segment = self._place(each, size, following)
            entries = positions_entry if segment.size else beginning
            self._append(each, segment, entries(each, segment.marker, following, self.clock()))
            each.positions_unwritten = False

    def _write_marks(self, each: SignalLog) -> None:
        """Marks as they are now, in a segment of their own if there is none. Raises OSError."""
        following = each.memory[0].sequence if each.memory else each.next_sequence
        segment = self._place(each, HEADER_BYTES + len(entry.encode_marks(each.marks)), following)
        entries = marks_entry if segment.size else beginning
        self._append(each, segment, entries(each, segment.marker, following, self.clock()))
        each.marks_unwritten = False

    def _append(self, each: SignalLog, segment: Segment, data: bytes) -> None:
        try:
            segment.write(data)
        except OSError:
            before = segment.tail
            if not segment.cut():
                each.active = None
                self.storage.bytes += segment.tail - before
            raise
        self.storage.bytes += len(data)

    def _place(self, each: SignalLog, size: int, first: int) -> Segment:
        """The segment for `size` more bytes, with room in the budget; `first` is the next number. Raises OSError.

        The numbers in a segment have no gaps, but for damage.
        """
        self.make_room(size + beginning_bytes(each))
        segment = each.active
        if segment is not None and segment.is_empty:
            segment.skip_to(first)
        if (
            segment is None
            or (segment.size + size > self.segment_bytes and not segment.is_empty)
            or segment.next_sequence != first
        ):
            segment = self.storage.create(each.signal, each.next_number, first)
            each.next_number += 1
            each.segments.append(segment)
            each.active = segment
        return segment

    # Removing

    def make_room(self, size: int) -> None:
        """Remove the oldest until there is room for `size` more bytes. Raises OSError."""
        while self.storage.bytes + size > self.max_bytes:
            if self.storage.free_aside():
                continue
            signal = victim({signal: _removable(each) for signal, each in self.logs.items()})
            if signal is None:
                return
            self._evict(self.logs[signal])

    def _evict(self, each: SignalLog) -> None:
        segment = each.segments[0]
        if each.marks and len(each.segments) == 1:
            self._keep_marks(each)
        unread = each.taken_by_all().gaps(segment.first_sequence, segment.next_sequence - 1)
        lost = count_or_all(segment, unread)
        self.storage.remove(segment)
        each.segments.pop(0)
        if each.active is segment:
            each.active = None
        each.drop(lost, self.clock())
        self.trim(each)
        each.count_again()

    def _release(self, each: SignalLog) -> None:
        """Remove what every consumer has taken, and write the positions."""
        common = each.taken_by_all()
        while each.memory and each.memory[0].sequence in common:
            block = each.memory.popleft()
            self.memory_bytes -= len(block.frame)
            each.mark_of(block)
        each.positions_unwritten = True
        try:
            last = each.segments[-1] if each.segments else None
            if each.marks and last is not None and last is not each.active:
                # It may be removed below, with the only marks on disk.
                self._keep_marks(each)
            for segment in tuple(each.segments):
                done = common.covers(segment.first_sequence, segment.next_sequence - 1)
                if done and segment is not each.active:
                    self.storage.remove(segment)
                    each.segments.remove(segment)
        except OSError as exc:
            # The next batch that is taken tries it again. Meanwhile the positions say that it is taken.
            self.fail(exc)
        self.trim(each)
        try:
            self._write_positions(each)
        except OSError as exc:
            self.fail(exc)

    def trim(self, each: SignalLog) -> None:
        """Let the positions begin at the oldest block."""
        # What is in a directory that is not open yet has lower numbers, and is not taken.
        if self.storage.is_open:
            each.trim_positions()

    def _keep_marks(self, each: SignalLog) -> None:
        """Begin a segment, which begins with the marks. Raises OSError."""
        following = each.segments[-1].next_sequence
        segment = self.storage.create(each.signal, each.next_number, following)
        each.next_number += 1
        self._append(each, segment, beginning(each, segment.marker, following, self.clock()))
        each.segments.append(segment)
        each.active = segment

    # Memory

    def _remember(self, each: SignalLog, blocks: Sequence[Block]) -> None:
        each.memory.extend(blocks)
        self.memory_bytes += sum(len(block.frame) for block in blocks)
        while self.memory_bytes > min(MEMORY_BYTES, self.max_bytes // 4):
            loser = next(log_ for signal in ORDER if (log_ := self.logs[signal]).memory)
            block = loser.memory.popleft()
            self.memory_bytes -= len(block.frame)
            loser.mark_of(block)
            if block.sequence not in loser.taken_by_all():
                loser.drop(Count(block.items, block.raw), self.clock())
            self.trim(loser)
            loser.count_again()

    def _write_back(self, each: SignalLog) -> None:
        while each.memory:
            size = 0
            blocks: list[Block] = []
            for block in each.memory:
                size += len(block.frame) + HEADER_BYTES
                if blocks and (
                    size > min(_WRITE_BACK_BYTES, self.segment_bytes) or block.sequence != blocks[-1].sequence + 1
                ):
                    break
                blocks.append(block)
            self._write(each, blocks)
            for block in blocks:
                each.memory.popleft()
                self.memory_bytes -= len(block.frame)
        if each.marks_unwritten:
            self._write_marks(each)
        if each.positions_unwritten:
            self._write_positions(each)


def _removable(each: SignalLog) -> int:
    """Segments that eviction may remove: not one that only holds the marks."""
    return len(each.segments) - (len(each.segments) == 1 and each.segments[0].is_empty)
