"""The agent on a runtime of another kind: the executor, the journal and the reports know none of its steps."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.agent.agent_rig import Agent, running, until_killed
from tests.agent.fake_engine import FakeEngine
from tests.runtime.tiny_runtime import TinyRuntime

pytestmark = pytest.mark.virtual_time


async def told(agent: Agent, request_id: str) -> list[str]:
    return [p["message"] for kind, p in await agent.said(request_id) if kind == "deploy_status"]


async def answered(agent: Agent, kind: str, request_id: str, **payload: Any) -> dict[str, Any]:
    await agent.ask(kind, request_id, **payload)
    async with asyncio.timeout(30):
        while not (found := [r for r in agent.local.responses() if r["request_id"] == request_id]):
            await asyncio.sleep(0.1)
    assert found[0]["success"], found[0]
    data: dict[str, Any] = found[0]["data"]
    return data


async def test_a_deploy_goes_through_the_real_executor_and_tells_the_steps_of_that_runtime(tmp_path: Path) -> None:
    runtime = TinyRuntime()
    async with running(tmp_path, FakeEngine(), runtime=runtime) as agent:
        await agent.deploy_to_end("r1", "d1", config={"replicas": 2})
        assert await agent.outcome("r1") == "running"
        assert [m for m in await told(agent, "r1") if "apply" in m or "await" in m] == ["apply d1", "await the rollout"]
        [service] = (await answered(agent, "list_services", "q1"))["services"]
        assert (service["status"], service["replicas"]) == ("running", {"desired": 2, "running": 2})
        status = await answered(agent, "status", "q2")
        assert status["runtime"]["name"] == "tiny"
        ran = await answered(agent, "exec", "e1", service_id="web", command=["echo", "hello"])
        assert ran["stdout"] == "hello\n"


async def test_a_deploy_that_fails_there_is_rolled_back_there(tmp_path: Path) -> None:
    runtime = TinyRuntime()
    async with running(tmp_path, FakeEngine(), runtime=runtime) as agent:
        await agent.deployed("d1")
        end = await agent.deploy_to_end("r2", "d2", env={"FAIL": "exit"})
        assert (end["status"], end["error"]["code"], end["logs"]) == ("rolled_back", "CONTAINER_CRASHED", ["serving"])
        assert runtime.applied == ["d1", "d2", "d1"]
        assert {i.deployment_id for i in runtime.instances.values()} == {"d1"}


async def test_a_kill_in_the_middle_is_taken_up_by_planning_again(tmp_path: Path) -> None:
    runtime = TinyRuntime()
    async with until_killed(tmp_path / "a", FakeEngine(), runtime=runtime) as agent:
        await agent.deploy("r1", "d1")
        await asyncio.sleep(0.5)
        assert runtime.applied == ["d1"]
    async with running(tmp_path / "a", FakeEngine(), runtime=runtime) as agent:
        await agent.done()
        assert await agent.outcome("r1") == "running"
        assert len(runtime.instances) == 1


async def test_scale_rollback_plan_and_removal_need_nothing_of_containers(tmp_path: Path) -> None:
    runtime = TinyRuntime()
    async with running(tmp_path, FakeEngine(), runtime=runtime) as agent:
        await agent.deployed("d1")
        await agent.deployed("d2")
        await agent.carry_out("scale", "s1", replicas=3)
        assert (await agent.outcome("s1"), len(runtime.instances)) == ("running", 3)
        await agent.carry_out("rollback", "b1")
        assert await agent.outcome("b1") == "running"
        assert {i.deployment_id for i in runtime.instances.values()} == {"d1"}
        await agent.carry_out("stop", "x1", remove=True)
        assert runtime.instances == {}
        assert await agent.journal.services() == []
