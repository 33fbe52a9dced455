"""One file of the ring: entries appended one behind the other, and a sparse index of them in memory."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from syntra.model.fields import Json
from syntra.telemetry.buffer import entry
from syntra.telemetry.buffer.disk import Disk
from syntra.telemetry.buffer.intervals import Intervals
from syntra.telemetry.signals import Signal

_NAME = re.compile(r"(?P<signal>[a-z]+)-(?P<number>[0-9a-f]{12})-(?P<marker>[0-9a-f]{8})\.ring")
_INDEX_EVERY = 64 * 1024
_CHUNK = 128 * 1024
_RESUME_PLACES = 8
# Larger files are none of the ring: an entry takes at most a quarter of the budget, which is far below this.
_MAX_FILE = 1 << 30


class Block(NamedTuple):
    """A numbered block, read back."""

    sequence: int
    items: int
    raw: int
    at_ns: int
    frame: bytes
    marks: bytes = b""
    """Encoded; only of a block that is not written yet."""


class Stored(NamedTuple):
    """What a segment says beside its blocks: positions, None without any, and changes of marks."""

    positions: dict[str, Intervals] | None
    marks: list[tuple[bool, dict[str, Json]]]
    """Oldest first; true for one that replaces all before it."""


class Count(NamedTuple):
    """Items, and their bytes before compression."""

    items: int
    raw: int


def parse_name(name: str) -> tuple[Signal, int, bytes] | None:
    """Signal, number and marker from a segment's file name; None for any other file."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    try:
        signal = Signal(found["signal"])
    except ValueError:
        return None
    return signal, int(found["number"], 16), bytes.fromhex(found["marker"])


