"""Queries over TCP: one at a time per connection, a limited number of connections, a deadline for every wait."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable

from syntra.networking.dns.limits import Shares
from syntra.networking.dns.settings import DnsSettings
from syntra.networking.dns.stream import read_message, write_message
from syntra.networking.dns.zone import Address

log = logging.getLogger(__name__)

_PAUSE_SECS = 0.2

Start = Callable[[Callable[[], Awaitable[None]], str], asyncio.Task[None]]
"""Runs work as a named task, which the caller owns."""


class Connections:
    """All TCP connections of a server, on all its addresses."""

    def __init__(
        self,
        settings: DnsSettings,
        admits: Callable[[Address], bool],
        respond: Callable[[bytes, Address], Awaitable[bytes | None]],
    ) -> None:
        """`admits`: whether a source may use the server. `respond` returns an answer, or None to close without one."""
        self._settings = settings
        self._admits = admits
        self._respond = respond
        self._shares: Shares[Address] = Shares(total=settings.connections, each=settings.connections_per_source)

    async def accept(self, listening: socket.socket, start: Start) -> None:
        """Accept connections until cancelled. `listening` is non-blocking; the caller closes it."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                # No deadline: a server waits for clients as long as it runs.
                connected, peer = await loop.sock_accept(listening)
            except OSError as exc:  # out of descriptors, or the client has already closed
                log.warning("dns connection not accepted", extra={"reason": exc.strerror})
                await asyncio.sleep(_PAUSE_SECS)
                continue
            source = ipaddress.ip_address(peer[0].partition("%")[0])
            if self._admits(source) and self._shares.acquire(source):
                task = start(functools.partial(self._serve, connected, source), f"dns connection {source}")
                # Not in the task: a task that is cancelled before its first step never runs.
                task.add_done_callback(functools.partial(self._release, connected, source))
            else:
                connected.close()

    def _release(self, connected: socket.socket, source: Address, _task: asyncio.Task[None]) -> None:
        connected.close()
        self._shares.release(source)

    async def _serve(self, connected: socket.socket, source: Address) -> None:
        """Answer until the client closes, is silent for too long, or has reached its number of queries."""
        settings = self._settings
        try:
            reader, writer = await asyncio.open_connection(sock=connected, limit=settings.query_bytes)
            try:
                for _ in range(settings.connection_queries):
                    data = await read_message(
                        reader,
                        idle_secs=settings.idle_secs,
                        message_secs=settings.message_secs,
                        limit=settings.query_bytes,
                    )
                    wire = None if data is None else await self._respond(data, source)
                    if wire is None:
                        break
                    await write_message(writer, wire, message_secs=settings.message_secs)
            finally:
                await _close(writer)
        except OSError as exc:  # a reset or a deadline
            log.debug("dns connection ended", extra={"source": str(source), "reason": str(exc)})


async def _close(writer: asyncio.StreamWriter) -> None:
    transport = writer.transport
    if transport.get_write_buffer_size():
        # The client does not read: do not wait for it.
        transport.abort()
    else:
        transport.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
