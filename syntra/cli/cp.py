"""`cp`: files and folders from and to a container, as a tar archive that the agent's runtime makes or unpacks.

The archive is read and written here as it passes, so that copies of any size take the same memory. Names follow
`docker cp`. Of what a container sends only what stays below the destination is written (`local_files`).
"""

from __future__ import annotations

import argparse
import posixpath
import re
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from syntra.cli.agent_client import AgentConnection, await_response
from syntra.cli.attached import Attached
from syntra.cli.copy_stream import CopyEnded, CopyStream
from syntra.cli.exit_codes import CliError, CommandFailed, ExitCode
from syntra.cli.local_files import Copied, is_folder, pack, unpack
from syntra.cli.options import add_json, socket_path
from syntra.cli.reading import text
from syntra.cli.services import find
from syntra.cli.table import size
from syntra.cli.terminal import out, out_json, printable
from syntra.model.exec_frames import INPUT_BYTES
from syntra.utils.frozen import frozen

PIPE = "-"
ACCEPT_SECS = 60.0
"""Longest wait for a copy to start: the runtime is asked several times for it."""
_REPLICA = re.compile(r"(.+)\.([1-9][0-9]{0,5})")


@frozen
class Place:
    """A path in a container, as given. `replica` None: the newest."""

    service: str
    replica: int | None
    path: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SRC, DST, --json."""
    parser.epilog = (
        "One of SRC and DST is SERVICE[.REPLICA]:PATH, the other a local path, or `-` for a tar archive on standard "
        "input or output. A folder is copied with all that is in it. If DST is a folder, SRC is put into it; with /. "
        "at the end of SRC only the content of that folder. On Kubernetes the container must run and have `tar`. "
        "Local names with a colon begin with ./ or /."
    )
    parser.add_argument("source", metavar="SRC", help="what to copy: SERVICE:PATH, a local path, or -")
    parser.add_argument("destination", metavar="DST", help="where to: the same")
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
        copied = _upload(args.source, remote)
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
        raise CliError(f"cannot copy {given}: there is no path behind the colon; give SERVICE:PATH", ExitCode.USAGE)
    found = _REPLICA.fullmatch(name)
    return Place(service=found[1] if found else name, replica=int(found[2]) if found else None, path=path)


def is_content(path: str) -> bool:
    """Whether a source is the content of a folder, not the folder."""
    return path == "." or path.endswith("/.")


class _Remote:
    """The path of a place, for one copy. A path that is not absolute is below `/`, whatever the working directory."""

    def __init__(self, socket: Path, place: Place) -> None:
        self._socket = socket
        self._payload: dict[str, object] = {"service_id": find(socket, place.service)}
        if place.replica is not None:
            self._payload["replica"] = place.replica
        self._given = f"{place.service}:{place.path}"
        self._path = posixpath.normpath("/" + place.path.lstrip("/"))
        self.must_be_folder = place.path.endswith("/") or is_content(place.path)
        self.name = "" if is_content(place.path) else PurePosixPath(self._path).name
        """The last name of the path, below which its entries are; empty for the content of a folder."""

    @contextmanager
    def source(self) -> Iterator[AgentConnection]:
        """An archive from there, which the connection carries from now on."""
        path = self._path if self.name else f"{self._path.rstrip('/')}/."
        with self._copy("from", path) as (connection, _):
            yield connection

    @contextmanager
    def target(self) -> Iterator[tuple[AgentConnection, str]]:
        """An archive to there, and the name that the first entry must have; empty where the path is a folder."""
        with self._copy("to", self._path) as (connection, name):
            yield connection, name

    @contextmanager
    def _copy(self, direction: str, path: str) -> Iterator[tuple[AgentConnection, str]]:
        payload = {**self._payload, "path": path, "direction": direction}
        try:
            with AgentConnection.open(self._socket) as connection:
                accepted = await_response(connection, connection.send("copy", payload), timeout=ACCEPT_SECS)
                yield connection, text(accepted, "name", "")
        except CommandFailed as failed:
            reason = failed.message.removeprefix(f"cannot copy {path}: ")
            raise CommandFailed(failed.code, f"cannot copy {self._given}: {reason}") from None

    def refusal(self, reason: object) -> CliError:
        """An error about this place."""
        return CliError(f"cannot copy {self._given}: {reason}")


def _give(remote: _Remote) -> None:
    if sys.stdout.isatty():
        raise CliError("cannot write an archive to a terminal; redirect it, as in `… - > web.tar`", ExitCode.USAGE)
    with remote.source() as connection:
        Attached(connection, stdin=False, tty=False).run()


def _take(remote: _Remote) -> None:
    if sys.stdin is None or sys.stdin.isatty():
        raise CliError("cannot read an archive from a terminal; give it, as in `cp - … < web.tar`", ExitCode.USAGE)
    with remote.target() as (connection, name):
        if name:
            raise remote.refusal("there is no such folder in the container")
        Attached(connection, stdin=True, tty=False).run()


def _download(remote: _Remote, destination: Path) -> Copied:
    is_there = destination.is_dir()
    folder, name = (destination, remote.name) if is_there else (destination.parent, destination.name)
    if not folder.is_dir():
        raise CliError(f"cannot copy to {destination}: there is no folder {folder}; create it first")
    with remote.source() as connection:
        stream = CopyStream(connection)
        try:
            with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|", bufsize=INPUT_BYTES) as archive:
                copied = unpack(archive, remote.name, folder, name)
        except tarfile.FilterError as refused:
            raise remote.refusal(refused) from refused
        except tarfile.TarError as cut:
            # The agent's own words say more than an archive that ended early.
            stream.finish()
            raise remote.refusal(cut) from cut
        stream.finish()
    return copied


def _upload(given: str, remote: _Remote) -> Copied:
    source = Path(given)
    is_a_folder = is_folder(source)
    with remote.target() as (connection, wanted):
        if wanted and remote.must_be_folder and not is_a_folder:
            raise remote.refusal("there is no such folder in the container")
        name = wanted or ("." if is_content(given) else source.name or source.resolve().name)
        stream = CopyStream(connection)
        try:
            with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="w|", bufsize=INPUT_BYTES) as archive:
                copied = pack(archive, source, name)
            stream.end()
        except CopyEnded:
            stream.finish()
            raise remote.refusal("the container took only a part of it") from None
        stream.finish()
    return copied
