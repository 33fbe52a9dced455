"""Implements `runtime.copies.Copies` with the engine's archives (Engine API, `/containers/{id}/archive`).

The engine reads and writes the container's files itself, so the container need not run, and its image needs no `tar`.
It does not see what is in memory only: a tmpfs, /proc, /sys.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import PurePosixPath

from syntra.model.command import CopyWay
from syntra.model.ids import ContainerId
from syntra.runtime.copies import Target, copy_failed
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.errors import EngineError, EngineProtocolError, NotFound, translated
from syntra.runtime.docker.explanations import shortened
from syntra.runtime.docker.paths import Query
from syntra.runtime.docker.paths import path as path_of
from syntra.runtime.docker.streams import EngineStream
from syntra.runtime.docker.uploads import EngineUpload
from syntra.utils.frozen import frozen

IDLE_SECS = 600.0
"""Longest wait for the next bytes of an archive, or until some are taken, while the engine works on a slow disk."""
NO_SUCH_PATH = "no such file or folder in the container"
TRAILER_BYTES = 1024
"""A tar archive ends with two blocks of zeros (POSIX, pax, "ustar Interchange Format")."""
_STAT = "x-docker-container-path-stat"
# Bits of Go's os.FileMode, as the engine sends it.
_FOLDER = 1 << 31
_SYMLINK = 1 << 27


@frozen
class _Stat:
    mode: int
    link_target: str


class Archives:
    """The files of one engine's containers."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    @asynccontextmanager
    async def copy(
        self, container_id: ContainerId, way: CopyWay, path: str
    ) -> AsyncIterator[_ArchiveSource | _ArchiveTarget]:
        """As `Copies.copy`."""
        archive = path_of("containers", container_id, "archive")
        with _translated(path, container_id):
            if way is CopyWay.FROM:
                query = {"path": path}
                async with self._client.stream("GET", archive, query=query, idle_deadline=IDLE_SECS) as stream:
                    yield _ArchiveSource(stream, path, container_id)
                return
            target = await self._target(archive, path)
            if await self._stat(archive, target.folder) is None:
                # Podman would create it.
                raise copy_failed(path, NO_SUCH_PATH, container_id)
            into: Query = {"path": target.folder, "noOverwriteDirNonDir": True}
            kind = {"Content-Type": "application/x-tar"}
            async with self._client.upload("PUT", archive, query=into, headers=kind, idle_deadline=IDLE_SECS) as upload:
                yield _ArchiveTarget(upload, target, path, container_id)

    async def _target(self, archive: str, path: str) -> Target:
        """A link at the end of the path is followed once, as `docker cp` does."""
        found = await self._stat(archive, path)
        place = PurePosixPath(path)
        if found is not None and found.mode & _SYMLINK and found.link_target:
            place = place.parent / found.link_target
            found = await self._stat(archive, str(place))
        if (found is not None and found.mode & _FOLDER) or not place.name:
            return Target(folder=str(place), name="")
        return Target(folder=str(place.parent), name=place.name)

    async def _stat(self, archive: str, path: str) -> _Stat | None:
        """The engine's description of a path; None when there is none."""
        try:
            response = await self._client.request("HEAD", archive, query={"path": path})
        except NotFound:
            return None
        try:
            found = json.loads(base64.b64decode(response.headers.get(_STAT, "")))
            return _Stat(mode=int(found["mode"]), link_target=str(found.get("linkTarget") or ""))
        except (binascii.Error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as broken:
            raise EngineProtocolError(response.what, "the description of the path is not readable") from broken


class _ArchiveSource:
    """An archive that the engine makes."""

    target = None

    def __init__(self, stream: EngineStream, path: str, container_id: ContainerId) -> None:
        self._stream = stream
        self._path = path
        self._container_id = container_id
        self._last = b""

    async def read(self) -> Sequence[tuple[bool, bytes]]:
        with _translated(self._path, self._container_id):
            chunk = await anext(self._stream, b"")
        self._last = (self._last + chunk)[-TRAILER_BYTES:]
        return [(False, chunk)] if chunk else []

    async def write(self, data: bytes) -> None:
        raise copy_failed(self._path, "it is read, not written", self._container_id)

    def end_input(self) -> None:
        return

    async def exit_code(self) -> int:
        if self._last != bytes(TRAILER_BYTES):
            # The engine ends the body as usual when it fails in the middle of it.
            raise copy_failed(
                self._path, "the engine sent only a part of it; see the engine's log, and try again", self._container_id
            )
        return 0


class _ArchiveTarget:
    """An archive that the engine unpacks."""

    def __init__(self, upload: EngineUpload, target: Target, path: str, container_id: ContainerId) -> None:
        self.target = target
        self._upload = upload
        self._path = path
        self._container_id = container_id

    async def read(self) -> Sequence[tuple[bool, bytes]]:
        with _translated(self._path, self._container_id):
            await self._upload.answered()
        return []

    async def write(self, data: bytes) -> None:
        with _translated(self._path, self._container_id):
            await self._upload.write(data)

    def end_input(self) -> None:
        self._upload.end()

    async def exit_code(self) -> int:
        await self.read()
        return 0


@contextmanager
def _translated(path: str, container_id: ContainerId) -> Iterator[None]:
    """Translate the client's errors; an answer that the engine gave is the reason of the failure."""
    with translated("COPY_FAILED", container_id):
        try:
            yield
        except EngineError as refused:
            if refused.status == 404 and "no such container" in refused.message.lower():
                raise
            raise copy_failed(path, _reason(refused), container_id) from refused


def _reason(refused: EngineError) -> str:
    if refused.status == 404:
        return NO_SUCH_PATH
    return shortened(refused.message)
