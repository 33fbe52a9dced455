"""Reports say what is seen to run at the end; replicas whose network was removed are created again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from syntra.model.container import ContainerState
from tests.agent.agent_rig import Agent

pytestmark = pytest.mark.virtual_time

CHECK: dict[str, Any] = {
    "type": "exec",
    "command": ["wget", "-q", "http://127.0.0.1/"],
    "interval_seconds": 1,
    "retries": 2,
}
CHECKED: dict[str, Any] = {"config": {"health_check": CHECK}}


async def test_a_rollback_creates_the_old_replica_again_when_its_network_was_removed(agent: Agent) -> None:
    await agent.deployed("d1", **CHECKED)
    [old] = agent.engine.of("web")
    await agent.deploy("r1", "d2", strategy="instant", env={"FAIL": "unhealthy"}, **CHECKED)
    while agent.engine.up("web") != ["d2"]:
        await asyncio.sleep(0.05)
    agent.engine.networks_made.clear()
    agent.engine.refuse("start", "NETWORK_GONE")
    await agent.done()
    end = await agent.end_of("r1")
    assert (end["status"], agent.engine.up("web"), agent.engine.networks_made) == ("rolled_back", ["d1"], {"shop"})
    assert f"{old.name} was created again: its network had been removed" in end["message"]
    assert old.container_id not in agent.engine.containers


async def test_a_failed_scale_keeps_the_replica_that_had_to_be_created_again(agent: Agent) -> None:
    await agent.deployed("d1")
    await agent.send("stop", "s", service_id="web")
    await agent.done()
    agent.engine.refuse("start", "NETWORK_GONE")
    await agent.send("scale", "r1", service_id="web", replicas=2, strategy="rolling")
    while not agent.engine.up("web"):
        await asyncio.sleep(0.05)
    agent.engine.refuse("create", "CREATE_FAILED")
    await agent.done()
    assert (await agent.outcome("r1"), agent.engine.up("web")) == ("CREATE_FAILED", ["d1"])


async def test_a_report_says_what_runs_and_not_what_should(agent: Agent) -> None:
    await agent.deployed("d1", **CHECKED)
    [old] = agent.engine.of("web")
    await agent.deploy("r1", "d2", env={"FAIL": "unhealthy"}, **CHECKED)
    while agent.engine.up("web") != ["d1", "d2"]:
        await asyncio.sleep(0.05)
    # Another hand stops the old one while the new one is judged.
    old.state, old.exit_code = ContainerState.EXITED, 137
    agent.engine.refuse("start", "START_FAILED", times=3)
    await agent.done()
    end = await agent.end_of("r1")
    assert end["status"] == "failed"
    assert "the previous version is not running; 1 of the failed version still runs" in end["message"]


async def test_a_restart_that_fails_says_what_runs(agent: Agent) -> None:
    await agent.deployed("d1", config={"replicas": 2})
    agent.engine.refuse("restart", "RESTART_FAILED")
    await agent.send("restart", "r1", service_id="web")
    await agent.done()
    [answer] = await agent.responses("r1")
    assert answer["error"]["message"] == (
        "cannot restart: the engine says no; the current version is running (2 of 2 replicas)"
    )
