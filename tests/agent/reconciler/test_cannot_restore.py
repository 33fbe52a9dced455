"""A replica that cannot be restored is remembered; one whose network was removed is created again with it."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.agent.agent_rig import Agent
from tests.agent.reconciler.test_reconciler import Told, reconciling, stopped, until_up

pytestmark = pytest.mark.virtual_time


async def test_a_replica_whose_network_was_removed_is_created_again_with_it(agent: Agent) -> None:
    await agent.deployed("d1", config={"replicas": 2})
    first, second = agent.engine.of("web")
    agent.engine.networks_made.clear()
    agent.engine.refuse("start", "NETWORK_GONE")
    async with reconciling(agent, Told()):
        stopped(agent, second)
        await until_up(agent, 2)
    kept, made = agent.engine.of("web")
    assert (kept, made.index, agent.engine.networks_made) == (first, second.index, {"shop"})
    assert made.container_id != second.container_id


async def test_what_cannot_be_restored_is_remembered_with_the_next_attempt_until_it_runs(agent: Agent) -> None:
    await agent.deployed("d1", config={"replicas": 2})
    _, second = agent.engine.of("web")
    agent.engine.refuse("start", "START_FAILED", times=3)
    async with reconciling(agent, Told()) as reconciler:
        stopped(agent, second)
        await asyncio.sleep(4)
        [failure] = reconciler.failures
        assert (failure.attempts, failure.index, failure.is_alert(failure.since)) == (2, 2, True)
        assert str(failure).startswith(
            "service web (shop/web): cannot restore replica 2: cannot start: the engine says no; next try at "
        )
        assert failure.next_at is not None
        assert 0 < failure.next_at - time.time() <= 4
        await until_up(agent, 2, 30)
        await asyncio.sleep(0.1)
        assert reconciler.failures == []


async def test_a_failure_is_forgotten_when_the_service_is_stopped(agent: Agent) -> None:
    await agent.deployed("d1")
    agent.engine.refuse("start", "START_FAILED", times=99)
    async with reconciling(agent, Told()) as reconciler:
        stopped(agent, agent.engine.of("web")[0])
        await asyncio.sleep(4)
        assert len(reconciler.failures) == 1
        await agent.send("stop", "s1", service_id="web")
        await agent.done()
        await asyncio.sleep(0.1)
        assert reconciler.failures == []


async def test_an_engine_that_is_away_is_no_failure_of_a_replica(agent: Agent) -> None:
    await agent.deployed("d1")
    agent.engine.away_from = {"ping"}
    async with reconciling(agent, Told()) as reconciler:
        stopped(agent, agent.engine.of("web")[0])
        await asyncio.sleep(10)
        assert (reconciler.failures, agent.engine.up("web")) == ([], [])
