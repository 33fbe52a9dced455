"""What a service file changes, and what of it is recorded: plans, deployments and events of an agent."""

from __future__ import annotations

from typing import Any

import pytest

from syntra.agent.api.history import History
from syntra.agent.api.plans import Plans
from syntra.model.command import Query, QueryKind
from syntra.model.errors import RequestError
from syntra.model.ids import RequestId, ServiceId
from tests.agent.agent_rig import Agent
from tests.agent.samples import deployment

pytestmark = pytest.mark.virtual_time

WEB = ServiceId("web")


async def planned(agent: Agent, deployment_id: str, *, is_forced: bool = False, **changes: Any) -> dict[str, Any]:
    plans = Plans(agent.journal, agent.runtime, agent.deployer.names)
    return await plans.plan(deployment(deployment_id, **changes), is_forced=is_forced)


def texts(plan: dict[str, Any]) -> list[str]:
    return [change["text"] for change in plan["changes"]]


async def test_a_plan_says_what_has_to_be_done(agent: Agent) -> None:
    config: dict[str, Any] = {"replicas": 2, "env_vars": {"LEVEL": "hidden"}}
    assert (await planned(agent, "d1", config=config))["action"] == "create"
    await agent.deployed("d1", config=config)
    same = await planned(agent, "d2", config=config)
    assert (same["action"], texts(same), same["steps"]) == ("none", [], [])
    more = await planned(agent, "d2", config={**config, "replicas": 3})
    assert (more["action"], texts(more), more["replicas"]) == ("scale", ["replicas 2 → 3"], 3)
    assert not any(step["text"].startswith(("stop ", "remove ")) for step in more["steps"])
    assert "create replica 3" in [step["text"] for step in more["steps"]]
    other = await planned(agent, "d2", config={**config, "env_vars": {"LEVEL": "other"}})
    assert (other["action"], texts(other)) == ("deploy", ["env LEVEL changed"])
    assert "hidden" not in repr(other)
    forced = await planned(agent, "d2", is_forced=True, config=config)
    assert forced["action"] == "deploy" and any("stop " in step["text"] for step in forced["steps"])
    await agent.carry_out("stop", "s", service_id="web")
    stopped = await planned(agent, "d2", config=config)
    assert (stopped["action"], texts(stopped)) == ("deploy", ["state stopped → running"])


async def test_what_ran_is_listed_with_who_asked_and_how_it_ended(agent: Agent) -> None:
    history = History(agent.journal)
    with pytest.raises(RequestError) as caught:
        await history.deployments(WEB)
    assert caught.value.code == "SERVICE_NOT_FOUND"
    await agent.deployed("d1", requested_by="ada")
    await agent.deployed("d2", config={"env": {"V": "2"}})
    await agent.carry_out("rollback", "back", service_id="web")
    answer = await history.deployments(WEB)
    shown: Any = answer["deployments"]
    assert [(one["deployment_id"], one["kind"], one["is_current"]) for one in shown] == [
        ("d1", "rollback", True),
        ("d2", "deploy", False),
        ("d1", "deploy", False),
    ]
    assert shown[2]["asked_by"] == "ada" and {one["outcome"] for one in shown} == {"running"}
    assert shown[0]["version"] == shown[2]["version"] != shown[1]["version"]
    assert answer["rollback_to"] == "d2"
    query = Query(request_id=RequestId("q"), kind=QueryKind.LIST_EVENTS, service_id=WEB, limit=2)
    events: Any = (await history.events(query))["events"]
    assert [event["kind"] for event in events] == ["deploy", "rollback"]
    assert events[1]["text"].startswith("rolled back to d1: 1 replica running (took ")
    # A service that is removed takes its deployments with it; what happened stays.
    await agent.carry_out("stop", "s", service_id="web", remove_container=True)
    with pytest.raises(RequestError):
        await history.deployments(WEB)
    events = (await history.events(query))["events"]
    assert events[-1]["text"].startswith("removed (took ")
