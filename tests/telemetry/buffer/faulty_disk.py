"""A disk whose calls fail when a test says so, and that can stop in the middle of a write, as a power cut does."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

from syntra.telemetry.buffer.disk import Disk

FULL = errno.ENOSPC
BROKEN = errno.EIO
READ_ONLY = errno.EROFS


class PowerCut(BaseException):
    """The process ends here; nothing behind the failing call runs."""


class FaultyDisk(Disk):
    """A real disk, with faults. It never waits for a sync.

    `failing` maps the name of a method to the errno that it fails with. `short` is how many bytes of each write are
    written before it fails, or before it returns when `write` is not failing. `calls` counts the calls that change
    something; `cut_at` is the number of the call at which the power is cut, after `short` bytes if it is a write. Every
    call behind that one fails too, so that nothing repairs the files. `fail_at` is the number of one call that fails.
    """

    def __init__(self) -> None:
        self.failing: dict[str, int] = {}
        self.short: int | None = None
        self.calls = 0
        self.cut_at: int | None = None
        self.is_cut = False
        self.fail_at: int | None = None

    def open_directory(self, path: Path) -> int:
        self._check("open_directory")
        return super().open_directory(path)

    def names(self, directory: int) -> list[str]:
        self._check("names")
        return super().names(directory)

    def create(self, directory: int, name: str) -> int:
        self._change("create")
        return super().create(directory, name)

    def open(self, directory: int, name: str, *, writable: bool) -> int:
        self._check("open")
        return super().open(directory, name, writable=writable)

    def write(self, handle: int, data: bytes | memoryview) -> int:
        def part() -> None:
            if self.short:
                os.write(handle, data[: self.short])

        self._change("write", part)
        return super().write(handle, data[: self.short] if self.short else data)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        self._check("read")
        return super().read(handle, size, offset)

    def truncate(self, handle: int, size: int) -> None:
        self._change("truncate")
        super().truncate(handle, size)

    def sync(self, handle: int) -> None:
        self._check("sync")

    def unlink(self, directory: int, name: str) -> None:
        self._change("unlink")
        super().unlink(directory, name)

    def rename(self, directory: int, name: str, new_name: str) -> None:
        self._change("rename")
        super().rename(directory, name, new_name)

    def _change(self, name: str, before: Callable[[], None] = lambda: None) -> None:
        self.calls += 1
        if self.cut_at is not None and self.calls >= self.cut_at:
            if not self.is_cut and threading.current_thread() is threading.main_thread():
                before()
                self.is_cut = True
                raise PowerCut
            raise OSError(BROKEN, os.strerror(BROKEN))
        if name in self.failing or self.calls == self.fail_at:
            before()
        if self.calls == self.fail_at:
            raise OSError(FULL, os.strerror(FULL))
        self._check(name)

    def _check(self, name: str) -> None:
        if name in self.failing:
            raise OSError(self.failing[name], os.strerror(self.failing[name]))
