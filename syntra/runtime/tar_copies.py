"""Implements `runtime.copies.Copies` with the replica's own `tar` and `test` by exec, as `kubectl cp` does.

For runtimes that cannot read or write the files of a replica themselves. The replica must run and have both programs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import PurePosixPath

from syntra.model.command import CopyWay, ExecStreams
from syntra.model.ids import ContainerId
from syntra.runtime.copies import Target, copy_failed
from syntra.runtime.runtime import Exec, ExecSession

ERROR_BYTES = 4096
"""What is kept of a failed command's reason."""
_NOT_FOUND = (126, 127)
"""How a shell and an engine end when there is no such program."""


class TarCopies:
    """Implements `Copies` with the replica's own `tar` and `test`."""

    def __init__(self, execs: Exec) -> None:
        self._execs = execs

    @asynccontextmanager
    async def copy(self, container_id: ContainerId, way: CopyWay, path: str) -> AsyncIterator[_TarSession]:
        place = PurePosixPath(path)
        target: Target | None = None
        if way is CopyWay.TO:
            is_folder = place.name == "" or await self._is_folder(container_id, str(place))
            target = Target(folder=path, name="") if is_folder else Target(folder=str(place.parent), name=place.name)
            words = ["tar", "-x", "-f", "-", "-C", target.folder]
        elif path.endswith("/."):
            words = ["tar", "-c", "-f", "-", "-C", str(place), "."]
        else:
            # Not the bare name: it may begin with a dash.
            words = ["tar", "-c", "-f", "-", "-C", str(place.parent), f"./{place.name}"]
        async with self._run(container_id, words, stdin=way is CopyWay.TO) as session:
            yield _TarSession(session, target, path, container_id)

    async def _is_folder(self, container_id: ContainerId, path: str) -> bool:
        async with self._run(container_id, ["test", "-d", path], stdin=False) as session:
            while await session.read():
                continue
            code = await session.exit_code()
        if code not in (0, 1):
            raise copy_failed(path, _reason(code, b"", "test"), container_id)
        return code == 0

    def _run(
        self, container_id: ContainerId, words: Sequence[str], *, stdin: bool
    ) -> AbstractAsyncContextManager[ExecSession]:
        streams = ExecStreams(stdin=stdin, tty=False)
        return self._execs.attach(container_id, words, env={}, working_dir=None, streams=streams)


class _TarSession:
    """The command's standard output is the archive, its standard error the reason of a failure."""

    def __init__(self, session: ExecSession, target: Target | None, path: str, container_id: ContainerId) -> None:
        self.target = target
        self.write, self.end_input = session.write, session.end_input
        self._session = session
        self._path = path
        self._container_id = container_id
        self._said = bytearray()

    async def read(self) -> Sequence[tuple[bool, bytes]]:
        while output := await self._session.read():
            for is_error, data in output:
                if is_error:
                    self._said += data[: ERROR_BYTES - len(self._said)]
            if archived := [piece for piece in output if not piece[0]]:
                return archived
        return []

    async def exit_code(self) -> int:
        if code := await self._session.exit_code():
            raise copy_failed(self._path, _reason(code, bytes(self._said), "tar"), self._container_id)
        return 0


def _reason(code: int, said: bytes, program: str) -> str:
    if code in _NOT_FOUND:
        return f"the container has no `{program}`; add it to the image"
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    return lines[0].removeprefix("tar: ") if lines else f"`{program}` ended with {code}"
