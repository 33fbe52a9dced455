"""The entries of all signals within one budget: appending, eviction, positions, and memory when no disk works."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

from syntra.telemetry.buffer import entry
from syntra.telemetry.buffer.blocks import Packed
from syntra.telemetry.buffer.entry import HEADER_BYTES
from syntra.telemetry.buffer.eviction import ORDER, victim
from syntra.telemetry.buffer.intervals import Intervals
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
            self._attach()
        except OSError as exc:
            self.fail(exc)
            for each in self.logs.values():
                # Above every number in the directory, which may become readable later.
                each.next_sequence = max(each.next_sequence, self.clock())

    def append(self, signal: Signal, packed: Sequence[Packed], at_ns: int) -> None:
        """Keep blocks."""
        each = self.logs[signal]
        number = each.next_sequence
        items = raw = 0
        blocks = []
        for frame, block_items, block_raw in packed:
            blocks.append(Block(number, block_items, block_raw, at_ns, frame))
            number += 1
            items += block_items
            raw += block_raw
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
                self._attach()
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

    # Opening

    def _attach(self) -> None:
        for signal, number, marker, name in self.storage.open():
            each = self.logs[signal]
            each.next_number = max(each.next_number, number + 1)
            self._load(each, name, marker)
        for each in self.logs.values():
            self._continue(each)
            self._trim(each)
            each.count_again()
        self._make_room(0)

    def _load(self, each: SignalLog, name: str, marker: bytes) -> None:
        after = each.segments[-1].next_sequence if each.segments else 0
        try:
            segment, positions = self.storage.load(name, marker, after)
        except OSError:
            self.storage.bad_segments += 1
            self.storage.set_aside(name)
            return
        if segment.size == 0 and segment.tail:
            segment.damaged = segment.tail
            self.storage.bad_segments += 1
            self.storage.remove(segment)
            return
        if segment.damaged:
            self.storage.bad_segments += 1
        if positions is not None:
            each.stored_positions = positions
        each.segments.append(segment)

    def _continue(self, each: SignalLog) -> None:
        """Cut what a crash left, and continue behind the last entry."""
        for name, taken in each.stored_positions.items():
            each.taken[name] = each.taken.get(name, Intervals()).union(taken)
        each.stored_positions = {}
        if not each.segments:
            return
        last = each.segments[-1]
        if last.tail:
            tail = last.tail
            if last.cut():
                self.torn_bytes += tail
                self.storage.bytes -= tail
        if last.is_writable and not last.tail and last.size < self.segment_bytes:
            each.active = last
        highest = max((spans[-1][1] for spans in (taken.spans for taken in each.taken.values()) if spans), default=0)
        following = max(last.next_sequence, highest + 1, 1)
        if each.memory and each.memory[0].sequence < following:
            # The clock went back between two starts without a directory. What is in memory gets new numbers.
            each.memory = deque(block._replace(sequence=number) for number, block in enumerate(each.memory, following))
            each.next_sequence = following + len(each.memory)
            for feed in each.feeds.values():
                feed.out = Intervals()
        else:
            each.next_sequence = max(each.next_sequence if each.memory else 1, following)

    # Writing

    def _write(self, each: SignalLog, blocks: Sequence[Block]) -> None:
        size = HEADER_BYTES * len(blocks)
        for block in blocks:
            size += len(block.frame)
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
            entry.pack(marker, entry.BLOCK, frame, items, raw, sequence, at_ns)
            for sequence, items, raw, at_ns, frame in blocks
        ]
        offset = segment.size
        if offset == 0:
            positions = self._positions(each, marker, first)
            parts.insert(0, positions)
            offset = len(positions)
        self._append(each, segment, parts[0] if len(parts) == 1 else b"".join(parts))
        if len(parts) > len(blocks):
            each.positions_unwritten = False
        for sequence, items, raw, at_ns, frame in blocks:
            segment.note(sequence, items, raw, at_ns, offset)
            offset += HEADER_BYTES + len(frame)

    def _write_positions(self, each: SignalLog) -> None:
        """Positions speak of what is on disk: without a segment there is nothing to write."""
        each.positions_unwritten = bool(each.segments)
        if each.segments:
            size = HEADER_BYTES + len(entry.encode_positions(each.taken))
            following = each.memory[0].sequence if each.memory else each.next_sequence
            segment = self._place(each, size, following)
            self._append(each, segment, self._positions(each, segment.marker, following))
            each.positions_unwritten = False

    def _positions(self, each: SignalLog, marker: bytes, next_sequence: int) -> bytes:
        data = entry.encode_positions(each.taken)
        return entry.pack(marker, entry.POSITIONS, data, 0, 0, next_sequence, self.clock())

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
        self._make_room(size + HEADER_BYTES + len(entry.encode_positions(each.taken)))
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

    def _make_room(self, size: int) -> None:
        while self.storage.bytes + size > self.max_bytes:
            if self.storage.free_aside():
                continue
            signal = victim({signal: len(each.segments) for signal, each in self.logs.items()})
            if signal is None:
                return
            self._evict(self.logs[signal])

    def _evict(self, each: SignalLog) -> None:
        segment = each.segments[0]
        unread = each.taken_by_all().gaps(segment.first_sequence, segment.next_sequence - 1)
        lost = count_or_all(segment, unread)
        self.storage.remove(segment)
        each.segments.pop(0)
        if each.active is segment:
            each.active = None
        each.drop(lost, self.clock())
        self._trim(each)
        each.count_again()

    def _release(self, each: SignalLog) -> None:
        """Remove what every consumer has taken, and write the positions."""
        common = each.taken_by_all()
        while each.memory and each.memory[0].sequence in common:
            self.memory_bytes -= len(each.memory.popleft().frame)
        each.positions_unwritten = True
        try:
            for segment in tuple(each.segments):
                done = common.covers(segment.first_sequence, segment.next_sequence - 1)
                if done and segment is not each.active:
                    self.storage.remove(segment)
                    each.segments.remove(segment)
        except OSError as exc:
            # The next batch that is taken tries it again. Meanwhile the positions say that it is taken.
            self.fail(exc)
        self._trim(each)
        try:
            self._write_positions(each)
        except OSError as exc:
            self.fail(exc)

    def _trim(self, each: SignalLog) -> None:
        # What is in a directory that is not open yet has lower numbers, and is not taken.
        if self.storage.is_open:
            each.trim_positions()

    # Memory

    def _remember(self, each: SignalLog, blocks: Sequence[Block]) -> None:
        each.memory.extend(blocks)
        self.memory_bytes += sum(len(block.frame) for block in blocks)
        while self.memory_bytes > min(MEMORY_BYTES, self.max_bytes // 4):
            loser = next(log_ for signal in ORDER if (log_ := self.logs[signal]).memory)
            block = loser.memory.popleft()
            self.memory_bytes -= len(block.frame)
            if block.sequence not in loser.taken_by_all():
                loser.drop(Count(block.items, block.raw), self.clock())
            self._trim(loser)
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
        if each.positions_unwritten:
            self._write_positions(each)
