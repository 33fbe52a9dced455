"""`configure_health_check`: what it changes lives as long as it should, and no container is replaced for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from syntra.model.health_change import HealthChange
from syntra.model.ids import ServiceId
from tests.agent.agent_rig import Agent, running, until_killed
from tests.agent.fake_engine import FakeEngine

pytestmark = pytest.mark.virtual_time

WEB = ServiceId("web")
CHECKED = {"health_check": {"type": "exec", "command": ["wget"], "interval_seconds": 1}, "replicas": 2}


async def change_of(agent: Agent) -> HealthChange | None:
    return await agent.journal.health_changes.of(WEB)


async def configured(agent: Agent, request_id: str, **fields: object) -> None:
    await agent.send("configure_health_check", request_id, service_id="web", **fields)
    [response] = await agent.responses(request_id)
    assert response["success"], response


async def test_a_change_survives_a_kill_and_is_answered_once(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with until_killed(tmp_path / "a", adapter) as agent:
        await agent.deployed("d1", config=CHECKED)
        await configured(agent, "c1", retries=5, interval=2)
    async with running(tmp_path / "a", adapter) as agent:
        assert await change_of(agent) == HealthChange(retries=5, interval=2.0)
        await configured(agent, "c2", retries=6)
        await agent.send("configure_health_check", "c1", service_id="web", retries=9)
        assert await change_of(agent) == HealthChange(retries=6, interval=2.0)
        first, again = await agent.responses("c1")
        assert first == again
        assert first["data"]["health_check"]["interval_seconds"] == 2.0


async def test_scaling_after_a_change_replaces_no_container(agent: Agent) -> None:
    await agent.deployed("d1", config=CHECKED)
    before = set(agent.engine.containers)
    await configured(agent, "c1", retries=5)
    await agent.carry_out("scale", "s1", replicas=3)
    assert await agent.outcome("s1") == "running"
    assert before < set(agent.engine.containers)
    assert len(agent.engine.containers) == 3


async def test_a_scale_and_a_rollback_are_proven_by_the_changed_check(agent: Agent) -> None:
    await agent.deployed("d1", config=CHECKED)
    await agent.deployed("d2", config=CHECKED)
    await agent.carry_out("stop", "s0")
    await configured(agent, "c1", retries=1, interval=0.1, timeout=0.1, path="/never")
    await agent.carry_out("scale", "s1", replicas=3)
    assert await agent.outcome("s1") == "HEALTH_CHECK_FAILED"
    await agent.carry_out("rollback", "b1")
    assert await agent.outcome("b1") == "HEALTH_CHECK_FAILED"
    assert await change_of(agent) is not None


async def test_the_next_deploy_brings_its_own_check(agent: Agent) -> None:
    await agent.deployed("d1", config=CHECKED)
    await configured(agent, "c1", path="/never", retries=1)
    await agent.deploy_to_end("r2", "d2", config=CHECKED, env={"FAIL": "unhealthy"})
    assert await agent.outcome("r2") == "HEALTH_CHECK_FAILED"
    assert await change_of(agent) is not None, "a deploy that failed brings nothing"
    await agent.deployed("d3", config=CHECKED)
    assert await change_of(agent) is None


async def test_a_service_that_is_removed_takes_its_change_with_it(agent: Agent) -> None:
    await agent.deployed("d1", config=CHECKED)
    await configured(agent, "c1", retries=1)
    await agent.carry_out("stop", "s1", remove_container=True)
    assert await change_of(agent) is None


async def test_what_cannot_be_changed_is_refused_by_name(agent: Agent) -> None:
    await agent.deployed("d1", "bare", config={"port": None})
    await agent.deployed("d1")
    refused: dict[str, tuple[dict[str, Any], str, str]] = {
        "c1": ({"service_id": "nobody", "path": "/"}, "SERVICE_NOT_FOUND", "nobody"),
        "c2": ({"service_id": "bare", "path": "/"}, "INVALID_PAYLOAD", "path"),
        "c3": ({"service_id": "web", "retries": 2}, "INVALID_PAYLOAD", "path"),
        "c4": ({"service_id": "web", "path": "/#top"}, "INVALID_PAYLOAD", "path"),
        "c5": ({"service_id": "web"}, "INVALID_PAYLOAD", "path"),
    }
    for request_id, (payload, code, word) in refused.items():
        await agent.send("configure_health_check", request_id, **payload)
        [response] = await agent.responses(request_id)
        assert response["error"]["code"] == code
        assert word in response["error"]["message"]
    assert await agent.journal.health_changes.all() == {}


async def test_a_client_of_the_local_socket_is_answered_there_only(agent: Agent) -> None:
    await agent.deployed("d1", config=CHECKED)
    await agent.ask("configure_health_check", "c1", service_id="web", retries=2)
    [answer] = agent.local.responses()
    assert answer["data"]["health_check"]["retries"] == 2
    assert await agent.responses("c1") == []
