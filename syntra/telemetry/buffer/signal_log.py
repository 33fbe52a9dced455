"""All entries of one signal: its segments in order, the blocks that no disk took, and what each consumer has taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from syntra.model.fields import Json
from syntra.telemetry.buffer.entry import Marks, decode_block_marks
from syntra.telemetry.buffer.intervals import Interval, Intervals
from syntra.telemetry.buffer.segment import Block, Count, Segment
from syntra.telemetry.signals import Signal


class Feed:
    """What one reader has to know about one signal."""

    def __init__(self) -> None:
        self.out = Intervals()
        """Numbers of the blocks that the reader's owner has and has not answered for."""
        self.items = 0
        self.raw = 0
        self.is_stale = True
        """Whether `items` and `raw` must be counted again."""
        self.oldest: tuple[int, int] = (0, 0)
        """Number and time of a block whose time was read."""


class SignalLog:
    """State of one signal. The ring's lock protects it."""

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self.segments: list[Segment] = []
        self.active: Segment | None = None
        """The last segment, when it takes more entries."""
        self.memory: deque[Block] = deque()
        """Blocks that no disk took, newer than those of the segments."""
        self.next_sequence = 1
        self.next_number = 1
        """Number of the next segment's file."""
        self.taken: dict[str, Intervals] = {}
        self.stored_positions: dict[str, Intervals] = {}
        """The newest positions found on disk, while the directory is read."""
        self.feeds: dict[str, Feed] = {}
        self.marks: dict[str, Json] = {}
        """How far the sources of what is on disk were read."""
        self.marks_unwritten = False
        self.positions_unwritten = False
        self.appended_items = 0
        self.appended_raw = 0
        self.dropped = Count(0, 0)
        self.dropped_at_ns = 0
        self.lost_blocks = 0

    @property
    def first_sequence(self) -> int:
        """Number of the oldest block; the next number when there is none."""
        if self.segments:
            return self.segments[0].first_sequence
        return self.memory[0].sequence if self.memory else self.next_sequence

    def taken_by_all(self) -> Intervals:
        """What no consumer needs any more; nothing when there are no consumers."""
        everyone = iter(self.taken.values())
        common = next(everyone, Intervals())
        for taken in everyone:
            common = common.intersection(taken)
        return common

    def unread(self, consumer: str, out: Intervals = Intervals()) -> tuple[Interval, ...]:  # noqa: B008 – immutable
        """The numbers that a consumer has neither taken nor got."""
        taken = self.taken.get(consumer)
        if taken is None:
            return out.gaps(self.first_sequence, self.next_sequence - 1)
        return (taken.union(out) if out else taken).gaps(self.first_sequence, self.next_sequence - 1)

    def count(self, ranges: tuple[Interval, ...]) -> Count:
        """Items and bytes in ranges of numbers. A segment that cannot be read counts wholly."""
        items = raw = 0
        for segment in self.segments:
            counted = count_or_all(segment, ranges)
            items += counted.items
            raw += counted.raw
        for block in self.memory:
            if any(first <= block.sequence <= last for first, last in ranges):
                items += block.items
                raw += block.raw
        return Count(items, raw)

    def drop(self, lost: Count, at_ns: int) -> None:
        """Count what is removed before every consumer has taken it."""
        if lost.items:
            self.dropped = Count(self.dropped.items + lost.items, self.dropped.raw + lost.raw)
            self.dropped_at_ns = at_ns

    def mark(self, marks: Marks) -> None:
        """Take changes of marks, whose blocks are on disk or gone."""
        for name, value in marks.items():
            if value is None:
                self.marks.pop(name, None)
            else:
                self.marks[name] = value

    def mark_of(self, block: Block) -> None:
        """Take the marks of a block that was in memory only and is no more."""
        if block.marks:
            self.mark(decode_block_marks(block.marks))
            self.marks_unwritten = True

    def trim_positions(self) -> None:
        """Let positions begin at the oldest block, which keeps them short."""
        first = self.first_sequence
        self.taken = {name: taken.add(0, first - 1) for name, taken in self.taken.items()}

    def count_again(self) -> None:
        """Have the readers count what is left."""
        for feed in self.feeds.values():
            feed.is_stale = True

    def segment_of(self, sequence: int) -> Segment | None:
        """The segment with a number, or with the next one above it; None if memory has it."""
        return next((segment for segment in self.segments if sequence < segment.next_sequence), None)


def count_or_all(segment: Segment, ranges: Iterable[Interval]) -> Count:
    """Items and bytes of a segment in ranges of numbers; all of them if it cannot be read."""
    try:
        return segment.count(ranges)
    except OSError:
        return Count(segment.items, segment.raw)
