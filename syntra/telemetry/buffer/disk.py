"""The system calls of the ring, and its private directory."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path


class Disk:
    """The system calls that can fail. Tests pass a subclass whose disk is full, read-only or broken.

    All methods raise OSError. Files are regular files; symbolic links are not followed.
    """

    def open_directory(self, path: Path) -> int:
        """Open a directory, creating it with mode 0700; an existing one gets that mode."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if stat.S_IMODE(os.fstat(handle).st_mode) != 0o700:
                os.fchmod(handle, 0o700)
            # One process at a time: two writers would give the same numbers to different entries.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(handle)
            raise OSError(errno.EBUSY, "the directory is in use by another process") from exc
        except OSError:
            os.close(handle)
            raise
        return handle

    def names(self, directory: int) -> list[str]:
        """The names of all files."""
        return os.listdir(directory)

    def create(self, directory: int, name: str) -> int:
        """Create a file, readable by its owner only, for appending."""
        return os.open(
            name,
            os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
            dir_fd=directory,
        )

    def open(self, directory: int, name: str, *, writable: bool) -> int:
        """Open a regular file."""
        # O_NONBLOCK: opening a FIFO would wait for its other end.
        mode = os.O_RDWR | os.O_APPEND if writable else os.O_RDONLY
        handle = os.open(name, mode | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.EINVAL, "not a regular file")
        return handle

    def size(self, handle: int) -> int:
        """Size of an open file."""
        return os.fstat(handle).st_size

    def size_of(self, directory: int, name: str) -> int:
        """Size of a file by name; of a link, its own."""
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_size

    def write(self, handle: int, data: bytes | memoryview) -> int:
        """Append; returns how many bytes the file took, which may be fewer."""
        return os.write(handle, data)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Read at an offset; fewer bytes at the end of the file."""
        return os.pread(handle, size, offset)

    def truncate(self, handle: int, size: int) -> None:
        """Cut a file."""
        os.ftruncate(handle, size)

    def sync(self, handle: int) -> None:
        """Wait until the data of a file is on the disk, or the names of a directory."""
        os.fdatasync(handle)

    def unlink(self, directory: int, name: str) -> None:
        """Remove a file."""
        os.unlink(name, dir_fd=directory)

    def rename(self, directory: int, name: str, new_name: str) -> None:
        """Rename within the directory."""
        os.rename(name, new_name, src_dir_fd=directory, dst_dir_fd=directory)

    def close(self, handle: int) -> None:
        """Close a file or directory."""
        os.close(handle)