class Segment:
    """An open segment. Not thread-safe but for `read_blocks`, for which the caller holds a pin.

    `size` is where the last good entry ends. Bytes beyond it in the file, left by a failed write, do not count.
    """

    def __init__(self, disk: Disk, handle: int, name: str, marker: bytes, first_sequence: int) -> None:
        self._disk = disk
        self.handle = handle
        self.name = name
        self.marker = marker
        self.size = 0
        self.first_sequence = first_sequence
        self.next_sequence = first_sequence
        """The number behind the last block; equal to the first when there are none."""
        self.items = 0
        self.raw = 0
        self.first_at_ns = 0
        self.damaged = 0
        """Bytes that are no entries, with entries behind them."""
        self.tail = 0
        """Bytes behind the last good entry that could not be cut."""
        self.dirty = False
        """Whether it has something that is not synced."""
        self.is_writable = True
        self.read_failures = 0
        self._index_sequences = [first_sequence]
        self._index_offsets = [0]
        self._resume: dict[int, int] = {}
        self._pins = 0
        self._removed = False

    @classmethod
    def create(cls, disk: Disk, directory: int, signal: Signal, number: int, next_sequence: int) -> Segment:
        """Create the file of a new segment. Raises OSError."""
        marker = os.urandom(entry.MARKER_BYTES)
        name = f"{signal.value}-{number:012x}-{marker.hex()}.ring"
        return cls(disk, disk.create(directory, name), name, marker, next_sequence)

    @classmethod
    def load(cls, disk: Disk, directory: int, name: str, marker: bytes, next_sequence: int) -> tuple[Segment, Stored]:
        """Open an existing segment and check every entry; also the last positions and the marks in it.

        Blocks below `next_sequence` were read from an earlier segment and do not count. Raises OSError.
        """
        try:
            handle, is_writable = disk.open(directory, name, writable=True), True
        except OSError:
            handle, is_writable = disk.open(directory, name, writable=False), False
        segment = cls(disk, handle, name, marker, next_sequence)
        segment.is_writable = is_writable
        try:
            stored = segment._load()
        except BaseException:
            disk.close(handle)
            raise
        return segment, stored

    def _load(self) -> Stored:
        size = self._disk.size(self.handle)
        if size > _MAX_FILE:
            raise OSError(f"{size} bytes are too many for a segment")
        data = self._read(0, size)
        found = entry.scan(data, self.marker)
        positions = None
        marks: list[tuple[bool, dict[str, Json]]] = []
        for each in found.entries:
            if each.kind == entry.POSITIONS:
                try:
                    positions = entry.decode_positions(data[each.data_start : each.end])
                except ValueError:
                    continue
                self.skip_to(each.sequence)
            elif each.kind == entry.BLOCK and each.sequence >= self.next_sequence:
                self.skip_to(each.sequence)
                self.note(each.sequence, each.items, each.raw, each.at_ns, each.start)
                if each.marks:
                    with contextlib.suppress(ValueError):
                        marks.append((False, entry.decode_block_marks(data[each.marks_start : each.end])))
            elif each.kind == entry.MARKS:
                with contextlib.suppress(ValueError):
                    marks.append((True, entry.decode_marks(data[each.data_start : each.end])))
        self.size, self.damaged, self.tail = found.end, found.damaged, size - found.end
        return Stored(positions, marks)

    def skip_to(self, sequence: int) -> None:
        """Take note that the next block has this number, if it is not lower than expected."""
        if sequence > self.next_sequence:
            if self.is_empty:
                self.first_sequence = sequence
                self._index_sequences[0] = sequence
            self.next_sequence = sequence

    @property
    def is_empty(self) -> bool:
        """Whether it has no block."""
        return self.next_sequence == self.first_sequence

    def note(self, sequence: int, items: int, raw: int, at_ns: int, offset: int) -> None:
        """Count a block that is at `offset`."""
        if self.items == 0:
            self.first_at_ns = at_ns
        if offset - self._index_offsets[-1] >= _INDEX_EVERY:
            # A reader in another thread searches the numbers, then takes the offset.
            self._index_offsets.append(offset)
            self._index_sequences.append(sequence)
        self.next_sequence = sequence + 1
        self.items += items
        self.raw += raw

    def write(self, data: bytes) -> None:
        """Append whole entries. After OSError none of them counts; `cut` then removes what was written."""
        written = self._disk.write(self.handle, data)
        if written < len(data):
            view = memoryview(data)[written:]
            while view:
                written = self._disk.write(self.handle, view)
                if written == 0:
                    raise OSError(errno.EIO, "the file takes no more bytes")
                view = view[written:]
        self.size += len(data)
        self.dirty = True

    def sync(self) -> None:
        """Wait until all of it is on the disk. Raises OSError."""
        self._disk.sync(self.handle)

    def cut(self) -> bool:
        """Remove what is behind the last good entry; whether that worked and more can be appended."""
        try:
            self._disk.truncate(self.handle, self.size)
            self.tail = 0
        except OSError:
            with contextlib.suppress(OSError):
                self.tail = self._disk.size(self.handle) - self.size
            return False
        return True

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return self.size + self.tail

    def read_blocks(self, first: int, last: int, *, max_items: int, max_raw: int) -> list[Block]:
        """Blocks with numbers from `first` to `last`, as many as fit; the first one fits always. Raises OSError.

        Damage is skipped, with the blocks in it.
        """
        size = self.size
        first = max(first, self.first_sequence)
        offset = self._offset_of(first)
        chunk = _CHUNK
        blocks: list[Block] = []
        items = raw = 0
        while offset < size:
            data = self._read(offset, min(chunk, size - offset))
            whole = offset + len(data) >= size
            end = 0
            for found in entry.walk(data, self.marker, whole=whole):
                kind, block_items, block_raw, sequence, at_ns, start, end, marks = found
                if kind != entry.BLOCK or sequence < first:
                    continue
                items += block_items
                raw += block_raw
                if sequence > last or (blocks and (items > max_items or raw > max_raw)):
                    self._remember(sequence, offset + start)
                    return blocks
                frame = data[start + entry.HEADER_BYTES : end - marks]
                blocks.append(Block(sequence, block_items, block_raw, at_ns, frame))
            if whole:
                break
            if end == 0:
                # Either one entry larger than the chunk, or damage, for which the rest of the segment is searched.
                needed = entry.incomplete_bytes(data, 0)
                chunk = needed if len(data) < needed <= size - offset else size - offset
            else:
                offset += end
                chunk = _CHUNK
        return blocks

    def _offset_of(self, sequence: int) -> int:
        """Where a block begins, or a place before it."""
        exact = self._resume.get(sequence)
        if exact is not None:
            return exact
        return self._index_offsets[bisect_right(self._index_sequences, sequence) - 1]

    def _remember(self, sequence: int, offset: int) -> None:
        """The next batch begins there."""
        if len(self._resume) >= _RESUME_PLACES:
            self._resume.clear()
        self._resume[sequence] = offset

    def count(self, ranges: Iterable[tuple[int, int]]) -> Count:
        """Items and bytes of the blocks with numbers in `ranges`. Raises OSError."""
        spans = [(max(a, self.first_sequence), min(b, self.next_sequence - 1)) for a, b in ranges]
        spans = [span for span in spans if span[0] <= span[1]]
        if not spans:
            return Count(0, 0)
        if spans == [(self.first_sequence, self.next_sequence - 1)]:
            return Count(self.items, self.raw)
        wanted = Intervals(spans)
        found = entry.scan(self._read(0, self.size), self.marker).entries
        counted = [each for each in found if each.kind == entry.BLOCK and each.sequence in wanted]
        return Count(sum(each.items for each in counted), sum(each.raw for each in counted))

    def _read(self, offset: int, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            part = self._disk.read(self.handle, size, offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pin(self) -> None:
        """Keep the file open, even when it is removed, until `unpin`."""
        self._pins += 1

    def unpin(self) -> None:
        """Release a pin."""
        self._pins -= 1
        if self._removed and self._pins == 0:
            self._disk.close(self.handle)

    def remove(self) -> None:
        """Close the file as soon as there is no pin; its name is the caller's matter."""
        self._removed = True
        if self._pins == 0:
            self._disk.close(self.handle)
