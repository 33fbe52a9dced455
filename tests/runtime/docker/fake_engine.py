"""A scripted engine on a unix socket, for faults that a real engine does not show on demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.connection import EngineConnection
from syntra.runtime.docker.endpoint import Endpoint

PING = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 0\r\n\r\n"


def answer(status: int = 200, document: object = None, *, headers: str = "") -> bytes:
    body = b"" if document is None else json.dumps(document).encode()
    return f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Peer:
    """The engine's side of one connection; `number` counts connections from 1."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, engine: FakeEngine):
        self.number = number
        self.reader = reader
        self._writer = writer
        self._engine = engine

    async def request(self) -> Request:
        """The next request; pings are answered along the way."""
        while True:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.rstrip("\r\n").split("\r\n")
            method, target, _ = first.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
            if method == "HEAD" and target == "/_ping":
                self._engine.pings += 1
                await self.send(self._engine.ping)
                continue
            request = Request(method, target, headers, body)
            self._engine.requests.append(request)
            return request

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def closed(self) -> None:
        """Wait until the client has closed."""
        while await self.reader.read(4096):
            pass


Script = Callable[[Peer], Awaitable[None]]


def replying(*data: bytes, always: bool = False, stay: bool = False) -> Script:
    """Answer one request on each connection, `always` every one, and close; with `stay` the client is to close."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            for piece in data:
                await peer.send(piece)
            if not always:
                break
        if stay:
            await peer.closed()

    return script


class FakeEngine:
    def __init__(self, path: Path) -> None:
        self.endpoint = Endpoint(path=str(path))
        self.ping = PING
        self.pings = 0
        self.requests: list[Request] = []
        self.connections = 0
        self.script_ended = asyncio.Event()

    async def script_end(self) -> None:
        """Return when a connection was left by its script or by the client."""
        async with asyncio.timeout(5):
            await self.script_ended.wait()


@asynccontextmanager
async def asked(directory: Path, script: Script) -> AsyncIterator[tuple[FakeEngine, EngineClient]]:
    """Such an engine, and a client of it."""
    async with fake_engine(directory, script) as engine, EngineClient(engine.endpoint) as client:
        yield engine, client


@asynccontextmanager
async def connected(directory: Path, script: Script) -> AsyncIterator[tuple[FakeEngine, EngineConnection]]:
    """Such an engine, and one connection to it that is closed at the end."""
    async with fake_engine(directory, script) as engine:
        connection = await EngineConnection.open(engine.endpoint)
        try:
            yield engine, connection
        finally:
            await connection.close()


@asynccontextmanager
async def fake_engine(directory: Path, script: Script) -> AsyncIterator[FakeEngine]:
    """Run `script` for each connection; the connection is closed when it returns."""
    engine = FakeEngine(directory / "engine.sock")
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        engine.connections += 1
        try:
            await script(Peer(engine.connections, reader, writer, engine))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client closed
        finally:
            writer.close()
            engine.script_ended.set()

    server = await asyncio.start_unix_server(handle, engine.endpoint.path)
    try:
        yield engine
    finally:
        server.close()
        for task in handlers:
            task.cancel()
        if handlers:
            await asyncio.wait(handlers, timeout=5)
