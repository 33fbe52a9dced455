"""`cp`: files and folders from and to a container, as a tar stream through `exec`, on every runtime.

The container's own `tar` makes or reads the archive, as with `kubectl cp`; here it is read and written as it passes, so
that copies of any size take the same memory. Of what a container sends only what stays below the destination is
written (tarfile's `data` filter).
"""

from __future__ import annotations

import argparse
import re
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.options import add_json, socket_path
from syntra.cli.services import find
from syntra.cli.table import size
from syntra.cli.terminal import out, out_json, printable
from syntra.utils.frozen import frozen
from syntra.utils.own_program import own_program

PIPE = "-"
ERROR_MAX = 4096
"""What is read of a failed command's reason."""
_REPLICA = re.compile(r"(.+)\.([1-9][0-9]{0,5})")
_NOT_FOUND = (126, 127)
"""How a shell and an engine end when there is no such program."""


@frozen
class Place:
    """A path in a container. `replica` None: the newest."""

    service: str
    replica: int | None
    path: str


@frozen
class Copied:
    """What was copied."""

    files: int
    bytes: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SRC, DST, --json."""
    parser.epilog = (
        "One of SRC and DST is SERVICE[.REPLICA]:PATH, the other a local path, or `-` for a tar archive on standard "
        "input or output. A folder is copied with all that is in it. If DST is a folder, SRC is put into it. The "
        "container must run and have `tar`. Local names with a colon begin with ./ or /."
    )
    parser.add_argument("source", metavar="SRC", help="what to copy")
    parser.add_argument("destination", metavar="DST", help="where to")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Copy, and say how much."""
    source, destination = place_of(args.source), place_of(args.destination)
    if (source is None) == (destination is None):
        raise CliError(
            "cannot copy: exactly one of SRC and DST must be in a container; give it as SERVICE:PATH", ExitCode.USAGE
        )
    socket = socket_path(args)
    if source is not None:
        remote = _Remote(socket, source)
        if args.destination == PIPE:
            _give(remote)
            return ExitCode.OK
        copied = _download(remote, Path(args.destination))
    else:
        assert destination is not None, "one of the two is in a container"
        remote = _Remote(socket, destination)
        if args.source == PIPE:
            _take(remote)
            return ExitCode.OK
        copied = _upload(Path(args.source), remote)
    if args.json:
        out_json({"files": copied.files, "bytes": copied.bytes})
    else:
        files = f"{copied.files} file{'' if copied.files == 1 else 's'}"
        out(printable(f"copied {files}, {size(copied.bytes)}, to {args.destination}"))
    return ExitCode.OK


def place_of(given: str) -> Place | None:
    """SERVICE[.REPLICA]:PATH; None for a local path. Raises CliError for a place without a path."""
    name, colon, path = given.partition(":")
    if given.startswith(("/", ".")) or not colon or not name:
        return None
    if not path:
        raise CliError(f"cannot copy {given}: there is no path behind the colon", ExitCode.USAGE)
    found = _REPLICA.fullmatch(name)
    return Place(service=found[1] if found else name, replica=int(found[2]) if found else None, path=path)


