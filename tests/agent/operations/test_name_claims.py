"""One internal name has one service in a project, however names are resolved."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.operations.name_claims import conflict, named
from tests.agent.agent_rig import Agent, running
from tests.agent.fake_engine import FakeEngine
from tests.model.samples import spec

pytestmark = pytest.mark.virtual_time


def told(other: dict[str, Any], **changes: Any) -> str | None:
    return conflict(spec(**changes), [spec(service_id="svc_9", **other)])


@pytest.mark.parametrize(
    ("other", "own", "field"),
    [
        ({"service_name": "api"}, {}, "service_name: api"),
        ({"service_name": "API"}, {}, "service_name: api"),
        ({"service_name": "x", "internal_hostname": "Api"}, {}, "service_name: api"),
        ({"service_name": "db"}, {"internal_hostname": "db"}, "networking.internal_hostname: db"),
        ({"service_name": "db"}, {"internal_hostname": "db.shop.internal"}, "networking.internal_hostname: db.shop"),
        (
            {"service_name": "x", "internal_hostname": "db.corp"},
            {"internal_hostname": "db.corp"},
            "networking.internal_hostname: db.corp",
        ),
    ],
)
def test_a_name_that_another_service_has_is_refused_by_its_field(
    other: dict[str, Any], own: dict[str, Any], field: str
) -> None:
    sentence = told(other, **own)
    assert sentence is not None
    assert sentence.startswith(field)
    assert "(svc_9) in project shop; choose another name, or remove that service first" in sentence


def test_other_names_other_projects_and_the_service_itself_are_no_conflict() -> None:
    assert told({"service_name": "db"}) is None
    assert told({"service_name": "api", "project_name": "staging"}) is None
    assert told({"service_name": "x", "internal_hostname": "api.corp"}) is None
    assert conflict(spec(internal_hostname="api"), [spec(service_name="API", internal_hostname="api")]) is None


async def refusal(agent: Agent, request_id: str) -> str | None:
    [response] = await agent.responses(request_id)
    return None if response["success"] else str(response["error"]["code"])


async def test_a_current_service_keeps_its_name_until_it_is_removed(tmp_path: Path) -> None:
    async with running(tmp_path, FakeEngine()) as agent:
        await agent.deployed("d1")
        await agent.deploy("again", "d2")
        await agent.done()
        await agent.deploy("clash", "d1", "web-2", service_name="WEB")
        assert await refusal(agent, "clash") == "NAME_CONFLICT"
        await agent.send("stop", "stop", service_id="web")
        await agent.done()
        await agent.deploy("stopped", "d1", "web-2", service_name="web")
        assert await refusal(agent, "stopped") == "NAME_CONFLICT"
        await agent.send("stop", "remove", service_id="web", remove_container=True)
        await agent.done()
        await agent.deployed("d1", "web-2", service_name="web")


async def test_an_operation_under_way_has_its_name_also_for_an_agent_that_starts_again(tmp_path: Path) -> None:
    engine = FakeEngine()
    held = engine.hold("create")
    async with running(tmp_path, engine) as agent:
        await agent.deploy("first", "d1")
        await held.arrived.wait()
        await agent.deploy("clash", "d1", "web-2", service_name="web")
        assert await refusal(agent, "clash") == "NAME_CONFLICT"
        engine.kill_at = len(engine.calls) + 1
    engine.kill_at = None
    async with running(tmp_path, engine) as agent:
        await agent.deploy("later", "d2", "web-2", service_name="web")
        assert await refusal(agent, "later") == "NAME_CONFLICT"
        held.release.set()
        await agent.done()


async def test_of_two_commands_at_once_one_gets_the_name(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with running(tmp_path, engine) as agent:
        async with asyncio.TaskGroup() as group:
            for number in (1, 2):
                group.create_task(agent.deploy(f"r{number}", "d1", f"web-{number}", service_name="web"))
        await agent.done("web-1", "web-2")
        answers = {await refusal(agent, "r1"), await refusal(agent, "r2")}
        assert answers == {None, "NAME_CONFLICT"}


async def test_a_rollback_to_a_name_that_is_taken_meanwhile_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, FakeEngine()) as agent:
        await agent.deployed("d1")
        await agent.deployed("d2", service_name="shop-web")
        await agent.deployed("d1", "web-2", service_name="web")
        await agent.send("rollback", "back", service_id="web")
        assert await refusal(agent, "back") == "NAME_CONFLICT"


RENAMES = {"on_name_conflict": "rename", "service_name": "web"}
LATER = f"web-{hashlib.sha256(b'web-2').hexdigest()[:8]}"


def test_a_later_name_has_a_part_of_the_id_and_fits_into_a_dns_label() -> None:
    first = spec(service_id="svc_9", service_name="api")
    later = spec(service_id="0020f4f4-3f5e-4c55-94da-c2d814f1c7f3", service_name="API")
    assert named(later, []) == later
    assert named(later, [first]).service_name == "API-0020f4f4"
    long = spec(service_id="0020f4f4-3f5e", service_name="a" * 53 + "-" + "b" * 9)
    taken = spec(service_id="svc_9", service_name=long.service_name)
    assert named(long, [taken]).service_name == "a" * 53 + "-0020f4f4"
    # What got such a name keeps it, also when its own is free.
    assert named(later, [named(later, [first])]).service_name == "API-0020f4f4"
    # One that has its name is not touched by a later one of the same name.
    assert named(first, [first, named(later, [first])]) == first


async def test_where_the_command_asks_for_it_the_later_service_gets_another_name_for_good(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with running(tmp_path, engine) as agent:
        await agent.deployed("d1")
        end = await agent.deploy_to_end("r2", "d1", "web-2", **RENAMES)
        assert end["status"] == "running"
        assert f"reach it as {LATER}: the name web was taken" in end["message"]
        # The same deployment again, under another request, is the same.
        assert (await agent.deploy_to_end("r3", "d1", "web-2", **RENAMES))["status"] == "running"
        await agent.send("stop", "remove", service_id="web", remove_container=True)
        await agent.done()
    async with running(tmp_path, engine) as agent:
        assert (await agent.deploy_to_end("r4", "d2", "web-2", **RENAMES))["status"] == "running"
        assert {c.deployment.spec.service_name for c in engine.of("web-2")} == {LATER}
        await agent.deploy("clash", "d1", "web-3", service_name=LATER)
        assert await refusal(agent, "clash") == "NAME_CONFLICT"
        end = await agent.deploy_to_end("r5", "d2", "web", **RENAMES)
        assert end["message"] == "deployed: 1 replica running", "its own name is free again"


async def test_of_two_at_once_that_may_be_renamed_both_are_deployed(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with running(tmp_path, engine) as agent:
        async with asyncio.TaskGroup() as group:
            for number in (1, 2):
                group.create_task(agent.deploy(f"r{number}", "d1", f"web-{number}", **RENAMES))
        await agent.done("web-1", "web-2")
        names = {c.deployment.spec.service_name for service in ("web-1", "web-2") for c in engine.of(service)}
        assert len(names) == 2 and "web" in names


async def test_a_renamed_deploy_that_is_killed_goes_on_under_that_name(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with running(tmp_path, engine) as agent:
        await agent.deployed("d1")
        held = engine.hold("create")
        await agent.deploy("r2", "d1", "web-2", **RENAMES)
        await held.arrived.wait()
        engine.kill_at = len(engine.calls) + 1
    engine.kill_at = None
    engine.holds.clear()
    async with running(tmp_path, engine) as agent:
        await agent.done("web-2")
        end = await agent.end_of("r2")
        assert end["status"] == "running" and LATER in end["message"]
        assert {c.deployment.spec.service_name for c in engine.of("web-2")} == {LATER}
