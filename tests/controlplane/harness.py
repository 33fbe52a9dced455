"""A real control plane on loopback, a scripted agent on the `websockets` client, and raw HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from syntra.controlplane.server import ControlPlane
from syntra.controlplane.settings import ControlPlaneSettings, Limits, Timings
from syntra.controlplane.store import Store
from tests.controlplane.client import ControlPlaneClient

T = TypeVar("T")

PATIENCE = 5.0
"""How long a test waits for what must happen; never how long something takes."""

CLOCK = "2026-01-02T03:04:05.000Z"


class Plane:
    """A running control plane, its operator's client, and agents to connect to it."""

    def __init__(self, plane: ControlPlane, settings: ControlPlaneSettings) -> None:
        self._plane = plane
        self.port = plane.port
        self.settings = settings
        self.operator_token = settings.operator_token_path.read_text().strip()
        self.client = ControlPlaneClient(f"http://127.0.0.1:{self.port}", self.operator_token)

    async def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """A call of the synchronous client, off the loop."""
        async with asyncio.timeout(PATIENCE):
            return await asyncio.to_thread(function, *args, **kwargs)

    async def sql(self, script: str) -> None:
        """Change the open database behind the control plane's back: the fault of a broken disk."""
        await self._plane.store.run(_script, script)

    async def token(self, server_id: str = "srv_1") -> str:
        return str((await self.call(self.client.create_token, server_id))["token"])

    @contextlib.asynccontextmanager
    async def socket(self, token: str | None) -> AsyncIterator[Agent]:
        """A WebSocket that has said nothing yet."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}", "X-Agent-Version": "1.0.0"}
        async with connect(
            f"ws://127.0.0.1:{self.port}/agent/ws",
            additional_headers=headers,
            compression=None,
            ping_interval=None,
            proxy=None,
            close_timeout=PATIENCE,
        ) as socket:
            yield Agent(socket)

    @contextlib.asynccontextmanager
    async def agent(self, server_id: str = "srv_1", token: str | None = None) -> AsyncIterator[Agent]:
        """An agent whose hello was acknowledged."""
        async with self.socket(token or await self.token(server_id)) as agent:
            await agent.send("agent_hello", hello(server_id))
            agent.ack = (await agent.expect("hello_ack"))["payload"]
            yield agent

    async def pinged(self, agent: Agent, server_id: str = "srv_1") -> None:
        """Like `Agent.settled`, but leaves the last heartbeat as it is."""
        accepted = await self.call(self.client.command, server_id, "ping")
        await agent.send("pong", {}, id=(await agent.expect("ping"))["id"])
        view = await self.call(self.client.command_state, accepted["request_id"], PATIENCE)
        assert view["state"] == "answered"

    async def raw(self, request: bytes) -> bytes:
        """Everything that is answered to these bytes until the connection ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            async with asyncio.timeout(PATIENCE):
                return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def request(self, method: str, path: str, body: bytes = b"", *, headers: str = "", close: bool = True) -> bytes:
        """An authorized request as bytes."""
        return (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.operator_token}\r\n"
            f"Content-Length: {len(body)}\r\n{'Connection: close' if close else 'Connection: keep-alive'}\r\n"
            f"{headers}\r\n"
        ).encode() + body


class Agent:
    """The agent's end of a connection, scripted by a test."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.ack: dict[str, Any] = {}

    async def send(self, type: str, payload: dict[str, Any], id: str | None = None) -> str:
        id = id or str(uuid.uuid4())
        frame = {"id": id, "type": type, "timestamp": CLOCK, "payload": payload}
        await self.socket.send(json.dumps(frame))
        return id

    async def expect(self, type: str) -> dict[str, Any]:
        """The next message, which must be of this type."""
        async with asyncio.timeout(PATIENCE):
            message: dict[str, Any] = json.loads(await self.socket.recv())
        assert message["type"] == type, message
        assert set(message) == {"id", "type", "timestamp", "payload"}
        return message

    async def settled(self) -> None:
        """All that was sent before is acted on: messages are taken in order and a heartbeat is answered."""
        id = await self.send("heartbeat", {"agent_id": "agt_1"})
        assert (await self.expect("pong"))["id"] == id

    async def closed(self) -> tuple[int, str]:
        """The close code and reason that the control plane sends next."""
        async with asyncio.timeout(PATIENCE):
            try:
                message = await self.socket.recv()
            except ConnectionClosed as exc:
                assert exc.rcvd is not None, "the connection was lost without a close frame"
                return exc.rcvd.code, exc.rcvd.reason
        raise AssertionError(f"not closed but: {message!r}")


@contextlib.asynccontextmanager
async def running(
    data_dir: Path, *, timings: Timings | None = None, limits: Limits | None = None, **settings: Any
) -> AsyncIterator[Plane]:
    """A control plane on a free port, with the real durations unless some are given."""
    chosen = ControlPlaneSettings(
        data_dir=data_dir,
        port=0,
        limits=limits or Limits(),
        timings=timings or Timings(),
        **settings,
    )
    async with ControlPlane(chosen) as plane:
        yield Plane(plane, chosen)


def _script(store: Store, script: str) -> None:
    store.database.executescript(script)


def hello(server_id: str = "srv_1", **changes: Any) -> dict[str, Any]:
    """A whole hello payload."""
    return {
        "agent_id": "agt_1",
        "server_id": server_id,
        "version": "1.0.0",
        "runtime": "docker",
        "runtime_version": "27.0.1",
        "os": {"name": "Debian", "version": "12", "kernel": "6.1.0"},
        "arch": "x86_64",
        "resources": {"cpu_cores": 4, "cpu_model": "a cpu", "memory_total_mb": 8000, "disk_total_gb": 100},
        "network": {"hostname": "web-1", "public_ip": None, "private_ip": "10.0.0.5"},
        "capabilities": ["deploy"],
        "protocol_version": "1.0",
        "min_supported": "1.0",
        **changes,
    }


def deploy_payload(**changes: Any) -> dict[str, Any]:
    """A deploy as an operator gives it, ids to be filled in."""
    return {
        "service_id": "svc_1",
        "image": {"registry": "registry.example", "repository": "shop/api", "tag": "1"},
        "registry_auth": {"username": "u", "password": "registry-password"},
        "config": {"port": 80, "replicas": 1, "env_vars": {"A": "b"}},
        **changes,
    }


def json_body(response: bytes) -> dict[str, Any]:
    """The JSON after the last head in raw HTTP bytes."""
    body: dict[str, Any] = json.loads(response.rpartition(b"\r\n\r\n")[2])
    return body
