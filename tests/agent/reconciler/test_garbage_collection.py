"""The broom removes what is retired and stopped, and nothing else, whatever happens beside it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from syntra.agent.reconciler.garbage_collection import (
    FAILED_KEPT_SECS,
    FIRST_RUN_SECS,
    RUN_EVERY_SECS,
    GarbageCollector,
)
from syntra.model.ids import ServiceId
from tests.agent.agent_rig import Agent, running
from tests.agent.fake_engine import FakeContainer, FakeEngine
from tests.agent.samples import deployment

pytestmark = pytest.mark.virtual_time


def garbage_collector(agent: Agent) -> GarbageCollector:
    return GarbageCollector(agent.journal, agent.engine, agent.deployer.queues)


async def with_left_over(agent: Agent) -> FakeContainer:
    """A service that runs d2, with the stopped container of d1 left behind."""
    await agent.deployed("d1")
    agent.engine.refuse("remove", "REMOVE_FAILED")
    await agent.deployed("d2")
    left, _ = agent.engine.of("web")
    assert not left.is_up
    return left


async def stray(agent: Agent, deployment_id: str, service_id: str, *, up: bool) -> str:
    wanted = deployment(deployment_id, service_id)
    await agent.engine.obtain_image(wanted, None, lambda *_: None)
    container_id, name = await agent.engine.create(wanted, 1)
    if up:
        await agent.engine.start(container_id)
    return name


async def test_a_stopped_left_over_goes_and_the_current_one_stays(agent: Agent) -> None:
    await with_left_over(agent)
    broom = garbage_collector(agent)
    assert await broom.collect() == 1
    assert [c.deployment.deployment_id for c in agent.engine.of("web")] == ["d2"]
    assert broom.stray == ()
    assert await broom.collect() == 0


async def test_a_stopped_service_keeps_its_containers(agent: Agent) -> None:
    await agent.deployed("d1")
    await agent.carry_out("stop", "r")
    assert await garbage_collector(agent).collect() == 0
    assert len(agent.engine.of("web")) == 1


async def test_the_container_of_a_failed_deployment_goes_after_a_day_with_its_image_and_not_before(
    agent: Agent,
) -> None:
    assert (await agent.deploy_to_end("r", "d1", env={"FAIL": "exit"}))["status"] == "failed"
    broom = garbage_collector(agent)
    assert await broom.collect() == 0
    [kept] = agent.engine.kept.values()
    assert len(agent.engine.pins) == 1
    kept.created_ns -= int(FAILED_KEPT_SECS * 1e9)
    await agent.reach("failed", agent.deploy("r2", "d2"))
    agent.engine.holds.clear()
    assert await broom.collect() == 0, "an operation of the service is under way"
    assert len(agent.engine.kept) == 1


async def test_a_service_that_only_failed_leaves_no_pin_after_a_day(agent: Agent) -> None:
    await agent.deploy_to_end("r", "d1", env={"FAIL": "exit"})
    [kept] = agent.engine.kept.values()
    kept.created_ns -= int(FAILED_KEPT_SECS * 1e9)
    assert await garbage_collector(agent).collect() == 2
    assert (agent.engine.kept, agent.engine.pins) == ({}, set())


async def test_what_runs_or_is_of_nobody_is_named_and_not_touched(agent: Agent) -> None:
    await agent.deployed("d1")
    names = [
        await stray(agent, "d0", "web", up=True),
        await stray(agent, "d1", "lost", up=True),
        await stray(agent, "d2", "lost", up=False),
    ]
    broom = garbage_collector(agent)
    # The one thing that goes is the pin of a deployment that the journal does not keep.
    assert await broom.collect() == 1
    assert broom.stray == tuple(names)
    assert len(agent.engine.containers) == 4
    assert agent.engine.pins == {("web", "d1"), ("lost", "d1"), ("lost", "d2")}


async def test_images_of_deployments_that_are_not_kept_go(agent: Agent) -> None:
    await agent.deployed("d1")
    agent.engine.pins.add((ServiceId("web"), deployment("old").deployment_id))
    assert await garbage_collector(agent).collect() == 1
    assert agent.engine.pins == {("web", "d1")}


async def test_a_service_that_is_being_worked_on_is_left_alone(agent: Agent) -> None:
    await with_left_over(agent)
    agent.engine.pins.add((ServiceId("web"), deployment("old").deployment_id))
    hold = await agent.reach("restart", agent.send("restart", "r", service_id="web"))
    assert await garbage_collector(agent).collect() == 0
    assert len(agent.engine.of("web")) == 2
    hold.release.set()


async def test_work_that_begins_during_a_sweep_wins(agent: Agent) -> None:
    await with_left_over(agent)
    hold = agent.engine.hold("inspect")
    async with asyncio.TaskGroup() as group:
        sweep = group.create_task(garbage_collector(agent).collect(), name="sweep")
        await hold.arrived.wait()
        busy = agent.engine.hold("start")
        await agent.send("rollback", "r", service_id="web")
        await busy.arrived.wait()
        hold.release.set()
        assert await sweep == 0
        busy.release.set()
    await agent.done()
    assert agent.engine.up("web") == ["d1"]


async def test_a_container_that_was_started_since_it_was_seen_is_not_removed(agent: Agent) -> None:
    left = await with_left_over(agent)
    hold = agent.engine.hold("inspect")
    async with asyncio.TaskGroup() as group:
        sweep = group.create_task(garbage_collector(agent).collect(), name="sweep")
        await hold.arrived.wait()
        await agent.engine.start(left.container_id)
        hold.release.set()
        assert await sweep == 0
    assert left.container_id in agent.engine.containers


async def test_it_sweeps_now_and_then_and_puts_off_what_cannot_be_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent, asyncio.TaskGroup() as group:
        await with_left_over(agent)
        adapter.away = True
        task = group.create_task(garbage_collector(agent).run(), name="sweep")
        await asyncio.sleep(FIRST_RUN_SECS + 1)
        assert "garbage collection is put off" in [record.getMessage() for record in caplog.records]
        adapter.away = False
        adapter.refuse("remove", "REMOVE_FAILED")
        await asyncio.sleep(RUN_EVERY_SECS)
        assert len(adapter.of("web")) == 2
        await asyncio.sleep(RUN_EVERY_SECS)
        assert len(adapter.of("web")) == 1
        task.cancel()
