"""The broom removes what is retired and stopped, and nothing else, whatever happens beside it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from syntra.agent.reconciler.garbage_collection import FIRST_RUN_SECS, RUN_EVERY_SECS, GarbageCollector
from syntra.model.ids import ServiceId
from tests.agent.agent_rig import Agent, running
from tests.agent.fake_engine import FakeContainer, FakeEngine
from tests.agent.samples import deployment
from tests.agent.virtual_time import virtual_time


def garbage_collector(agent: Agent, adapter: FakeEngine) -> GarbageCollector:
    return GarbageCollector(agent.journal, adapter, agent.deployer.queues)


async def with_left_over(agent: Agent, adapter: FakeEngine) -> FakeContainer:
    """A service that runs d2, with the stopped container of d1 left behind."""
    await agent.deployed("d1")
    adapter.refuse("remove", "REMOVE_FAILED")
    await agent.deployed("d2")
    left, _ = adapter.of("web")
    assert not left.is_up
    return left


async def stray(adapter: FakeEngine, deployment_id: str, service_id: str, *, up: bool) -> str:
    wanted = deployment(deployment_id, service_id)
    await adapter.obtain_image(wanted, None, lambda *_: None)
    container_id, name = await adapter.create(wanted, 1)
    if up:
        await adapter.start(container_id)
    return name


@virtual_time
async def test_a_stopped_left_over_goes_and_the_current_one_stays(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent:
        await with_left_over(agent, adapter)
        broom = garbage_collector(agent, adapter)
        assert await broom.collect() == 1
        assert [c.deployment.deployment_id for c in adapter.of("web")] == ["d2"]
        assert broom.stray == ()
        assert await broom.collect() == 0


@virtual_time
async def test_a_stopped_service_keeps_its_containers(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent:
        await agent.deployed("d1")
        await agent.send("stop", "r", service_id="web")
        await agent.done()
        assert await garbage_collector(agent, adapter).collect() == 0
        assert len(adapter.of("web")) == 1


@virtual_time
async def test_what_runs_or_is_of_nobody_is_named_and_not_touched(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent:
        await agent.deployed("d1")
        names = [
            await stray(adapter, "d0", "web", up=True),
            await stray(adapter, "d1", "lost", up=True),
            await stray(adapter, "d2", "lost", up=False),
        ]
        broom = garbage_collector(agent, adapter)
        # The one thing that goes is the pin of a deployment that the journal does not keep.
        assert await broom.collect() == 1
        assert broom.stray == tuple(names)
        assert len(adapter.containers) == 4
        assert adapter.pins == {("web", "d1"), ("lost", "d1"), ("lost", "d2")}


@virtual_time
async def test_images_of_deployments_that_are_not_kept_go(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent:
        await agent.deployed("d1")
        adapter.pins.add((ServiceId("web"), deployment("old").deployment_id))
        assert await garbage_collector(agent, adapter).collect() == 1
        assert adapter.pins == {("web", "d1")}


@virtual_time
async def test_a_service_that_is_being_worked_on_is_left_alone(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent:
        await with_left_over(agent, adapter)
        adapter.pins.add((ServiceId("web"), deployment("old").deployment_id))
        hold = adapter.hold("restart")
        await agent.send("restart", "r", service_id="web")
        await hold.arrived.wait()
        assert await garbage_collector(agent, adapter).collect() == 0
        assert len(adapter.of("web")) == 2
        hold.release.set()


@virtual_time
async def test_work_that_begins_during_a_sweep_wins(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent:
        await with_left_over(agent, adapter)
        hold = adapter.hold("inspect")
        async with asyncio.TaskGroup() as group:
            sweep = group.create_task(garbage_collector(agent, adapter).collect(), name="sweep")
            await hold.arrived.wait()
            busy = adapter.hold("start")
            await agent.send("rollback", "r", service_id="web")
            await busy.arrived.wait()
            hold.release.set()
            assert await sweep == 0
            busy.release.set()
        await agent.done()
        assert adapter.up("web") == ["d1"]


@virtual_time
async def test_a_container_that_was_started_since_it_was_seen_is_not_removed(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent:
        left = await with_left_over(agent, adapter)
        hold = adapter.hold("inspect")
        async with asyncio.TaskGroup() as group:
            sweep = group.create_task(garbage_collector(agent, adapter).collect(), name="sweep")
            await hold.arrived.wait()
            await adapter.start(left.container_id)
            hold.release.set()
            assert await sweep == 0
        assert left.container_id in adapter.containers


@virtual_time
async def test_it_sweeps_now_and_then_and_puts_off_what_cannot_be_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent, asyncio.TaskGroup() as group:
        await with_left_over(agent, adapter)
        adapter.away = True
        task = group.create_task(garbage_collector(agent, adapter).run(), name="sweep")
        await asyncio.sleep(FIRST_RUN_SECS + 1)
        assert "garbage collection is put off" in [record.getMessage() for record in caplog.records]
        adapter.away = False
        adapter.refuse("remove", "REMOVE_FAILED")
        await asyncio.sleep(RUN_EVERY_SECS)
        assert len(adapter.of("web")) == 2
        await asyncio.sleep(RUN_EVERY_SECS)
        assert len(adapter.of("web")) == 1
        task.cancel()
