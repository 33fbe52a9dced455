"""Queries over TCP: one at a time on a connection, a bounded number of connections, a deadline for every wait."""

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
"""Runs work as a named task that somebody owns."""


class Connections:
    """All TCP connections of a server, over all its addresses."""

    def __init__(
        self,
        settings: DnsSettings,
        admits: Callable[[Address], bool],
        respond: Callable[[bytes, Address], Awaitable[bytes | None]],
    ) -> None:
        """`admits` says whether a source is served at all; `respond` makes an answer, None to close without one."""
        self._settings = settings
        self._admits = admits
        self._respond = respond
        self._shares: Shares[Address] = Shares(total=settings.connections, each=settings.connections_per_source)

    async def accept(self, listening: socket.socket, start: Start) -> None:
        """Take connections until cancelled. `listening` is non-blocking and stays the caller's to close."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                # Waiting for clients has no end of its own.
                connected, peer = await loop.sock_accept(listening)
            except OSError as exc:  # out of descriptors, or the client was gone already
                log.warning("dns connection not accepted", extra={"reason": exc.strerror})
                await asyncio.sleep(_PAUSE_SECS)
                continue
            source = ipaddress.ip_address(peer[0].partition("%")[0])
            if self._admits(source) and self._shares.take(source):
                task = start(functools.partial(self._serve, connected, source), f"dns connection {source}")
                # Not in the task: one that is cancelled before its first step runs nothing of it.
                task.add_done_callback(functools.partial(self._release, connected, source))
            else:
                connected.close()

    def _release(self, connected: socket.socket, source: Address, _task: asyncio.Task[None]) -> None:
        connected.close()
        self._shares.give_back(source)

    async def _serve(self, connected: socket.socket, source: Address) -> None:
        """Answer until the client closes, is silent for too long, or has asked enough."""
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
        except OSError as exc:  # resets and deadlines alike
            log.debug("dns connection ended", extra={"source": str(source), "reason": str(exc)})


async def _close(writer: asyncio.StreamWriter) -> None:
    transport = writer.transport
    if transport.get_write_buffer_size():
        # The client does not read: what is left is not worth waiting for.
        transport.abort()
    else:
        transport.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
