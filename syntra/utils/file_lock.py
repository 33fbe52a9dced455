"""Ensures that only one process runs: an exclusive flock on a file that contains its holder's pid."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from syntra.utils.errors import AgentError


class Locked(AgentError):
    """Another process holds the lock. `holder` is the pid in the file, None when the file contains no valid pid."""

    def __init__(self, path: Path, holder: int | None) -> None:
        self.path = path
        self.holder = holder
        who = "another process" if holder is None else f"process {holder}"
        super().__init__(f"cannot lock {path}: {who} holds it; stop that process or wait for it to end")


class FileLock:
    """An acquired lock. Release it, leave the `with` block, or end the process: the kernel frees it in every case.

    The file stays: removing it would let two processes lock two files of the same name. The lock belongs to the open
    file (flock(2)): a child forked without exec shares it, an exec'd child does not.
    """

    def __init__(self, path: Path, handle: int) -> None:
        """Use `acquire`; `handle` is a descriptor that holds the flock."""
        self.path = path
        self._handle: int | None = handle

    @classmethod
    def acquire(cls, path: Path | str) -> FileLock:
        """Take the lock or fail at once. Raises Locked when it is held (also by this process), AgentError otherwise."""
        path = Path(path)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as exc:
            raise AgentError(f"cannot lock {path}: {exc.strerror or exc}; check the directory") from exc
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise Locked(path, _read_pid(handle)) from exc
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        except OSError as exc:
            os.close(handle)
            raise AgentError(f"cannot lock {path}: {exc.strerror or exc}; check the filesystem") from exc
        except BaseException:
            os.close(handle)
            raise
        return cls(path, handle)

    def release(self) -> None:
        """Release the lock; a second call does nothing."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        try:
            os.ftruncate(handle, 0)  # before unlocking: afterwards the content belongs to the next holder
            fcntl.flock(handle, fcntl.LOCK_UN)
        finally:
            os.close(handle)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def _read_pid(handle: int) -> int | None:
    text = os.pread(handle, 32, 0).strip()
    return int(text) if text.isdigit() else None
