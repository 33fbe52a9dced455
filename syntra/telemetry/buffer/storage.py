"""The directory of the ring: its segments, the damaged ones set aside, and how many bytes they take together."""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from pathlib import Path

from syntra.telemetry.buffer.disk import Disk
from syntra.telemetry.buffer.segment import Segment, Stored, parse_name
from syntra.telemetry.signals import Signal

_ASIDE = ".bad"
_ASIDE_FILES = 2


class Storage:
    """An open directory, or one that cannot be opened yet. The ring's lock protects it.

    Other files in the directory are left alone and do not count.
    """

    def __init__(self, disk: Disk, path: Path, max_bytes: int) -> None:
        self.disk = disk
        self._path = path
        self._max_aside = max_bytes // 8
        self._handle: int | None = None
        self._aside: deque[tuple[str, int]] = deque()
        self._dirty = False
        self.bytes = 0
        """Bytes of all segments and of those set aside."""
        self.bad_segments = 0
        """Segments that were damaged; those set aside in earlier runs do not count."""

    @property
    def is_open(self) -> bool:
        """Whether the directory could be opened."""
        return self._handle is not None

    def open(self) -> list[tuple[Signal, int, bytes, str]]:
        """Open the directory; signal, number, marker and name of every segment, in order. Raises OSError."""
        handle = self.disk.open_directory(self._path)
        try:
            names = self.disk.names(handle)
        except OSError:
            self.disk.close(handle)
            raise
        self._handle = handle
        for name in sorted(names):
            if name.endswith(_ASIDE) and parse_name(name.removesuffix(_ASIDE)):
                self._note_aside(name)
        self._limit_aside()
        parsed = [(*found, name) for name in names if (found := parse_name(name))]
        return sorted(parsed, key=lambda found: (found[1], found[3]))

    def load(self, name: str, marker: bytes, next_sequence: int) -> tuple[Segment, Stored]:
        """Open one segment, and what it says beside its blocks. Raises OSError."""
        segment, stored = Segment.load(self.disk, self._opened(), name, marker, next_sequence)
        self.bytes += segment.file_bytes
        return segment, stored

    def create(self, signal: Signal, number: int, next_sequence: int) -> Segment:
        """Create a segment. Raises OSError."""
        segment = Segment.create(self.disk, self._opened(), signal, number, next_sequence)
        self._dirty = True
        return segment

    def remove(self, segment: Segment) -> None:
        """Remove a segment's file, or set it aside if it is damaged. Raises OSError; the segment then stays."""
        size = segment.file_bytes
        if segment.damaged and self.set_aside(segment.name):
            self._limit_aside()
        else:
            self._unlink(segment.name)
        segment.remove()
        self.bytes -= size

    def set_aside(self, name: str) -> bool:
        """Rename a file so that it is not read as a segment; whether that worked."""
        try:
            self.disk.rename(self._opened(), name, name + _ASIDE)
        except OSError:
            return False
        self._note_aside(name + _ASIDE)
        self._limit_aside()
        return True

    def free_aside(self) -> bool:
        """Remove the oldest of the files set aside; false when there is none."""
        while self._aside:
            name, size = self._aside.popleft()
            self.bytes -= size
            with contextlib.suppress(OSError):
                self._unlink(name)
                return True
        return False

    def sync(self) -> None:
        """Sync the names of new segments. Raises OSError."""
        if self._dirty and self._handle is not None:
            self._dirty = False
            try:
                self.disk.sync(self._handle)
            except OSError:
                self._dirty = True
                raise

    def reopen_if_removed(self) -> bool:
        """Create the directory again if someone removed it; whether that happened. Raises OSError."""
        if self._handle is None or os.fstat(self._handle).st_nlink > 0:
            return False
        handle = self.disk.open_directory(self._path)
        self.disk.close(self._handle)
        self._handle = handle
        return True

    def close(self) -> None:
        """Close the directory, which lets another process open it."""
        if self._handle is not None:
            self.disk.close(self._handle)
            self._handle = None

    def _opened(self) -> int:
        if self._handle is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self._handle

    def _unlink(self, name: str) -> None:
        # It may be gone already, removed by hand.
        with contextlib.suppress(FileNotFoundError):
            self.disk.unlink(self._opened(), name)

    def _note_aside(self, name: str) -> None:
        with contextlib.suppress(OSError):
            size = self.disk.size_of(self._opened(), name)
            self._aside.append((name, size))
            self.bytes += size

    def _limit_aside(self) -> None:
        while len(self._aside) > _ASIDE_FILES or sum(size for _, size in self._aside) > self._max_aside:
            if not self.free_aside():
                break
