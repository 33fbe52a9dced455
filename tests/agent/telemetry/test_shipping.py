"""Batches on their way from the telemetry process to a real WebSocket, and what the process is told about each."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from syntra.agent.telemetry.shipping import BatchShipping
from syntra.connection.codec import MAX_FRAME_BYTES
from syntra.model.fields import Json
from syntra.telemetry.link import Message
from tests.agent.agent_rig import running
from tests.agent.api.test_control_link import linked, until_connected
from tests.agent.fake_engine import FakeEngine
from tests.connection.rig import ControlPlane, frame, get

FEATURES = ("binary_telemetry", "telemetry_ack")


class ProcessEnd:
    """The agent's end of the link to the process; the test plays the process."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[[Message], Awaitable[None]]] = {}
        self.sent: asyncio.Queue[Mapping[str, Json]] = asyncio.Queue()

    def on(self, kind: str, handler: Callable[[Message], Awaitable[None]]) -> None:
        self.handlers[kind] = handler

    async def tell(self, kind: str, fields: Mapping[str, Json]) -> None:
        """Not what this test is about."""

    async def send(self, kind: str, fields: Mapping[str, Json], body: bytes = b"") -> None:
        if kind == "sent":
            self.sent.put_nowait(fields)


@pytest.mark.parametrize("is_binary", [True, False])
async def test_a_batch_that_no_frame_can_hold_is_refused_and_the_next_one_is_sent(
    tmp_path: Path, is_binary: bool
) -> None:
    async def accepting(plane: ControlPlane, connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(frame("hello_ack", {"config": {"features": list(FEATURES)}}))
        async for _ in connection:
            continue

    def body(size: int) -> bytes:
        return bytes(size) if is_binary else b'{"data":"' + b"x" * size + b'"}'

    adapter, process = FakeEngine(), ProcessEnd()
    async with (
        running(tmp_path, adapter) as agent,
        ControlPlane(accepting).serving() as plane,
        linked(tmp_path, plane, agent, adapter, extensions=FEATURES) as link,
        asyncio.TaskGroup() as group,
    ):
        await until_connected(link)
        shipping = BatchShipping(process, group)
        task = group.create_task(shipping.run(link), name="shipping")
        await asyncio.sleep(0)
        errors: list[Any] = []
        for size in (MAX_FRAME_BYTES + 1, 10):
            fields: dict[str, Json] = {"batch_id": "b", "is_binary": is_binary}
            await process.handlers["batch"](Message(kind="batch", fields=fields, body=body(size)))
            errors.append((await get(process.sent))["error"])
        task.cancel()
    assert str(errors[0]).startswith("refused: cannot send a message: it is larger than")
    assert errors[1] == ""


def test_the_agent_forwards_frames_without_the_libraries_that_make_them() -> None:
    program = "import sys, syntra.agent.app; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "'websockets'" in loaded
    for name in ("google", "grpc", "opentelemetry", "orjson", "zstandard"):
        assert f"'{name}'" not in loaded
