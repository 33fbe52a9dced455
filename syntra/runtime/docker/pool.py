"""Idle connections for short calls: keeps a few, and detects stale ones before they are used."""

from __future__ import annotations

import asyncio

from syntra.runtime.docker.connection import EngineConnection
from syntra.runtime.docker.endpoint import Endpoint

MAX_IDLE_SECS = 30.0
"""Older idle connections are closed: proxies and socket-activated engines drop them at about that age."""


class ConnectionPool:
    """Returns idle connections, newest first. Does not limit how many are open at once."""

    def __init__(self, endpoint: Endpoint, *, size: int) -> None:
        self._endpoint = endpoint
        self._size = size
        self._idle: list[tuple[EngineConnection, float]] = []
        self._met_closed = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._idle)

    async def acquire(self, *, own: bool) -> tuple[EngineConnection, bool]:
        """A connection, to return or close, and whether it was idle. `own` requests a new one."""
        while self._idle and not own:
            connection, since = self._idle.pop()
            if asyncio.get_running_loop().time() - since > MAX_IDLE_SECS:
                connection.abort()
                continue
            try:
                usable = await connection.still_open()
            except BaseException:
                connection.abort()
                raise
            if usable:
                return connection, True
            connection.abort()
            self._met_closed = True
        return await EngineConnection.open(self._endpoint), False

    def met_closed(self) -> bool:
        """Whether the engine closed a connection since the last call: it may have been restarted."""
        met, self._met_closed = self._met_closed, False
        return met

    def release(self, connection: EngineConnection) -> None:
        """Return a connection to the pool; close it when it is not reusable or the pool is full."""
        if self._closed or not connection.reusable or len(self._idle) >= self._size:
            connection.abort()
        else:
            self._idle.append((connection, asyncio.get_running_loop().time()))

    async def close(self) -> None:
        """Close the idle connections; the others close when they are returned."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.abort()
        for connection, _ in idle:
            await connection.close()
