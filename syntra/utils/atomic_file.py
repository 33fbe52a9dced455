"""Replaces a file atomically: readers see either the old or the new content, complete, even after a crash."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from syntra.utils.errors import AgentError

_NEXT_STEPS = {
    errno.ENOSPC: "free space on that filesystem",
    errno.EDQUOT: "raise the quota or free space on that filesystem",
    errno.EFBIG: "raise the file size limit (ulimit -f)",
    errno.ENOENT: "create the directory first",
    errno.EROFS: "remount the filesystem writable or choose another path",
    errno.EACCES: "give the agent's user write access to the directory",
    errno.EPERM: "give the agent's user write access to the directory",
    errno.EISDIR: "choose a path that is not a directory",
}


def write(path: Path | str, data: bytes, mode: int = 0o600, *, durable: bool = True) -> None:
    """Replace `path` with `data` durably: temporary file, fsync, rename, fsync of the directory.

    `mode` applies regardless of the umask. A symlink at `path` is replaced, not followed. If anything fails before the
    rename, the old file stays and the temporary file is removed; a SIGKILL may leave a `.….tmp` file, which later
    writes ignore. If the directory's fsync fails, the new content is already visible but may not survive a power cut.
    Without `durable` nothing is synced: for files that a power cut may lose or truncate.
    Raises AgentError; its `__cause__` is the OSError. Blocks on the disk: call it from a thread where that matters.
    """
    path = Path(path)
    try:
        # All calls use one directory descriptor, so nothing can replace the directory in between.
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _replace(directory, path.name, data, mode, durable=durable)
            if durable:
                os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as exc:
        step = _NEXT_STEPS.get(exc.errno or 0, "check the disk and the path")
        raise AgentError(f"cannot write {path}: {exc.strerror or exc}; {step}") from exc


def _replace(directory: int, name: str, data: bytes, mode: int, *, durable: bool) -> None:
    # Not derived from `name`: a name of 255 bytes has no room for a suffix. Watchers of *.yml ignore *.tmp.
    temp = f".{secrets.token_hex(8)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temp, flags, 0o600, dir_fd=directory)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
            os.fchmod(handle, mode)
            if durable:
                os.fsync(handle)
        finally:
            os.close(handle)
        os.rename(temp, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temp, dir_fd=directory)
        raise
