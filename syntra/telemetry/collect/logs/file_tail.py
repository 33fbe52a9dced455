"""Reads one container's log from the engine's files, across rotation and restarts of the agent.

Where it stands is a place in a file for each of stdout and stderr: the first line that is not in a record yet. A line
that waits for its continuation is not, so after a crash it is read again, and lines of the other stream behind it that
were kept already are left out.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from syntra.model.fields import Json
from syntra.telemetry.collect.logs.json_file import Chunk, decode, start_of_last, start_of_line
from syntra.telemetry.collect.logs.line_reader import CONTINUED, STREAMS, LineReader
from syntra.telemetry.collect.logs.log_file import LogFile, Place, find, open_all

log = logging.getLogger(__name__)

FIRST_CHUNK_BYTES = 64 * 1024
MAX_CHUNK_BYTES = 512 * 1024
MAX_LINE_BYTES = 4 * 1024 * 1024
"""A longer line in the file is damage: the engine writes at most 16 KiB of text in one."""
LINES_AT_ONCE = 900
"""About how many lines a chunk has: a batch of telemetry should not have more than 1000 items."""

_STEADY_NS = 1_000_000_000

_Spot = tuple[LogFile, int]


class FileTail:
    """One container's files. Not thread-safe. `read` raises OSError when they cannot be read."""

    def __init__(self, path: str, reader: LineReader, mark: Json, *, from_now: bool) -> None:
        """`mark` is what `mark` returned before, None at first; then `from_now` leaves out what is there already."""
        self.path = path
        self.reader = reader
        self._mark = mark
        self._from_now = from_now
        self._files: deque[LogFile] = deque()
        self._offset = 0
        self._chunk_bytes = FIRST_CHUNK_BYTES
        self._at: dict[str, _Spot] = {}
        self._skip: dict[str, _Spot] = {}
        self.unreadable = 0
        """Lines that were damaged."""
        self.invalid = 0
        """Characters that the engine wrote in place of bytes that are no UTF-8."""
        self.is_last = False
        self.is_open = False
        """A file has all that was written: more does not come from elsewhere."""
        self.has_gap = False
        """Whether lines are missing before what is read next; the caller resets it."""
        # The file at its end, if it is quiet: one look tells that nothing has happened since.
        self._at_end: tuple[int, int, int, int] | None = None

    def read(self) -> list[bytes] | None:
        """The records that the next lines complete, perhaps none; None at the end of what is written."""
        if not self._files and not self._open():
            return None
        if self._at_end is not None and self._at_end == self._now():
            return None
        self._at_end = None
        while True:
            data = self._next_lines()
            if data:
                return self._take(data)
            if not self._next_file():
                return None

    def flush(self, *, is_end: bool) -> list[bytes]:
        """The records of what is not complete: nothing has followed for a while, or the container has ended."""
        records = self.reader.end() if is_end else self.reader.flush()
        if self._files:
            self._settle(self._files[0], self._offset)
        return records

    def mark(self) -> Json:
        """Where to continue after a restart, once the records of `read` are kept; None before the file is there."""
        if not self._at:
            return self._mark
        out, err = (list(self._place(name)) for name in STREAMS)
        return [out] if out == err else [out, err]

    def close(self) -> None:
        """Close all files."""
        for one in self._files:
            one.close()
        self._files.clear()
        self._at_end = None

    def _place(self, stream: str) -> Place:
        file, offset = self._skip.get(stream) or self._at[stream]
        return file.place(offset)

    # Opening

    def _open(self) -> bool:
        files = open_all(self.path)
        if not files:
            # What comes later was not there before.
            self._from_now = False
            return False
        if self._needs_older(files):
            for one in files:
                one.close()
            files = open_all(self.path, compressed=True)
        spots = self._continue(files) if self._mark is not None else self._begin(files)
        first = min(spots, key=lambda spot: (files.index(spot[0]), spot[1]))
        start = files.index(first[0])
        for one in files[:start]:
            one.close()
        self._files = deque(files[start:])
        self._offset = first[1]
        self._at = dict.fromkeys(STREAMS, first)
        self._skip = {name: spot for name, spot in zip(STREAMS, spots, strict=True) if spot != first}
        return True

    def _needs_older(self, files: Sequence[LogFile]) -> bool:
        """Whether to look into compressed files, too."""
        if self._mark is None:
            return not self._from_now
        places: Any = self._mark
        return any(find(files, Place(*given)) is None for given in places)

    def _begin(self, files: Sequence[LogFile]) -> list[_Spot]:
        if not self._from_now:
            return [(files[0], 0)] * 2
        last = files[-1]
        return [(last, _line_border(last, last.size()))] * 2

    def _continue(self, files: Sequence[LogFile]) -> list[_Spot]:
        spots: list[_Spot] = []
        places: Any = self._mark
        for given in (places * 2)[:2] if len(places) == 1 else places:
            place = Place(*given)
            at = find(files, place)
            if at is None:
                self.has_gap = True
            spots.append((files[0], 0) if at is None else (files[at], place.offset))
        return spots

    # Reading

    def _next_lines(self) -> bytes:
        """Whole lines from the file at hand; nothing when it has none now."""
        file = self._files[0]
        if file.was_replaced():
            self._was_emptied(file)
        size = self._chunk_bytes
        while True:
            data = file.read(size, self._offset)
            end = data.rfind(b"\n") + 1
            if end:
                return data[:end]
            if len(data) < size:
                return b""
            if size >= MAX_LINE_BYTES:
                self._offset += len(data)
                self.unreadable += 1
                continue
            size *= 4

    def _take(self, data: bytes) -> list[bytes]:
        file, base = self._files[0], self._offset
        chunk = decode(data)
        count = len(chunk.lines) + chunk.unreadable
        self.unreadable += chunk.unreadable
        if not "".join([line[0] for line in chunk.lines]).isascii():
            self.invalid += data.count(b"\\ufffd")
        if self._skip:
            chunk = self._without_kept(chunk, data, file, base)
        records = self.reader.feed(chunk.lines)
        self._offset = base + len(data)
        self._chunk_bytes = min(MAX_CHUNK_BYTES, max(4096, len(data) // count * LINES_AT_ONCE))
        for name in STREAMS:
            index = self.reader.open_since(name)
            if index is None:
                self._at[name] = file, self._offset
            elif index != CONTINUED:
                if chunk.starts is not None:
                    start = chunk.starts[index]
                elif index == count - 1:
                    start = start_of_last(data)
                else:
                    start = start_of_line(data, index)
                self._at[name] = file, base + start
        return records

    def _without_kept(self, chunk: Chunk, data: bytes, file: LogFile, base: int) -> Chunk:
        """Leave out the lines of a stream that are in records already."""
        starts = chunk.starts
        if starts is None:
            lengths = map(len, data.split(b"\n"))
            starts, at = [], 0
            for length in lengths:
                starts.append(at)
                at += length + 1
        rest = [
            (line, start)
            for line, start in zip(chunk.lines, starts, strict=False)
            if not self._is_kept(line[1], file, base + start)
        ]
        for name, (until, offset) in list(self._skip.items()):
            if until is file and base + len(data) >= offset:
                del self._skip[name]
        return Chunk([line for line, _ in rest], [start for _, start in rest], chunk.unreadable)

    def _is_kept(self, stream: str, file: LogFile, at: int) -> bool:
        until = self._skip.get(stream)
        return until is not None and (until[0] is not file or at < until[1])

    # The next file

    def _now(self) -> tuple[int, int, int, int] | None:
        try:
            return _identity(os.stat(self.path))
        except OSError:
            return None

    def _next_file(self) -> bool:
        """Whether there is more to read: in the next file, or in this one before it."""
        if len(self._files) > 1:
            self._files.popleft().close()
            self._offset = 0
            self._settle(self._files[0], 0)
            return True
        file = self._files[0]
        try:
            current = os.stat(self.path)
        except FileNotFoundError:
            # Between two names of a rotation, or removed: what is open was read to its end.
            return False
        if file.is_same(current):
            if current.st_size < self._offset:
                self._was_emptied(file)
                return True
            # A time of the file system has steps of some milliseconds: a younger file may change without a new one.
            if current.st_size == self._offset and time.time_ns() - current.st_mtime_ns > _STEADY_NS:
                self._at_end = _identity(current)
            return False
        self._add_newer(file)
        return True

    def _add_newer(self, file: LogFile) -> None:
        files = open_all(self.path)
        place = file.place(self._offset)
        known = next((at for at, one in enumerate(files) if one.inode == file.inode and one.device == file.device), -1)
        if known < 0:
            # It was compressed, and others since it perhaps, too.
            for one in files:
                one.close()
            files = open_all(self.path, compressed=True)
            found = find(files, place)
            self.has_gap = self.has_gap or found is None
            known = -1 if found is None else found
        for one in files[: known + 1]:
            one.close()
        self._files.extend(files[known + 1 :])

    def _settle(self, file: LogFile, offset: int) -> None:
        """Let the streams without an incomplete entry stand where reading continues."""
        for name in STREAMS:
            if self.reader.open_since(name) is None:
                self._at[name] = file, offset

    def _was_emptied(self, file: LogFile) -> None:
        log.warning("a container's log was emptied; it is read from its new beginning", extra={"path": self.path})
        self._offset = 0
        self._skip.clear()
        file.forget()
        self._at = dict.fromkeys(STREAMS, (file, 0))


def _line_border(file: LogFile, size: int) -> int:
    """The end of the last whole line before a place."""
    start = max(0, size - FIRST_CHUNK_BYTES)
    return start + file.read(size - start, start).rfind(b"\n") + 1


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
