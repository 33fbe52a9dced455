"""The OTLP/gRPC receiver: listeners on the event loop, and the watch over their connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Coroutine
from time import monotonic
from typing import Any

from syntra.telemetry.intake import Intake
from syntra.telemetry.otlp.failures import Failures
from syntra.telemetry.otlp.grpc_connection import READ_BYTES, Connections, GrpcConnection
from syntra.telemetry.otlp.grpc_handler import ExportHandler
from syntra.telemetry.otlp.grpc_limits import GrpcLimits
from syntra.telemetry.otlp.listening import SOCKET_MODE, CannotListen, clear_stale_socket, family_of, is_path
from syntra.utils.program_pages import return_freed_memory

WATCH_SECS = 1.0
BACKLOG = 128


class _Listener:
    """One address and the connections to it."""

    def __init__(self, server: asyncio.Server, port: int, connections: Connections) -> None:
        self.server = server
        self.port = port
        self.connections = connections


class GrpcReceiver:
    """Receives OTLP over gRPC. All methods belong to the event loop on which `run` runs.

    Requests are processed while `run` runs, until `close`.
    """

    def __init__(
        self,
        intake: Intake,
        *,
        port: int = 4317,
        limits: GrpcLimits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.port = port
        self._limits = limits or GrpcLimits()
        self._tls = tls
        self._handler = ExportHandler(intake, self._limits, Failures())
        self._listeners: dict[str, _Listener] = {}
        # Addresses that are not listened on any more, until their connections are done.
        self._leaving: list[_Listener] = []
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._group: asyncio.TaskGroup | None = None
        self._opened = asyncio.Event()
        """Set by a new connection: without one there is nothing to watch. Set by `close`, too."""
        self._closed = asyncio.Event()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses that the receiver listens on."""
        return tuple(self._listeners)

    @property
    def unread(self) -> int:
        """Requests whose message is on its way."""
        return self._handler.unread

    @property
    def requests_timed_out(self) -> int:
        """Requests that were ended because their message came too slowly."""
        return self._handler.timed_out

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._all_connections())

    async def run(self) -> None:
        """Process requests, end those of slow senders, and return freed memory, until `close` or cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for address, listener in tuple(self._listeners.items()):
                # It may be closed while another starts.
                if address in self._listeners:
                    await listener.server.start_serving()
            while not self._closed.is_set():
                if not self._handler.had_large and not self._all_connections():
                    self._opened.clear()
                    await self._opened.wait()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_SECS):
                        await self._closed.wait()
                now = monotonic()
                for connection in self._all_connections():
                    connection.second_passed(now)
                if self._handler.had_large and not self._handler.unread:
                    self._handler.had_large = False
                    return_freed_memory()

    async def listen(self, address: str) -> int:
        """Listen on an IP address or the path of a unix socket, in addition; returns the port (0 for a path).

        Listening twice on an address changes nothing. Raises CannotListen; the caller may try again. Connections wait
        until `run` runs.
        """
        if address in self._listeners:
            return self._listeners[address].port
        sock = socket.socket(family_of(address))
        try:
            self._bind(sock, address)
            port = 0 if is_path(address) else int(sock.getsockname()[1])
        except OSError as error:
            sock.close()
            raise CannotListen(address, self.port, error.strerror or str(error)) from error
        connections = Connections(self._limits.max_connections)

        def connected() -> GrpcConnection:
            self._opened.set()
            return GrpcConnection(self._handler, self._limits, self._buffer, self._start, connections)

        server = await asyncio.get_running_loop().create_server(
            connected,
            sock=sock,
            ssl=None if is_path(address) else self._tls,
            ssl_handshake_timeout=self._limits.handshake_secs if self._tls and not is_path(address) else None,
            backlog=BACKLOG,
            start_serving=self._group is not None,
        )
        self._listeners[address] = _Listener(server, port, connections)
        return port

    async def unlisten(self, address: str, grace_secs: float = 1.0) -> None:
        """Stop listening on an address; its running requests have `grace_secs` to end."""
        listener = self._listeners.pop(address, None)
        if listener is None:
            return
        listener.server.close()
        if is_path(address):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)
        self._leaving.append(listener)
        for connection in listener.connections:
            connection.go_away()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_secs):
                await listener.connections.ended()
        for connection in listener.connections:
            connection.abort()
        self._leaving.remove(listener)

    async def close(self, grace_secs: float = 5.0) -> None:
        """Stop listening on every address, and end `run`."""
        async with asyncio.TaskGroup() as group:
            for address in self.addresses:
                group.create_task(self.unlisten(address, grace_secs), name=f"otlp-grpc close {address}")
        self._closed.set()
        self._opened.set()

    def _all_connections(self) -> list[GrpcConnection]:
        return [c for listener in (*self._listeners.values(), *self._leaving) for c in listener.connections]

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._group is not None, "cannot happen because connections are accepted while `run` runs"
        self._group.create_task(work, name="otlp-grpc request")

    def _bind(self, sock: socket.socket, address: str) -> None:
        sock.setblocking(False)
        if is_path(address):
            clear_stale_socket(address)
            sock.bind(address)
            os.chmod(address, SOCKET_MODE)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address, self.port))
        sock.listen(BACKLOG)
