"""Reading a small file that a person wrote: bounded, regular, without ever blocking on a pipe."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen


class FileProblem(AgentError):
    """Why a file cannot be read, as a reason without its path; callers put it into their own sentence."""


class FileMissing(FileProblem):
    """The path leads nowhere."""


class FileForbidden(FileProblem):
    """The path may exist, but not for this user."""


@frozen
class SmallFile:
    """What was read, and the permission bits (0o600) of the very file it came from."""

    data: bytes
    mode: int


def read_small(path: Path, *, limit: int) -> SmallFile:
    """The whole file, at most `limit` bytes.

    Blocking, but only for as long as a disk takes: O_NONBLOCK keeps a FIFO from waiting for a writer.
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
