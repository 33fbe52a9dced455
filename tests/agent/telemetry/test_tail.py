"""`telemetry_tail` of the local socket, with the telemetry process played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.telemetry.process import NoTelemetry
from syntra.model.fields import Json
from tests.agent.agent_rig import Agent, running
from tests.agent.fake_engine import FakeEngine

pytestmark = pytest.mark.virtual_time


class Process:
    """Sends what the test puts into `batches`; an error ends it."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[Mapping[str, Json] | NoTelemetry] = asyncio.Queue()
        self.filters: Mapping[str, Json] = {}
        self.is_closed = False

    async def tail(self, filters: Mapping[str, Json]) -> AsyncGenerator[Mapping[str, Json], None]:
        self.filters = filters
        try:
            while True:
                found = await self.batches.get()
                if isinstance(found, NoTelemetry):
                    raise found
                yield found
        finally:
            self.is_closed = True


async def heard(agent: Agent, count: int) -> list[tuple[str, dict[str, Any]]]:
    while len(agent.local.heard) < count:
        await asyncio.sleep(0.01)
    return agent.local.heard


async def test_items_reach_the_client_until_the_process_ends(tmp_path: Path) -> None:
    process = Process()
    async with running(tmp_path, FakeEngine(), telemetry=process) as agent:
        await agent.ask("telemetry_tail", "t1", service="svc_web", signal="logs")
        process.batches.put_nowait({"number": 1, "items": [{"line": "x"}], "missed": 2})
        messages = await heard(agent, 2)
        assert messages[0][1]["success"] is True
        kind, payload = messages[1]
        assert kind == "telemetry_tail"
        assert (payload["request_id"], payload["items"], payload["missed"]) == ("t1", [{"line": "x"}], 2)
        assert process.filters == {"service": "svc_web", "signal": "logs"}
        process.batches.put_nowait(NoTelemetry("cannot show more telemetry: it has ended"))
        answer = (await heard(agent, 3))[2][1]
        assert answer["success"] is False
        assert answer["error"]["code"] == "TELEMETRY_UNAVAILABLE"
        assert answer["error"]["message"] == "cannot show more telemetry: it has ended"
    assert process.is_closed


async def test_a_client_that_leaves_ends_its_view(tmp_path: Path) -> None:
    process = Process()
    async with running(tmp_path, FakeEngine(), telemetry=process) as agent:
        await agent.send("telemetry_tail", "t1")
        agent.control.gone = True
        process.batches.put_nowait({"number": 1, "items": [], "missed": 1})
        while not process.is_closed:
            await asyncio.sleep(0.01)


async def test_without_telemetry_it_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, FakeEngine()) as agent:
        await agent.ask("telemetry_tail", "t1")
        [(_, answer)] = await heard(agent, 1)
        assert answer["error"]["message"] == "cannot ask for telemetry: it is off; set telemetry.receivers to on"
