"""What long calls return: a body to iterate over, or a raw two-way stream."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Self

from syntra.runtime.docker.connection import EngineConnection
from syntra.runtime.docker.errors import EngineTimeout
from syntra.runtime.docker.raw_socket import RawSocket
from syntra.utils.http1 import Head


class EngineStream:
    """The body of a response, read on demand: at most one read is buffered.

    Cancelling an iteration step loses no data. Raises StreamBroken when the connection drops, EngineTimeout when idle.
    """

    def __init__(self, connection: EngineConnection, head: Head, idle_deadline: float | None) -> None:
        self._connection = connection
        self._head = head
        self._idle = idle_deadline

    @property
    def status(self) -> int:
        return self._head.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._head.headers

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._connection.read_body(self._idle)
        if not chunk:
            raise StopAsyncIteration
        return chunk


class HijackedStream:
    """A raw two-way stream. Engines that do not upgrade answer 200 and send the stream as the body.

    Without TLS a write that fails leaves what was received readable.
    """

    def __init__(self, connection: EngineConnection, raw: RawSocket | None) -> None:
        self._connection = connection
        self._raw = raw

    async def read(self, idle: float | None = None) -> bytes:
        """The next bytes, b"" at the end. A raw stream has no end mark: a drop without a reset looks like an end."""
        if self._raw is not None:
            try:
                async with asyncio.timeout(idle):
                    return await self._raw.read()
            except TimeoutError as exc:
                raise EngineTimeout("read an upgraded connection", idle or 0) from exc
        if self._connection.upgraded:
            return await self._connection.read_raw(idle)
        return await self._connection.read_body(idle)

    async def write(self, data: bytes) -> None:
        """Send to the process's input; waits while it does not read."""
        if self._raw is not None:
            await self._raw.write(data)
        else:
            await self._connection.write_raw(data)

    def write_eof(self) -> bool:
        """Close the process's input; False where the transport cannot (TLS)."""
        if self._raw is not None:
            self._raw.write_eof()
            return True
        return self._connection.write_eof()

    async def close(self) -> None:
        """Close the connection."""
        if self._raw is not None:
            self._raw.close()
        await self._connection.close()
