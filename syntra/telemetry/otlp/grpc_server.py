"""The OTLP/gRPC receiver: one grpcio server for each address, since a running one takes no more ports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import field

import grpc

from syntra.telemetry.intake import Intake
from syntra.telemetry.otlp.failures import Failures
from syntra.telemetry.otlp.grpc_handler import ExportHandler
from syntra.telemetry.otlp.grpc_limits import GrpcLimits, channel_arguments
from syntra.telemetry.otlp.listening import SOCKET_MODE, CannotListen, clear_stale_socket, family_of, is_path
from syntra.telemetry.otlp.memory import return_freed_memory
from syntra.utils.frozen import frozen

WATCH_SECS = 1.0


@frozen
class GrpcTls:
    """Certificates in PEM. With `client_ca` a sender needs a certificate of that authority."""

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """As grpcio takes them."""
        return grpc.ssl_server_credentials(
            [(self.key, self.certificate)], self.client_ca, require_client_auth=self.client_ca is not None
        )


class GrpcReceiver:
    """Receives OTLP over gRPC. All methods belong to the event loop on which the intake's coroutines run."""

    def __init__(
        self,
        intake: Intake,
        *,
        port: int = 4317,
        limits: GrpcLimits | None = None,
        tls: GrpcTls | None = None,
    ) -> None:
        self.port = port
        self.requests_timed_out = 0
        self._limits = limits or GrpcLimits()
        self._tls = tls
        self._handler = ExportHandler(intake, self._limits, Failures())
        self._servers: dict[str, tuple[grpc.aio.Server, int]] = {}

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses that the receiver listens on."""
        return tuple(self._servers)

    @property
    def unread(self) -> int:
        """Requests whose message is on its way or waits for a slot."""
        return self._handler.unread

    async def run(self) -> None:
        """End the requests of slow senders and return freed memory, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECS)
            self.requests_timed_out += self._handler.expire()
            if self._handler.had_large and not self._handler.unread:
                self._handler.had_large = False
                return_freed_memory()

    async def listen(self, address: str) -> int:
        """Listen on an IP address or the path of a unix socket, in addition; returns the port (0 for a path).

        Listening twice on an address changes nothing. Raises CannotListen; the caller may try again.
        """
        if address in self._servers:
            return self._servers[address][1]
        self._check(address)
        server = grpc.aio.server(options=channel_arguments(self._limits))
        server.add_generic_rpc_handlers((self._handler,))
        try:
            port = self._bind(server, address)
            await server.start()
        except RuntimeError as error:
            raise CannotListen(address, self.port, "grpcio cannot bind it") from error
        if is_path(address):
            os.chmod(address, SOCKET_MODE)
        self._servers[address] = (server, port)
        return port

    async def unlisten(self, address: str, grace_secs: float = 1.0) -> None:
        """Stop listening on an address; its running requests have `grace_secs` to end."""
        known = self._servers.pop(address, None)
        if known is None:
            return
        await known[0].stop(grace_secs)
        if is_path(address):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)

    async def close(self, grace_secs: float = 5.0) -> None:
        """Stop listening on every address."""
        async with asyncio.TaskGroup() as group:
            for address in self.addresses:
                group.create_task(self.unlisten(address, grace_secs), name=f"otlp-grpc close {address}")

    def _bind(self, server: grpc.aio.Server, address: str) -> int:
        if is_path(address):
            server.add_insecure_port(f"unix:{address}")
            return 0
        place = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        if self._tls is not None:
            return server.add_secure_port(place, self._tls.credentials())
        return server.add_insecure_port(place)

    def _check(self, address: str) -> None:
        """Bind a plain socket first: grpcio says no reason, writes to standard error, and steals unix sockets."""
        try:
            if is_path(address):
                clear_stale_socket(address)
                return
            with socket.socket(family_of(address)) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, self.port))
        except OSError as error:
            raise CannotListen(address, self.port, error.strerror or str(error)) from error
