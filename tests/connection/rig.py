"""A real agent side and a real WebSocket server on loopback, with events instead of waiting.

`Agent` runs a `Transport` whose every delay is a thousandth. `ControlPlane` is the websockets library's server; its
behaviour per connection is a coroutine. Everything that can hang has five seconds.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from syntra.connection.codec import Envelope
from syntra.connection.messages import HelloAck
from syntra.connection.settings import ConnectionSettings, Timings
from syntra.connection.transport import Transport
from syntra.connection.writer import OutboxItem

TOKEN = "syn_agt_5ecret5ecret5ecret"
T = TypeVar("T")
HELLO = {"agent_id": "agt_1", "server_id": "srv_1", "protocol_version": "1.0"}
PATIENCE = 5.0

FAST = Timings(
    open_timeout_secs=3.0,
    hello_timeout_secs=1.0,
    ack_timeout_secs=3.0,
    close_timeout_secs=0.3,
    send_timeout_secs=3.0,
    file_check_secs=0.02,
)


class Hurried(random.Random):
    """Draws a thousandth of the window: thirty seconds become thirty milliseconds."""

    def uniform(self, a: float, b: float) -> float:
        return a + (b - a) * 0.001


class MemoryOutbox:
    """Keeps items until they are taken. `fetches` records the sizes of the batches it gave out."""

    def __init__(self, *texts: str) -> None:
        self.items = dict(enumerate(texts, 1))
        self.next_seq = len(texts) + 1
        self.fetches: list[int] = []
        self.replaced: list[int] = []
        self.filled = asyncio.Event()
        self.empty = asyncio.Event()
        self._tell()

    def add(self, text: str) -> None:
        self.items[self.next_seq] = text
        self.next_seq += 1
        self._tell()

    async def pending(self, limit: int) -> Sequence[OutboxItem]:
        items = [OutboxItem(seq=seq, text=text) for seq, text in sorted(self.items.items())[:limit]]
        self.fetches.append(len(items))
        return items

    async def taken(self, seq: int) -> None:
        self.items.pop(seq, None)
        self._tell()

    async def replace(self, seq: int, text: str | None) -> None:
        if text is None:
            self.items.pop(seq, None)
        else:
            self.items[seq] = text
        self.replaced.append(seq)
        self._tell()

    async def wait(self) -> None:
        await self.filled.wait()

    def _tell(self) -> None:
        (self.filled.set if self.items else self.filled.clear)()
        (self.empty.clear if self.items else self.empty.set)()


class Failures(logging.Handler):
    """The sentences the transport logs about failed dials and lost connections, as a queue."""

    def __init__(self) -> None:
        super().__init__()
        self.sentences: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == "not connected to the control plane":
            self.sentences.put_nowait(str(record.__dict__["reason"]))


class Agent:
    """A transport with everything it is given; its calls end up in queues."""

    def __init__(self, endpoint: str, **changes: Any) -> None:
        timings = changes.pop("timings", FAST)
        self.outbox = MemoryOutbox()
        self.ready: asyncio.Queue[HelloAck] = asyncio.Queue()
        self.lost: asyncio.Queue[str] = asyncio.Queue()
        self.delivered: asyncio.Queue[Envelope] = asyncio.Queue()
        self.hello: Callable[[], Awaitable[Mapping[str, Any]]] = changes.pop("hello", self._hello)
        self.deliver: Callable[[Envelope], Awaitable[None]] = changes.pop("deliver", self.delivered.put)
        self.heartbeat: Callable[[], Awaitable[Mapping[str, Any]]] = changes.pop("heartbeat", self._heartbeat)
        on_telemetry_ack = changes.pop("on_telemetry_ack", lambda ack: None)
        self.failures = Failures()
        settings = ConnectionSettings(
            **{"endpoint": endpoint, "token": TOKEN, "version": "0.1.0", "timings": timings, **changes}
        )
        self.transport = Transport(
            settings=settings,
            hello=self.hello,
            heartbeat=self.heartbeat,
            deliver=self.deliver,
            on_ready=self.ready.put_nowait,
            on_lost=self.lost.put_nowait,
            outbox=self.outbox,
            on_telemetry_ack=on_telemetry_ack,
            rng=Hurried(),
        )

    async def _hello(self) -> Mapping[str, Any]:
        return HELLO

    async def _heartbeat(self) -> Mapping[str, Any]:
        return {"agent_id": "agt_1"}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Agent]:
        logger = logging.getLogger("syntra.connection.transport")
        level = logger.level
        logger.addHandler(self.failures)
        logger.setLevel(logging.DEBUG)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.transport.run(), name="agent")
                yield self
                await self.transport.stop()
        finally:
            logger.removeHandler(self.failures)
            logger.setLevel(level)


async def get(queue: asyncio.Queue[T]) -> T:
    async with asyncio.timeout(PATIENCE):
        return await queue.get()


async def wait(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        await event.wait()


Behaviour = Callable[["ControlPlane", ServerConnection], Awaitable[None]]


async def polite(plane: ControlPlane, connection: ServerConnection) -> None:
    """What a control plane does: acknowledges hello, answers heartbeats, keeps the rest."""
    async for text in connection:
        message = json.loads(text)
        plane.frames.put_nowait(message)
        if message["type"] == "agent_hello":
            await connection.send(frame("hello_ack", plane.ack))
        elif message["type"] == "heartbeat":
            await connection.send(frame("pong", id=message["id"]))


class ControlPlane:
    """A WebSocket server. `behaviours` are used up one per connection; the last one stays."""

    def __init__(self, *behaviours: Behaviour, ack: dict[str, Any] | None = None, max_size: int = 64 << 20) -> None:
        self.behaviours = list(behaviours or [polite])
        self.max_size = max_size
        self.ack = ack or {"accepted": True}
        self.frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.connections: asyncio.Queue[ServerConnection] = asyncio.Queue()
        self.closed: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()
        self.open = 0
        self.most_open = 0
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Response | None] = lambda request: None
        self.port = 0

    async def _handle(self, connection: ServerConnection) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        self.connections.put_nowait(connection)
        behaviour = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
        try:
            await behaviour(self, connection)
        except ConnectionClosed:
            pass
        finally:
            await connection.wait_closed()
            self.open -= 1
            self.closed.put_nowait((connection.close_code, connection.close_reason))

    def _process(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        return self.answer(request)

    @asynccontextmanager
    async def serving(self, context: ssl.SSLContext | None = None) -> AsyncIterator[ControlPlane]:
        quiet = logging.getLogger("tests.control_plane")
        quiet.setLevel(logging.CRITICAL)
        server = await serve(
            self._handle,
            "127.0.0.1",
            0,
            ssl=context,
            process_request=self._process,
            ping_interval=None,
            close_timeout=0.5,
            max_size=self.max_size,
            logger=quiet,
        )
        self.port = next(iter(server.sockets)).getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    def endpoint(self, scheme: str = "ws", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}/agent/ws"

    async def next(self, type_: str) -> dict[str, Any]:
        """The next frame of a type; others before it are skipped."""
        while True:
            message: dict[str, Any] = await get(self.frames)
            if message["type"] == type_:
                return message


@asynccontextmanager
async def linked(
    *behaviours: Behaviour, ack: dict[str, Any] | None = None, **changes: Any
) -> AsyncIterator[tuple[ControlPlane, Agent]]:
    """A control plane with these behaviours, and an agent with these changes that dials it."""
    async with (
        ControlPlane(*behaviours, ack=ack).serving() as plane,
        Agent(plane.endpoint(), **changes).running() as agent,
    ):
        yield plane, agent


@asynccontextmanager
async def connected(*behaviours: Behaviour, **changes: Any) -> AsyncIterator[tuple[ControlPlane, Agent]]:
    """The same, once the control plane has accepted the agent."""
    async with linked(*behaviours, **changes) as (plane, agent):
        await get(agent.ready)
        yield plane, agent


async def acknowledge(connection: ServerConnection) -> None:
    """Take the hello and accept it."""
    await connection.recv()
    await connection.send(frame("hello_ack"))


def frame(type_: str, payload: Mapping[str, Any] | None = None, *, id: str = "cp-1") -> str:
    return json.dumps({"id": id, "type": type_, "timestamp": "2026-01-01T00:00:00Z", "payload": payload or {}})


def result(number: int, padding: int = 0) -> str:
    return frame("command_response", {"number": number, "padding": "x" * padding})
