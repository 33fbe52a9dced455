"""Secrets that variables refer to: read at the deploy, kept with the deployment, and shown nowhere."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from syntra.agent.journal import secrets as secret_rows
from syntra.model.ids import DeploymentId, ServiceId
from tests.agent.agent_rig import Agent, Machine
from tests.agent.samples import CANARY, deploy_payload

pytestmark = pytest.mark.virtual_time

REFERRING: dict[str, Any] = {"env": {"DATABASE_URL": {"secret": "db_url"}}}
WEB = ServiceId("web")


async def told(agent: Agent, kind: str, request_id: str, **payload: Any) -> dict[str, Any]:
    """The answer on the local socket."""
    await agent.ask(kind, request_id, **payload)
    async with asyncio.timeout(60):
        while True:
            for answer in agent.local.responses():
                if answer["request_id"] == request_id:
                    return answer
            agent.local.news.clear()
            await agent.local.news.wait()


async def stored_value(agent: Agent, deployment_id: str) -> str:
    kept = await agent.journal.deployment(WEB, DeploymentId(deployment_id))
    assert kept is not None
    assert kept.spec.env_secrets == (("DATABASE_URL", "db_url"),)
    return kept.spec.env["DATABASE_URL"]


async def test_a_deploy_has_the_present_value_and_a_rollback_the_one_of_its_deployment(agent: Agent) -> None:
    assert (await told(agent, "set_secret", "s1", name="db_url", value="postgres://one"))["data"] == {
        "name": "db_url",
        "replaced": False,
        "used_by": [],
    }
    await agent.deployed("d1", **REFERRING)
    assert await stored_value(agent, "d1") == "postgres://one"
    answer = await told(agent, "set_secret", "s2", name="db_url", value="postgres://two")
    assert answer["data"] == {"name": "db_url", "replaced": True, "used_by": ["shop/web"]}
    # What runs keeps its value, also when its replicas are created again.
    assert await stored_value(agent, "d1") == "postgres://one"
    plan = (await told(agent, "plan", "p1", **deploy_payload("d2", **REFERRING)))["data"]
    assert {"setting": "env DATABASE_URL", "text": "env DATABASE_URL changed (secret db_url)"} in plan["changes"]
    await agent.deployed("d2", **REFERRING)
    assert await stored_value(agent, "d2") == "postgres://two"
    await told(agent, "remove_secret", "s3", name="db_url")
    await agent.carry_out("rollback", "r1")
    assert await agent.outcome("r1") == "running"
    current = await agent.journal.current(WEB)
    assert current is not None and current.deployment is not None
    assert current.deployment.spec.env["DATABASE_URL"] == "postgres://one"


async def test_a_secret_that_is_missing_is_refused_before_anything_happens(agent: Agent) -> None:
    both: dict[str, Any] = {"env": {"A": {"secret": "one"}, "B": {"secret": "two"}, "C": {"secret": "one"}}}
    await agent.deploy("r1", "d1", **both)
    error = (await agent.answer("r1"))["error"]
    assert error["code"] == "SECRET_NOT_FOUND"
    assert error["message"] == (
        "cannot deploy web: A needs secret one, B needs secret two, C needs secret one, which is not set on this "
        "server; run `syntra-agent secrets set one` and `syntra-agent secrets set two`"
    )
    assert (await told(agent, "plan", "p1", **deploy_payload("d1", **both)))["error"]["code"] == "SECRET_NOT_FOUND"
    assert agent.engine.calls.count("create") == 0
    assert await agent.journal.service(WEB) is None


async def test_a_control_plane_can_neither_set_nor_remove_secrets(agent: Agent) -> None:
    await agent.send("set_secret", "s1", name="db_url", value=CANARY)
    await agent.send("remove_secret", "s2", name="db_url")
    for request_id in ("s1", "s2"):
        assert (await agent.answer(request_id))["error"]["code"] == "UNSUPPORTED"
    assert await agent.journal.secrets.all() == []


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"name": "a b", "value": CANARY}, "name"),
        ({"name": "-a", "value": CANARY}, "name"),
        ({"name": "", "value": CANARY}, "name"),
        ({"value": CANARY}, "name"),
        ({"name": "a"}, "value"),
        ({"name": "a", "value": ""}, "value"),
        ({"name": "a", "value": CANARY + "\0"}, "value"),
        ({"name": "a", "value": [CANARY]}, "value"),
        ({"name": "a", "value": "ü" * 40_000}, "value"),
    ],
)
async def test_a_wrong_secret_is_refused_without_its_value(agent: Agent, payload: dict[str, Any], field: str) -> None:
    error = (await told(agent, "set_secret", "s1", **payload))["error"]
    assert error["code"] == "INVALID_PAYLOAD"
    assert error["message"].startswith(f"{field}: ")
    assert CANARY not in error["message"]


async def test_the_list_has_names_and_users_and_no_value(agent: Agent) -> None:
    for name in ("zeta", "db_url"):
        await told(agent, "set_secret", f"s-{name}", name=name, value=CANARY)
    await agent.deployed("d1", **REFERRING)
    listed = (await told(agent, "list_secrets", "l1"))["data"]["secrets"]
    assert [(one["name"], one["used_by"]) for one in listed] == [("db_url", ["shop/web"]), ("zeta", [])]
    shown = (await told(agent, "describe_service", "q1", service_id="web"))["data"]["spec"]["config"]
    assert shown["env_secrets"] == {"DATABASE_URL": "db_url"}
    assert CANARY not in str(agent.local.heard)
    removed = await told(agent, "remove_secret", "r1", name="db_url")
    assert removed["data"] == {"name": "db_url", "removed": True, "used_by": ["shop/web"]}
    again = await told(agent, "remove_secret", "r2", name="db_url")
    assert again["error"]["code"] == "SECRET_NOT_FOUND"


async def test_there_is_room_for_so_many_and_a_known_one_can_still_be_replaced(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_rows, "MOST_SECRETS", 2)
    for name in ("one", "two"):
        assert (await told(agent, "set_secret", f"s-{name}", name=name, value="value"))["success"]
    assert (await told(agent, "set_secret", "s3", name="three", value="value"))["error"]["code"] == "LIMIT_REACHED"
    assert (await told(agent, "set_secret", "s4", name="two", value="other"))["data"]["replaced"] is True


async def test_a_deploy_that_a_kill_interrupts_goes_on_with_the_value_it_was_accepted_with(
    machine: Machine,
) -> None:
    async with machine.until_killed() as agent:
        await told(agent, "set_secret", "s1", name="db_url", value=CANARY)
        await agent.reach("create", agent.deploy("r1", "d1", **REFERRING))
        await told(agent, "set_secret", "s2", name="db_url", value="another value")
        for path in machine.directory.iterdir():
            assert CANARY.encode() not in path.read_bytes(), path
    async with machine.running() as agent:
        await agent.done()
        assert await agent.outcome("r1") == "running"
        assert await stored_value(agent, "d1") == CANARY


async def test_an_unreadable_secret_counts_as_missing(agent: Agent) -> None:
    await told(agent, "set_secret", "s1", name="db_url", value=CANARY)
    await agent.journal.secrets._database.transact(
        lambda connection: connection.execute("UPDATE secrets SET value = x'00'")
    )
    await agent.deploy("r1", "d1", **REFERRING)
    assert (await agent.answer("r1"))["error"]["code"] == "SECRET_NOT_FOUND"
    await told(agent, "set_secret", "s2", name="db_url", value="mended value")
    await agent.deployed("d1", **REFERRING)
