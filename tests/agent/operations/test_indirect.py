"""Commands that name a container, a deployment or a share: which operation on which service they become."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.agent.agent_rig import Agent, running, until_killed
from tests.agent.fake_engine import FakeEngine
from tests.agent.operations.test_canary import FOUR, Outside, canary, held
from tests.agent.virtual_time import now

pytestmark = pytest.mark.virtual_time

STEPS = ((10, 3600.0), (30, 3600.0), (60, 3600.0))


async def answer(agent: Agent, request_id: str) -> dict[str, Any]:
    [response] = await agent.responses(request_id)
    return response


async def code(agent: Agent, request_id: str) -> str:
    return str((await answer(agent, request_id))["error"]["code"])


# A share of the requests


async def test_a_split_goes_to_the_step_with_that_share_and_holds_it(tmp_path: Path) -> None:
    outside = Outside()
    async with running(tmp_path, outside.adapter, **outside.parts) as agent:
        await agent.deployed("d1", **FOUR)
        await agent.deploy("r", "d2", **canary(*STEPS))
        await held(agent, "r", 10)
        begun = now()
        await agent.send("split_traffic", "s1", service_id="web", deployment_id="d2", percent=60)
        await held(agent, "r", 60)
        assert now() - begun < 10
        assert (await answer(agent, "s1"))["data"] == {"accepted": True, "service_id": "web", "deployment_id": "d2"}
        # The step is held in full, and the one after it is the last.
        await agent.done()
        assert 3600 <= now() - begun < 3620
        assert await agent.outcome("r") == "running"
        assert outside.traffic.shares == [10, 60, 100]


async def test_one_split_after_another_goes_on_from_where_it_is(tmp_path: Path) -> None:
    outside = Outside()
    async with running(tmp_path, outside.adapter, **outside.parts) as agent:
        await agent.deployed("d1", **FOUR)
        await agent.deploy("r", "d2", **canary(*STEPS))
        await held(agent, "r", 10)
        await agent.send("split_traffic", "s1", service_id="web", deployment_id="d2", percent=30)
        await held(agent, "r", 30)
        # The share that it has: nothing changes, and the hold is not begun anew.
        await asyncio.sleep(1800)
        await agent.send("split_traffic", "s2", service_id="web", deployment_id="d2", percent=30)
        assert (await answer(agent, "s2"))["success"]
        begun = now()
        await held(agent, "r", 60)
        assert now() - begun < 1900
        await agent.send("split_traffic", "s3", service_id="web", deployment_id="d2", percent=100)
        await agent.done()
        assert await agent.outcome("r") == "running"
        assert outside.traffic.shares == [10, 30, 60, 100]


async def test_a_split_outlives_a_kill(tmp_path: Path) -> None:
    outside = Outside()
    directory = tmp_path / "agent"
    async with until_killed(directory, outside.adapter, **outside.parts) as agent:
        await agent.deployed("d1", **FOUR)
        await agent.deploy("r", "d2", **canary(*STEPS))
        await held(agent, "r", 10)
        await agent.send("split_traffic", "s1", service_id="web", deployment_id="d2", percent=30)
    async with running(directory, outside.adapter, **outside.parts) as agent:
        begun = now()
        await held(agent, "r", 30)
        assert now() - begun < 10


@pytest.mark.parametrize(
    ("payload", "expected", "words"),
    [
        ({"deployment_id": "d2", "percent": 25}, "INVALID_PAYLOAD", "25 is not a step of the canary; use 10, 30, 60,"),
        ({"deployment_id": "d2", "percent": 10}, "INVALID_PAYLOAD", "is past 10 % and cannot go back; abort it"),
        ({"deployment_id": "d9", "percent": 60}, "NO_CANARY", "no canary of d9 is under way"),
        ({"deployment_id": "d9", "percent": 0}, "NO_CANARY", "no canary of d9 is under way"),
        ({"percent": 60}, "INVALID_PAYLOAD", "deployment_id: is missing"),
        ({"deployment_id": "d2", "percent": 101}, "INVALID_PAYLOAD", "percent: 101 is out of range"),
    ],
)  # fmt: skip
async def test_a_split_that_cannot_be_is_refused_with_the_reason(
    tmp_path: Path, payload: dict[str, Any], expected: str, words: str
) -> None:
    outside = Outside()
    async with running(tmp_path, outside.adapter, **outside.parts) as agent:
        await agent.deployed("d1", **FOUR)
        await agent.deploy("r", "d2", **canary(*STEPS))
        await held(agent, "r", 10)
        await agent.send("promote", "p", service_id="web", percent=30)
        await held(agent, "r", 30)
        await agent.send("split_traffic", "s", service_id="web", **payload)
        refused = (await answer(agent, "s"))["error"]
        assert (refused["code"], words in refused["message"]) == (expected, True), refused
        assert outside.traffic.share == 30
        await agent.send("abort", "a", service_id="web")
        await agent.done()


@pytest.mark.parametrize("payload", [{"deployment_id": "d2", "percent": 0}, {"deployment_id": None, "percent": 0}])
async def test_a_split_of_nothing_ends_the_canary(tmp_path: Path, payload: dict[str, Any]) -> None:
    outside = Outside()
    async with running(tmp_path, outside.adapter, **outside.parts) as agent:
        await agent.deployed("d1", **FOUR)
        await agent.deploy("r", "d2", **canary(*STEPS))
        await held(agent, "r", 10)
        await agent.send("split_traffic", "s", service_id="web", **payload)
        await agent.done()
        assert await agent.outcome("r") == "ABORTED"
        assert outside.served() == ["d1"] * 4
        await agent.send("split_traffic", "again", service_id="web", deployment_id=None, percent=0)
        assert (await answer(agent, "again"))["success"]


# All requests


async def test_a_switch_to_the_canary_promotes_it_and_a_switch_back_rolls_back(tmp_path: Path) -> None:
    outside = Outside()
    async with running(tmp_path, outside.adapter, **outside.parts) as agent:
        await agent.deployed("d1", **FOUR)
        await agent.deploy("r", "d2", **canary(*STEPS))
        await held(agent, "r", 10)
        await agent.send("switch_traffic", "s", service_id="web", deployment_id="d2")
        await agent.done()
        assert await agent.outcome("r") == "running" and outside.served() == ["d2"] * 4
        await agent.send("switch_traffic", "there", service_id="web", deployment_id="d2")
        assert (await answer(agent, "there"))["data"]["completed"] is True
        await agent.send("switch_traffic", "back", service_id="web", deployment_id="d1")
        await agent.done()
        assert await agent.outcome("back") == "running" and outside.served() == ["d1"] * 4
        await agent.send("switch_traffic", "nowhere", service_id="web", deployment_id="d9")
        assert await code(agent, "nowhere") == "DEPLOYMENT_NOT_FOUND"


async def test_a_deployment_is_current_from_its_commit_on_while_the_old_one_is_removed(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent:
        await agent.deployed("d1", strategy="blue_green")
        hold = adapter.hold("remove")
        await agent.deploy("r", "d2", strategy="blue_green")
        await hold.arrived.wait()
        await agent.send("switch_traffic", "there", service_id="web", deployment_id="d2")
        assert (await answer(agent, "there"))["data"]["completed"] is True
        [new] = [c for c in adapter.of("web") if c.deployment.deployment_id == "d2"]
        await agent.send("stop_container", "s", container_id=new.container_id)
        await agent.send("switch_traffic", "stopping", service_id="web", deployment_id="d1")
        hold.release.set()
        await agent.done()
        assert await agent.outcome("r") == await agent.outcome("stopping") == "running"
        assert (await answer(agent, "s"))["error"]["code"] == "SUPERSEDED", "a later command replaced it"
        assert [c.deployment.deployment_id for c in adapter.of("web")] == ["d1"]


# A deployment


async def test_a_deployment_that_waits_is_cancelled_before_it_begins(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent:
        await agent.deployed("d1")
        hold = adapter.hold("restart")
        await agent.send("restart", "busy", service_id="web")
        await hold.arrived.wait()
        await agent.deploy("r", "d2")
        await agent.send("cancel", "c", deployment_id="d2")
        assert (await answer(agent, "c"))["data"] == {"accepted": True, "service_id": "web", "deployment_id": "d2"}
        assert await agent.outcome("r") == "CANCELLED"
        hold.release.set()
        await agent.done()
        assert [c.deployment.deployment_id for c in adapter.of("web")] == ["d1"]


async def test_a_cancelled_deployment_returns_to_what_ran_whatever_was_wished_for_a_failure(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent:
        await agent.deployed("d1")
        hold = adapter.hold("start")
        await agent.deploy("r", "d2", rollback_on_failure=False)
        await hold.arrived.wait()
        await agent.send("cancel", "c", deployment_id="d2")
        hold.release.set()
        await agent.done()
        end = await agent.end_of("r")
        assert (end["status"], end["error"]["code"]) == ("rolled_back", "CANCELLED")
        assert end["error_message"] == "the deploy of web was cancelled"
        assert [c.deployment.deployment_id for c in adapter.of("web")] == ["d1"]
        await agent.send("cancel", "c", deployment_id="d2")
        assert len({str(response) for response in await agent.responses("c")}) == 1, "the id is known"


async def test_a_cancel_outlives_a_kill(tmp_path: Path) -> None:
    adapter = FakeEngine()
    directory = tmp_path / "agent"
    async with until_killed(directory, adapter) as agent:
        await agent.deployed("d1")
        hold = adapter.hold("start")
        await agent.deploy("r", "d2")
        await hold.arrived.wait()
        await agent.send("cancel", "c", deployment_id="d2")
    hold.release.set()
    async with running(directory, adapter) as agent:
        await agent.done()
        assert await agent.outcome("r") == "CANCELLED"
        assert [c.deployment.deployment_id for c in adapter.of("web")] == ["d1"]


async def test_what_is_not_under_way_cannot_be_cancelled_and_the_refusal_says_what_became_of_it(tmp_path: Path) -> None:
    async with running(tmp_path, FakeEngine()) as agent:
        await agent.deployed("d1")
        await agent.deployed("d2")
        for deployment_id in ("d1", "d2", "d9"):
            await agent.send("cancel", f"c-{deployment_id}", deployment_id=deployment_id)
        assert await code(agent, "c-d1") == "DEPLOYMENT_FINISHED"
        assert "details" not in (await answer(agent, "c-d1"))["error"]
        assert (await answer(agent, "c-d2"))["error"]["details"] == {"deployment_id": "d2"}
        assert [await code(agent, "c-d2"), await code(agent, "c-d9")] == ["ALREADY_DEPLOYED", "DEPLOYMENT_NOT_FOUND"]
        await agent.send("stop", "stop", service_id="web")
        await agent.done()
        await agent.send("cancel", "stopped", deployment_id="d2")
        assert await code(agent, "stopped") == "DEPLOYMENT_FINISHED"


async def test_a_refused_deploy_names_the_deployment_for_the_control_plane_alone(tmp_path: Path) -> None:
    async with running(tmp_path, FakeEngine()) as agent:
        await agent.deploy("far", "d1", config={"port": 70_000})
        assert (await answer(agent, "far"))["error"]["details"] == {"deployment_id": "d1", "service_id": "web"}
        await agent.ask("deploy", "near", deployment_id="d1", service={"id": "web"})
        assert "details" not in agent.local.responses()[0]["error"]
        await agent.send("deploy", "nested", deployment_id="d1", service={"id": "web"})
        assert (await answer(agent, "nested"))["error"]["details"] == {"deployment_id": "d1", "service_id": "web"}
        await agent.send("stop", "stop", service_id="web")
        assert "details" not in (await answer(agent, "stop"))["error"]


async def test_a_deployment_under_way_is_stopped_with_its_service(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent:
        hold = adapter.hold("start")
        await agent.deploy("r", "d1")
        await hold.arrived.wait()
        await agent.send("stop_deployment", "s", deployment_id="d1", remove_container=True)
        hold.release.set()
        await agent.done()
        assert await agent.outcome("r") == "SUPERSEDED"
        assert (await answer(agent, "s"))["success"] and adapter.of("web") == []


# A container


async def test_a_container_that_a_deploy_is_bringing_is_not_stopped_on_its_own(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent:
        await agent.deployed("d1")
        [old] = adapter.of("web")
        hold = adapter.hold("start")
        await agent.deploy("r", "d2")
        await hold.arrived.wait()
        [new] = [c for c in adapter.of("web") if c.deployment.deployment_id == "d2"]
        await agent.send("stop_container", "s", container_id=new.container_id)
        assert await code(agent, "s") == "BUSY"
        hold.release.set()
        await agent.done()
        assert await agent.outcome("r") == "running"
        assert old not in adapter.of("web")


@pytest.mark.parametrize("container_id", ["", "4", "z" * 64, "a" * 65, "../x", None, 7])
async def test_what_is_no_containers_id_is_refused(tmp_path: Path, container_id: Any) -> None:
    async with running(tmp_path, FakeEngine()) as agent:
        await agent.deployed("d1")
        for kind in ("restart_container", "stop_container"):
            await agent.send(kind, kind, container_id=container_id)
            assert await code(agent, kind) == "INVALID_PAYLOAD"
