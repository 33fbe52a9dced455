"""An engine that takes connections and answers nothing: the agent opens its socket and sends heartbeats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.connection.rig import ControlPlane, get
from tests.e2e.agent_process import AgentProcess

pytestmark = pytest.mark.timeout(120)

INTERVAL_SECS = 5


@asynccontextmanager
async def mute_engine(path: Path) -> AsyncIterator[None]:
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            continue
        writer.close()

    async with await asyncio.start_unix_server(ignore, path):
        yield


async def next_frame(plane: ControlPlane, kind: str) -> dict[str, Any]:
    """The next frame of a type. A heartbeat takes its interval, and half of it once more for the engine."""
    async with asyncio.timeout(30):
        while (frame := await plane.frames.get())["type"] != kind:
            continue
    return frame


async def test_the_agent_comes_up_and_reports_while_its_engine_answers_nothing(tmp_path: Path) -> None:
    engine = tmp_path / "engine.sock"
    plane = ControlPlane(ack={"accepted": True, "config": {"heartbeat_interval_seconds": INTERVAL_SECS}})
    async with mute_engine(engine), plane.serving():
        control_plane = f'\n[control_plane]\nendpoint = "{plane.endpoint()}"\ntoken = "syn_agt_test"\n'
        agent = AgentProcess(tmp_path / "agent", engine_socket=str(engine), config=control_plane)
        with agent:
            status = await asyncio.to_thread(agent.ask, "status", {})
            assert status["data"]["runtime"]["reachable"] is False
            assert "no answer within" in status["data"]["runtime"]["detail"]
            await next_frame(plane, "agent_hello")
            first = await next_frame(plane, "heartbeat")
            second = await next_frame(plane, "heartbeat")
            assert first["payload"]["containers"] == {"running": 0, "stopped": 0, "total": 0}
            assert second["payload"]["uptime_seconds"] > first["payload"]["uptime_seconds"]
            assert await get(plane.connections)
            assert plane.connections.empty(), "one connection held"
