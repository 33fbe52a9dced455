"""A log file that the engine writes and rotates: opened, recognised again after a restart, and read from any place."""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

log = logging.getLogger(__name__)

FINGERPRINT_BYTES = 1024
_LEAST_FINGERPRINT = 64
"""Two files with fewer equal bytes may be different ones."""
MAX_ROTATED = 100
_COPY_BYTES = 256 * 1024


class Place(NamedTuple):
    """A place in a file, as marks have it. Device and inode are numbers that another file may get later."""

    device: int
    inode: int
    known_bytes: int
    """How many bytes the fingerprint is of."""
    fingerprint: int
    offset: int


class LogFile:
    """One open file. Its name may change or vanish; what it holds can be read as long as it is open."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        found = os.fstat(handle)
        self.device = found.st_dev
        self.inode = found.st_ino
        self._known = 0
        self._fingerprint = 0

    @classmethod
    def open(cls, path: str) -> LogFile:
        """Open a file. Raises OSError; links are not followed, and nothing but regular files is opened."""
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        return cls(handle)

    @classmethod
    def open_compressed(cls, path: str) -> LogFile:
        """Decompress a file of the engine's into a temporary one. Raises OSError, EOFError and zlib.error."""
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as packed, gzip.open(packed) as content, tempfile.TemporaryFile() as plain:
            shutil.copyfileobj(content, plain, _COPY_BYTES)
            plain.flush()
            return cls(os.dup(plain.fileno()))

    def close(self) -> None:
        """Close it. What is known of it stays."""
        if self._handle >= 0:
            self.place(0)
            os.close(self._handle)
            self._handle = -1

    def size(self) -> int:
        """Its size now."""
        return os.fstat(self._handle).st_size

    def read(self, size: int, offset: int) -> bytes:
        """Bytes from a place; fewer at the end."""
        return os.pread(self._handle, size, offset)

    def place(self, offset: int) -> Place:
        """A place in it, to find it again."""
        if self._known < FINGERPRINT_BYTES and self._handle >= 0:
            first = self.read(FINGERPRINT_BYTES, 0)
            self._known, self._fingerprint = len(first), crc32(first)
        return Place(self.device, self.inode, self._known, self._fingerprint, offset)

    def was_replaced(self) -> bool:
        """Whether it was emptied and written again since `place` was last called."""
        return crc32(self.read(self._known, 0)) != self._fingerprint if self._known else False

    def forget(self) -> None:
        """Forget the fingerprint: the file has new content."""
        self._known = 0

    def has(self, place: Place) -> bool:
        """Whether the place is in this file, judged by content."""
        if self.size() < max(place.offset, place.known_bytes):
            return False
        return crc32(self.read(place.known_bytes, 0)) == place.fingerprint

    def is_same(self, other: os.stat_result) -> bool:
        """Whether `other` is of this file."""
        return self.inode == other.st_ino and self.device == other.st_dev


def open_all(path: str, *, compressed: bool = False) -> list[LogFile]:
    """The file and the ones that the engine has rotated away (`.1`, `.2`, …), the oldest first; maybe none.

    Compressed ones (`.1.gz`) are left out unless they are asked for: they are decompressed at once. Raises OSError when
    a file cannot be read.
    """
    while True:
        files = _open_once(path, compressed=compressed)
        try:
            current = os.stat(path)
        except FileNotFoundError:
            return files
        if files and files[-1].is_same(current):
            return files
        # It was rotated in between: what was opened may have a gap.
        for one in files:
            one.close()


def _open_once(path: str, *, compressed: bool) -> list[LogFile]:
    found: list[LogFile] = []
    # The newest first: a rotation moves files to higher numbers, so one is seen twice, never not at all.
    for number in range(MAX_ROTATED):
        name = f"{path}.{number}" if number else path
        try:
            opened = LogFile.open(name)
        except FileNotFoundError:
            if not number:
                continue
            # The engine removes the file only when it has all of the compressed one.
            older = _open_compressed(f"{name}.gz") if compressed else None
            if older is None:
                break
            opened = older
        if found and (opened.device, opened.inode) == (found[-1].device, found[-1].inode):
            opened.close()
            continue
        found.append(opened)
    found.reverse()
    return found


def _open_compressed(name: str) -> LogFile | None:
    try:
        return LogFile.open_compressed(name)
    except FileNotFoundError:
        return None
    except (gzip.BadGzipFile, EOFError, zlib.error) as damaged:
        log.warning("cannot read a compressed log file", extra={"path": name, "reason": str(damaged)})
        return None


def find(files: Sequence[LogFile], place: Place) -> int | None:
    """Which file has the place; None when it is in none of them.

    The inode decides if the content agrees. Elsewhere (the data root was moved), the content alone does, if it is in
    one file only.
    """
    matching = [at for at, one in enumerate(files) if one.has(place)]
    for at in matching:
        if (files[at].device, files[at].inode) == (place.device, place.inode):
            return at
    if place.known_bytes >= _LEAST_FINGERPRINT and len(matching) == 1:
        return matching[0]
    return None


def can_read(path: str) -> bool:
    """Whether the folder of a log file can be read, whether or not the file is there yet."""
    return bool(path) and os.access(Path(path).parent, os.R_OK | os.X_OK)
