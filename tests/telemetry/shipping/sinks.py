"""OTLP endpoints that answer as a test says and keep what they are sent."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import h11
import zstandard

from syntra.telemetry.shipping.endpoint import SIGNALS, method
from syntra.telemetry.signals import Signal
from tests.telemetry.shipping.samples import KINDS

HTTP_PATHS = {
    "/v1/traces": Signal.TRACES,
    "/v1/metrics": Signal.METRICS,
    "/v1/logs": Signal.LOGS,
    "/v1development/profiles": Signal.PROFILES,
}


@dataclass
class HttpReply:
    """One answer. `silent` never answers; `cut` closes the connection instead."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    silent: bool = False
    cut: bool = False


@dataclass
class Received:
    """A request as it came."""

    signal: Signal
    headers: dict[str, str]
    raw: bytes
    body: bytes
    status: int = 200

    @property
    def request(self) -> Any:
        """Decompressed and decoded."""
        return KINDS[self.signal].FromString(self.raw)


class HttpSink:
    """Answers with `replies` in turn, then 200."""

    def __init__(self, prefix: str = "") -> None:
        self.replies: deque[HttpReply] = deque()
        self.received: list[Received] = []
        self.limit: int | None = None
        """Bodies above this many bytes, decompressed, get 413."""
        self.connections = 0
        self.port = 0
        self.prefix = prefix
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listen(self, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[HttpSink]:
        """Listen on loopback until the context ends."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.drop_connections()
            await server.wait_closed()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=5)

    def drop_connections(self) -> None:
        """Reset all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            while await self._one(reader, writer):
                continue
        except (ConnectionError, h11.RemoteProtocolError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        peer = h11.Connection(h11.SERVER)
        head: h11.Request | None = None
        body = b""
        while True:
            event = peer.next_event()
            if event is h11.NEED_DATA:
                data = await reader.read(65536)
                peer.receive_data(data)
                if not data and head is None:
                    return False
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        assert head is not None
        headers = {name.decode(): value.decode() for name, value in head.headers}
        path = head.target.decode().removeprefix(self.prefix)
        raw = decompressed(body, headers.get("content-encoding", ""))
        reply = self.replies.popleft() if self.replies else HttpReply()
        if self.limit is not None and len(raw) > self.limit:
            reply = HttpReply(status=413)
        status = 0 if reply.silent or reply.cut else reply.status
        self.received.append(Received(HTTP_PATHS[path], headers, raw, body, status))
        if reply.silent:
            await reader.read()
            return False
        if reply.cut:
            return False
        reply.headers.setdefault("content-type", "application/x-protobuf")
        answer = h11.Response(
            status_code=reply.status,
            headers=[*reply.headers.items(), ("content-length", str(len(reply.body)))],
        )
        for event_out in (answer, h11.Data(data=reply.body), h11.EndOfMessage()):
            writer.write(peer.send(event_out) or b"")
        await writer.drain()
        return reply.headers.get("connection") != "close"


def decompressed(body: bytes, encoding: str) -> bytes:
    """The body of a request."""
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "zstd":
        with zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True) as stream:
            return stream.read()
    assert not encoding, encoding
    return body


@dataclass
class GrpcReply:
    """One answer: a message, or an error with trailing metadata."""

    message: bytes = b""
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    trailing: tuple[tuple[str, bytes | str], ...] = ()
    silent: bool = False


class GrpcSink:
    """Answers with `replies` in turn, then OK."""

    def __init__(self, max_message: int | None = None) -> None:
        self.replies: deque[GrpcReply] = deque()
        self.received: list[Received] = []
        self.port = 0
        self.max_message = max_message
        self.seen_encodings: set[str] = set()

    @asynccontextmanager
    async def listen(self, port: int = 0, credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[GrpcSink]:
        """Listen on loopback until the context ends."""
        options: list[tuple[str, int]] = [("grpc.so_reuseport", 0)]
        if self.max_message is not None:
            options.append(("grpc.max_receive_message_length", self.max_message))
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers(tuple(self._handler(signal) for signal in SIGNALS))
        address = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = server.add_insecure_port(address)
        else:
            self.port = server.add_secure_port(address, credentials)
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)
            # The server does not wait for the tasks of answered calls.
            left = [task for task in asyncio.all_tasks() if task.get_name() == "rpc_task"]
            if left:
                await asyncio.wait(left, timeout=5)

    async def _answer(self, signal: Signal, request: bytes, context: Any) -> bytes:
        headers = dict(context.invocation_metadata())
        self.received.append(Received(signal, headers, request, request))
        reply = self.replies.popleft() if self.replies else GrpcReply()
        if reply.silent:
            await asyncio.sleep(60)
        if reply.code is not grpc.StatusCode.OK:
            await context.abort(reply.code, reply.details, reply.trailing)
        return reply.message

    def _handler(self, signal: Signal) -> Any:
        async def handle(request: bytes, context: Any) -> bytes:
            return await self._answer(signal, request, context)

        _, service, name = method(signal).split("/")
        return grpc.method_handlers_generic_handler(service, {name: grpc.unary_unary_rpc_method_handler(handle)})
