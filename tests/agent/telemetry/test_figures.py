"""Samples told at an interval: to the telemetry process, and to the hub in its own shape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.messages import PeerGone
from syntra.agent.telemetry.figures import FiguresTelling, host_resource
from syntra.agent.telemetry.hub_figures import CONTAINERS_IN_ONE, HubFigures
from syntra.model.fields import Json
from syntra.telemetry.collect.figures.message import parse_message
from syntra.utils.host import facts
from tests.agent.agent_rig import Agent, running
from tests.agent.fake_engine import FakeEngine
from tests.contract import shapes

pytestmark = pytest.mark.virtual_time

INTERVAL_SECS = 15.0


class Heard:
    """The telemetry process and the control plane at once: what they receive, and when."""

    def __init__(self) -> None:
        self.messages: list[tuple[float, Mapping[str, Any]]] = []
        self.payloads: list[Mapping[str, Any]] = []
        self.is_connected = True
        self.is_hub = True
        self.is_gone = False

    async def send(self, kind: str, fields: Mapping[str, Json]) -> None:
        assert kind == "figures"
        self.messages.append((asyncio.get_running_loop().time(), fields))

    async def stream(self, kind: str, payload: Mapping[str, Json]) -> None:
        assert kind == "telemetry_batch"
        if self.is_gone:
            raise PeerGone("gone")
        self.payloads.append(payload)


@asynccontextmanager
async def telling(directory: Path, heard: Heard, **changes: Any) -> AsyncIterator[Agent]:
    async with running(directory, FakeEngine()) as agent:
        await agent.deployed("d1")
        options: dict[str, Any] = {
            "interval_secs": INTERVAL_SECS,
            "process": heard,
            "hub": HubFigures(agent_id="agt_1", data_dir=directory),
            "agent": {"service.name": "syntra-agent"},
            "facts": lambda: facts(directory),
            **changes,
        }
        figures = FiguresTelling(agent.sampler, agent.journal, **options)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(figures.run(heard), name="figures")
            yield agent
            task.cancel()


async def test_the_process_gets_a_sample_at_equal_distances(tmp_path: Path) -> None:
    heard = Heard()
    async with telling(tmp_path, heard) as agent:
        await asyncio.sleep(2.5 * INTERVAL_SECS)
        [container] = agent.engine.of("web")
    times = [at for at, _ in heard.messages]
    assert [later - times[0] for later in times] == [pytest.approx(n * INTERVAL_SECS, abs=0.5) for n in range(3)]
    first, second, _ = (parse_message(fields) for _, fields in heard.messages)
    assert first.host is not None and first.resource == host_resource(facts(tmp_path))
    [one] = second.containers
    assert one.identity == {
        "service_id": "web",
        "service_name": "web",
        "project": "shop",
        "deployment_id": "d1",
        "container_id": container.container_id,
        "replica": "syn-web-d1",
        "image": "shop/web:1",
    }
    assert first.containers[0].cpus_used is None
    assert one.cpus_used == pytest.approx(0.0125)
    assert one.started_ns > 0


async def test_the_hub_gets_its_own_shape_and_others_nothing(tmp_path: Path) -> None:
    heard = Heard()
    async with telling(tmp_path, heard, process=None):
        await asyncio.sleep(1.5 * INTERVAL_SECS)
        assert len(heard.payloads) == 2
        for payload in heard.payloads:
            assert list(shapes.TELEMETRY_BATCH(payload, "batch")) == []
        [container] = heard.payloads[-1]["metrics"]["containers"]
        assert (container["service_id"], container["cpu_percent"], container["memory_used_mb"]) == ("web", 1.25, 3.0)
        assert heard.payloads[-1]["metrics"]["server"]["container_count"] == 1
        heard.is_hub = False
        await asyncio.sleep(INTERVAL_SECS)
        heard.is_hub, heard.is_connected = True, False
        await asyncio.sleep(INTERVAL_SECS)
        assert len(heard.payloads) == 2
        heard.is_connected, heard.is_gone = True, True
        await asyncio.sleep(INTERVAL_SECS)
        heard.is_gone = False
        await asyncio.sleep(INTERVAL_SECS)
        assert len(heard.payloads) == 3


async def test_turned_off_the_last_sample_still_stays_young(tmp_path: Path) -> None:
    heard = Heard()
    async with telling(tmp_path, heard, process=None, hub=None) as agent:
        await asyncio.sleep(1.5 * INTERVAL_SECS)
        assert asyncio.get_running_loop().time() - agent.sampler.last.at < INTERVAL_SECS
    assert (heard.messages, heard.payloads) == ([], [])


async def test_an_engine_that_is_away_costs_only_its_containers(tmp_path: Path) -> None:
    heard = Heard()
    async with telling(tmp_path, heard) as agent:
        await asyncio.sleep(1)
        agent.engine.away = True
        await asyncio.sleep(INTERVAL_SECS)
    assert [len(parse_message(fields).containers) for _, fields in heard.messages] == [1, 0]
    assert parse_message(heard.messages[-1][1]).host is not None


async def test_very_many_containers_take_several_payloads(tmp_path: Path) -> None:
    hub = HubFigures(agent_id="agt_1", data_dir=tmp_path)
    async with telling(tmp_path, Heard()) as agent:
        sample = await agent.sampler.sample()
        [measured] = sample.containers.values()
        found = list(hub.payloads(sample, [measured] * (CONTAINERS_IN_ONE + 1)))
        none = list(hub.payloads(sample, []))
    assert [len(one["metrics"]["containers"]) for one in found] == [CONTAINERS_IN_ONE, 1]
    assert ["server" in one["metrics"] for one in found] == [True, False]
    assert [one["metrics"]["server"]["container_count"] for one in none] == [0]
    for payload in (*found, *none):
        assert list(shapes.TELEMETRY_BATCH(payload, "batch")) == []
