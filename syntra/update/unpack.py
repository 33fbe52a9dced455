"""Takes the one expected program out of a release's archive, and nothing else."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path

from syntra.update.errors import UpdateError
from syntra.update.layout import PROGRAM

UNPACKED_MAX = 1024 * 1024 * 1024
_CHUNK = 1024 * 1024
_NEXT = "do not install this release; it is broken"


def unpack(archive: Path, target: Path) -> None:
    """Write the archive's only member, the regular file `syntra-agent`, to the new file `target` (0755), and fsync it.

    Names and types of members are compared, never used: no path, link or device of an archive reaches the disk. Raises
    UpdateError for any other archive, OSError where the disk refuses. Blocks.
    """
    import tarfile  # here and below: only an update needs it

    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o700)
    try:
        with open(handle, "wb") as file:
            _copy_only_member(archive, file.write)
            file.flush()
            os.fchmod(file.fileno(), 0o755)
            os.fsync(file.fileno())
    except (tarfile.TarError, zlib.error, EOFError, ValueError) as broken:
        target.unlink(missing_ok=True)
        raise UpdateError(f"the archive {archive.name} is damaged: {broken}", _NEXT) from broken
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _copy_only_member(archive: Path, write: Callable[[bytes], object]) -> None:
    import tarfile

    try:
        with tarfile.open(archive, "r:gz") as tar:
            member = tar.next()
            if member is None:
                raise UpdateError(f"the archive {archive.name} is empty", _NEXT)
            # AREGTYPE is a regular file of an old tar; sparse files and everything else are not expected.
            if member.name != PROGRAM or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                raise UpdateError(
                    f"the archive {archive.name} contains {member.name[:80]!r} instead of the file {PROGRAM}", _NEXT
                )
            if not 0 < member.size <= UNPACKED_MAX:
                raise UpdateError(f"the program in {archive.name} has {member.size} bytes", _NEXT)
            source = tar.extractfile(member)
            assert source is not None, "cannot happen because the member is a regular file"
            left = member.size
            while chunk := source.read(min(_CHUNK, left)):
                write(chunk)
                left -= len(chunk)
            if left:
                raise UpdateError(f"the program in {archive.name} is cut short", _NEXT)
            if (second := tar.next()) is not None:
                raise UpdateError(f"the archive {archive.name} has a second member, {second.name[:80]!r}", _NEXT)
    except OSError as failed:
        # gzip reports damage as an OSError without an errno.
        if failed.errno is None:
            raise UpdateError(f"the archive {archive.name} is damaged: {failed}", _NEXT) from failed
        raise
