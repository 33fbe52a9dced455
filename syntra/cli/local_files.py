"""Local files and folders to and from a tar archive that passes: what `cp` reads and writes on this machine.

Of an archive from a container only files, folders and links that stay below the destination are written (tarfile's
`data` filter, PEP 706).
"""

from __future__ import annotations

import stat
import tarfile
from pathlib import Path

from syntra.cli.exit_codes import CliError
from syntra.utils.frozen import frozen


@frozen
class Copied:
    """What was copied."""

    files: int
    bytes: int


def is_folder(source: Path) -> bool:
    """Whether it is a folder; raises CliError for what cannot be copied."""
    try:
        mode = source.lstat().st_mode
    except OSError as failed:
        raise CliError(f"cannot copy {source}: {failed.strerror}") from failed
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        raise CliError(f"cannot copy {source}: it is neither a file nor a folder; give one of these")
    return stat.S_ISDIR(mode)


def unpack(archive: tarfile.TarFile, before: str, folder: Path, name: str) -> Copied:
    """Write an archive below a folder, where `name` takes the place of the entries' first part, `before`.

    Both may be empty. Raises tarfile.FilterError for an entry that leaves the destination, tarfile.TarError for a
    broken archive, CliError for what cannot be written.
    """
    files = total = 0
    for member in archive:
        member.name = _renamed(member.name, before, name)
        if member.islnk():
            member.linkname = _renamed(member.linkname, before, name)
        try:
            archive.extract(member, path=folder, set_attrs=True, filter="data")
        except OSError as failed:
            raise CliError(f"cannot write {folder / member.name}: {failed.strerror}") from failed
        if member.isreg():
            files, total = files + 1, total + member.size
    return Copied(files=files, bytes=total)


def pack(archive: tarfile.TarFile, source: Path, name: str) -> Copied:
    """Add a file or a folder with all that is in it, as `name`. Raises CliError for what cannot be read."""
    files = total = 0

    def counted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        nonlocal files, total
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            return None
        if member.isreg():
            files, total = files + 1, total + member.size
        # The user of this machine is none of the container's.
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    try:
        archive.add(source, arcname=name, filter=counted)
    except OSError as failed:
        raise CliError(f"cannot read {failed.filename or source}: {failed.strerror}") from failed
    return Copied(files=files, bytes=total)


def _renamed(entry: str, before: str, name: str) -> str:
    """An entry's name, with the destination's name in place of the first part. The filter refuses what leaves it."""
    parts = [part for part in entry.split("/") if part not in ("", ".")]
    if before and parts[:1] == [before]:
        parts = parts[1:]
    elif before:
        # Not below what was asked for.
        raise tarfile.OutsideDestinationError(tarfile.TarInfo(entry), entry)
    return "/".join([name, *parts] if name else parts) or "."