class _Remote:
    """Commands in the container of a place, each a run of this program's `exec`."""

    def __init__(self, socket: Path, place: Place) -> None:
        find(socket, place.service)
        self.path = PurePosixPath(place.path)
        self._given = f"{place.service}:{place.path}"
        replica = [] if place.replica is None else ["--replica", str(place.replica)]
        self._exec = [*own_program(), "--socket", str(socket), "exec", *replica, place.service, "--"]

    def is_folder(self) -> bool:
        """Whether the path is a folder in the container."""
        words = ["test", "-d", str(self.path)]
        with self.running(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, ends=(0, 1)) as process:
            process.wait()
        return process.returncode == 0

    @contextmanager
    def running(
        self,
        words: list[str],
        *,
        stdin: int | IO[bytes] | None,
        stdout: int | IO[bytes] | None,
        ends: tuple[int, ...] = (0,),
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command beside the block. Raises CliError unless it ends with one of `ends`."""
        with subprocess.Popen([*self._exec, *words], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE) as process:
            broken: Exception | None = None
            try:
                yield process
            except (tarfile.TarError, BrokenPipeError) as failed:
                # The command's own words say more than the stream that ended early.
                broken = failed
                if process.stdout is not None:
                    process.stdout.close()
            except BaseException:
                process.terminate()
                raise
            assert process.stderr is not None
            said = process.stderr.read(ERROR_MAX).decode(errors="replace")
            while process.stderr.read(ERROR_MAX):
                continue
            code = process.wait()
        if code not in ends:
            raise self._failed(code, said, words[0])
        if broken is not None:
            raise CliError(f"cannot copy {self._given}: {broken}")

    def _failed(self, code: int, said: str, program: str) -> CliError:
        if code in _NOT_FOUND:
            return CliError(f"cannot copy {self._given}: the container has no `{program}`; add it to the image")
        lines = [line for line in said.splitlines() if line.strip()]
        reason = lines[0].strip() if lines else f"`{program}` ended with {code}"
        return CliError(f"cannot copy {self._given}: {reason.removeprefix('tar: ')}")


def _archived(remote: _Remote) -> list[str]:
    """The command that writes the path as an archive: one entry, or a folder's, all below its last name."""
    if remote.path.name:
        # Not the bare name: it may begin with a dash.
        return ["tar", "-c", "-f", "-", "-C", str(remote.path.parent), f"./{remote.path.name}"]
    return ["tar", "-c", "-f", "-", "-C", str(remote.path), "."]


def _give(remote: _Remote) -> None:
    if sys.stdout.isatty():
        raise CliError("cannot write an archive to a terminal; redirect it, as in `… - > web.tar`", ExitCode.USAGE)
    with remote.running(_archived(remote), stdin=subprocess.DEVNULL, stdout=None) as process:
        process.wait()


def _take(remote: _Remote) -> None:
    if sys.stdin is None or sys.stdin.isatty():
        raise CliError("cannot read an archive from a terminal; give it, as in `cp - … < web.tar`", ExitCode.USAGE)
    words = ["tar", "-x", "-f", "-", "-C", str(remote.path)]
    with remote.running(words, stdin=None, stdout=subprocess.DEVNULL) as process:
        process.wait()


def _download(remote: _Remote, destination: Path) -> Copied:
    name = remote.path.name
    folder, name = (destination, name) if destination.is_dir() else (destination.parent, destination.name)
    if not folder.is_dir():
        raise CliError(f"cannot copy to {destination}: there is no folder {folder}; create it first")
    files = total = 0
    with (
        remote.running(_archived(remote), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for member in archive:
            member.name = _renamed(member.name, remote.path.name, name)
            if member.islnk():
                member.linkname = _renamed(member.linkname, remote.path.name, name)
            try:
                archive.extract(member, path=folder, set_attrs=True, filter="data")
            except OSError as failed:
                process.terminate()
                raise CliError(f"cannot write {folder / member.name}: {failed.strerror}") from failed
            if member.isreg():
                files, total = files + 1, total + member.size
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


def _upload(source: Path, remote: _Remote) -> Copied:
    try:
        mode = source.lstat().st_mode
    except OSError as failed:
        raise CliError(f"cannot copy {source}: {failed.strerror}") from failed
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        raise CliError(f"cannot copy {source}: it is neither a file nor a folder")
    name = source.name or source.resolve().name
    is_folder = remote.path.name == "" or remote.is_folder()
    folder, name = (remote.path, name) if is_folder else (remote.path.parent, remote.path.name)
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

    words = ["tar", "-x", "-f", "-", "-C", str(folder)]
    with remote.running(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        try:
            with tarfile.open(fileobj=process.stdin, mode="w|") as archive:
                archive.add(source, arcname=name, filter=counted)
        except OSError as failed:
            if isinstance(failed, BrokenPipeError):
                raise
            process.terminate()
            raise CliError(f"cannot read {failed.filename or source}: {failed.strerror}") from failed
        finally:
            try:
                process.stdin.close()
            except BrokenPipeError:
                process.stdin = None
    return Copied(files=files, bytes=total)
