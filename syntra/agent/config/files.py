"""Reads a small file that a person wrote: bounded, regular files only, never blocking on a FIFO."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen


class FileProblem(AgentError):
    """The reason why a file cannot be read, without its path; callers add it to their own message."""


class FileMissing(FileProblem):
    """The path does not exist."""


class FileForbidden(FileProblem):
    """This user may not read the path, which may or may not exist."""


@frozen
class SmallFile:
    """The content, and the permission bits (such as 0o600) of the file that was read."""

    data: bytes
    mode: int


def read_small(path: Path, *, limit: int) -> SmallFile:
    """Read the whole file; at most `limit` bytes.

    Blocks only on the disk: O_NONBLOCK keeps the open of a FIFO from waiting for a writer.
    Raises FileMissing, FileForbidden or FileProblem.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISDIR(status.st_mode):
                raise FileProblem("it is a directory")
            if not stat.S_ISREG(status.st_mode):
                raise FileProblem("it is not a regular file")
            data = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise FileMissing("there is no such file") from exc
    except PermissionError as exc:
        raise FileForbidden("permission denied") from exc
    except IsADirectoryError as exc:
        raise FileProblem("it is a directory") from exc
    except OSError as exc:
        raise FileProblem(exc.strerror or "it cannot be read") from exc
    except ValueError as exc:  # a NUL in the path
        raise FileProblem("its name holds a NUL character") from exc
    if len(data) > limit:
        raise FileProblem(f"it is larger than {limit // 1024} KiB")
    return SmallFile(data=data, mode=stat.S_IMODE(status.st_mode))
