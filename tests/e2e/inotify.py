"""What happens in a directory, from the kernel (inotify(7)); the standard library does not have it."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

_HEAD = struct.Struct("iIII")


class Inotify:
    """One descriptor, readable when something happened; `close` it."""

    CREATED = 0x100
    MOVED_IN = 0x80

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self.fd = self._checked(self._library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def add(self, directory: Path, kinds: int) -> None:
        """Tell of these kinds of events in the directory."""
        self._checked(self._library.inotify_add_watch(self.fd, bytes(directory), kinds))

    def read(self) -> list[tuple[int, str]]:
        """What happened since: kind and file name."""
        found = []
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return []
        while data:
            _, kind, _, length = _HEAD.unpack_from(data)
            name = data[_HEAD.size : _HEAD.size + length].rstrip(b"\0").decode()
            found.append((kind, name))
            data = data[_HEAD.size + length :]
        return found

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)

    def _checked(self, answer: int) -> int:
        if answer < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return answer
