"""Operations from the first message to the one report, on a fake engine and in virtual time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.journal.desired import KEPT_DEPLOYMENTS
from syntra.agent.operations import service_queues as queues_module
from syntra.agent.operations.service_queues import MAX_WAITING_PER_SERVICE
from syntra.model.ids import DeploymentId, ServiceId
from tests.agent.agent_rig import Agent, running
from tests.agent.fake_engine import FakeEngine
from tests.agent.samples import CANARY, deploy_payload
from tests.agent.virtual_time import now

pytestmark = pytest.mark.virtual_time

WEB = ServiceId("web")
CHECK: dict[str, Any] = {
    "type": "exec",
    "command": ["wget", "-q", "http://127.0.0.1/"],
    "interval_seconds": 1,
    "retries": 2,
}
CHECKED: dict[str, Any] = {"config": {"health_check": CHECK}}
PATIENT: dict[str, Any] = {"config": {"health_check": {**CHECK, "retries": 99}}}


def slow(seconds: int) -> dict[str, Any]:
    """A deployment that is healthy after so long."""
    return {"env": {"FAIL": "slow", "SLOW": str(seconds)}, **PATIENT}


# Once


async def test_a_request_runs_once_however_often_it_arrives_and_gets_one_answer(agent: Agent) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(agent.deploy("r1", "d1"), name=f"arrival {number}")
    await agent.done()
    await agent.deploy("r1", "d1")
    answers = await agent.responses("r1")
    assert answers == [answers[0]] * 6
    assert answers[0] == {"request_id": "r1", "success": True, "data": {"accepted": True, "deployment_id": "d1"}}
    ends = await agent.ends("r1")
    assert ends == [ends[0]] * 2
    assert agent.engine.calls.count("create") == 1


async def test_an_id_is_known_whatever_it_asks_for_the_second_time(agent: Agent) -> None:
    await agent.deploy("r1", "d1")
    await agent.deploy("r1", "d2")
    await agent.carry_out("stop", "r1")
    assert agent.engine.up("web") == ["d1"]


async def test_an_id_of_a_local_client_and_of_the_control_plane_is_one_request(agent: Agent) -> None:
    async with agent.held_at("start", agent.ask("deploy", "r1", **deploy_payload("d1"))):
        await agent.deploy("r1", "d1")
        assert [answer["success"] for answer in await agent.responses("r1")] == [True]
    heard = [payload.get("status") for _, payload in agent.local.heard]
    assert heard[0] is None
    assert heard[1] == "pending"
    assert heard[-1] == "running"
    assert agent.engine.calls.count("create") == 1


async def test_a_request_repeated_while_its_work_goes_on_is_answered_when_it_is_done(agent: Agent) -> None:
    await agent.deployed("d1")
    async with agent.held_at("stop", agent.send("stop", "r1", service_id="web")):
        await agent.send("stop", "r1", service_id="web")
        assert await agent.responses("r1") == []
    assert (await agent.answer("r1"))["data"] == {"service_id": "web", "completed": True, "removed": False}


async def test_a_refused_request_may_be_sent_again(agent: Agent) -> None:
    agent.engine.away = True
    await agent.deploy("r1", "d1")
    agent.engine.away = False
    await agent.deploy_to_end("r1", "d1")
    first, second = await agent.responses("r1")
    assert first["error"]["code"] == "RUNTIME_UNAVAILABLE"
    assert second["success"]
    assert await agent.outcome("r1") == "running"


# The story of a deployment


async def test_a_deployment_tells_its_way_and_ends_with_one_report(agent: Agent) -> None:
    agent.engine.pull_secs = 5.0
    await agent.deploy_to_end("r1", "d1", **CHECKED)
    said = await agent.said("r1")
    assert said[0][0] == "command_response"
    statuses = [payload for _, payload in said[1:]]
    states = list(dict.fromkeys(payload["status"] for payload in statuses))
    assert states == ["pending", "pulling", "creating", "starting", "health_checking", "running"]
    percents = [payload["progress_percent"] for payload in statuses]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    pulls = [payload["message"] for payload in statuses if "of 100 MB" in payload["message"]]
    assert 4 <= len(pulls) <= 5
    end = await agent.end_of("r1")
    assert end["message"] == "deployed: 1 replica running"
    assert end["container_id"] == agent.engine.of("web")[0].container_id
    assert {"started_at", "finished_at"} <= end.keys()
    assert await agent.journal.unfinished() == []


async def test_an_image_that_stood_in_is_told_in_the_report(agent: Agent) -> None:
    await agent.deployed("d1")
    agent.engine.registry_up = False
    await agent.deploy_to_end("r2", "d2")
    assert "the local image is used" in (await agent.end_of("r2"))["message"]


async def test_a_local_deployment_is_told_to_its_client_and_not_to_the_control_plane(agent: Agent) -> None:
    await agent.ask("deploy", "r1", **deploy_payload("d1"))
    await agent.done()
    assert agent.local.heard[-1][1]["status"] == "running"
    assert await agent.said("r1") == []
    await agent.ask("deploy", "r2", **deploy_payload("d2", env={"FAIL": "exit"}))
    await agent.done()
    assert agent.local.heard[-1][1]["status"] == "rolled_back"
    [(kind, _)] = await agent.said("r2")
    assert kind == "alert"


async def test_old_replicas_are_replaced_and_never_too_few_serve(agent: Agent) -> None:
    three: dict[str, Any] = {"config": {"replicas": 3, "health_check": CHECK}}
    await agent.deployed("d1", **three)
    agent.engine.least_up.clear()
    await agent.deploy_to_end("r2", "d2", **three)
    assert await agent.outcome("r2") == "running"
    assert agent.engine.up("web") == ["d2"] * 3
    assert len(agent.engine.of("web")) == 3
    assert agent.engine.least_up[WEB] >= 3


# Superseding


async def test_a_newer_deploy_takes_the_place_of_the_waiting_and_of_the_running_one(agent: Agent) -> None:
    await agent.deployed("d0")
    async with agent.held_at("create", agent.deploy("r1", "d1")):
        await agent.deploy("r2", "d2")
        await agent.deploy("r3", "d3")
        assert await agent.outcome("r2") == "SUPERSEDED"
        assert await agent.ends("r1") == []
    assert [await agent.outcome(request) for request in ("r1", "r3")] == ["SUPERSEDED", "running"]
    assert (await agent.end_of("r1"))["status"] == "rolled_back"
    assert agent.engine.up("web") == ["d3"]
    assert len(agent.engine.of("web")) == 1
    assert (
        "start"
        not in agent.engine.calls[agent.engine.calls.index("create", 20) : agent.engine.calls.index("remove", 20)]
    )


@pytest.mark.parametrize("where", ["pulling", "proving"])
async def test_a_long_wait_is_left_at_once_for_a_newer_deploy(agent: Agent, where: str) -> None:
    await agent.deployed("d0", **CHECKED)
    agent.engine.pull_secs = 50.0 if where == "pulling" else 0.0
    await agent.deploy("r1", "d1", **slow(40))
    await asyncio.sleep(10)
    agent.engine.pull_secs = 0.0
    begun = now()
    await agent.deploy_to_end("r2", "d2", **CHECKED)
    assert now() - begun < 5
    assert [await agent.outcome(request) for request in ("r1", "r2")] == ["SUPERSEDED", "running"]
    assert [c.deployment.deployment_id for c in agent.engine.of("web")] == ["d2"]
    assert agent.engine.least_up[WEB] >= 1


async def test_a_stop_takes_the_place_of_a_deploy(agent: Agent) -> None:
    await agent.deployed("d0")
    async with agent.held_at("create", agent.deploy("r1", "d1")):
        await agent.deploy("r2", "d2")
        await agent.send("stop", "r3", service_id="web")
    assert [await agent.outcome(request) for request in ("r1", "r2")] == ["SUPERSEDED", "SUPERSEDED"]
    assert (await agent.answer("r3"))["success"]
    assert agent.engine.up("web") == []
    row = await agent.service()
    assert (row.deployment_id, row.stopped) == ("d0", True)


async def test_what_is_proven_is_not_taken_back_for_a_newer_deploy(agent: Agent) -> None:
    await agent.deployed("d0")
    async with agent.held_at("stop", agent.deploy("r1", "d1")):
        await agent.deploy("r2", "d2")
    assert [await agent.outcome(request) for request in ("r1", "r2")] == ["running", "running"]
    assert [c.deployment.deployment_id for c in agent.engine.of("web")] == ["d2"]


async def test_a_newer_deploy_that_comes_while_the_commit_is_written_leaves_the_old_containers_to_be_retired(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    await agent.deployed("d0")
    write = agent.journal.commit
    newer = [("r2", "d2")]

    async def commit(*args: Any) -> bool:
        if newer:
            request_id, deployment_id = newer.pop()
            await agent.deploy(request_id, deployment_id, env={"FAIL": "exit"})
        return await write(*args)

    monkeypatch.setattr(agent.journal, "commit", commit)
    await agent.deploy_to_end("r1", "d1")
    assert [await agent.outcome(request) for request in ("r1", "r2")] == ["running", "CONTAINER_CRASHED"]
    assert [c.deployment.deployment_id for c in agent.engine.of("web")] == ["d1"]


async def test_stops_and_restarts_under_way_are_finished_first(agent: Agent) -> None:
    await agent.deployed("d0")
    async with agent.held_at("restart", agent.send("restart", "r1", service_id="web")):
        await agent.deploy("r2", "d1")
    assert [answer["success"] for answer in await agent.responses("r1")] == [True]
    assert await agent.outcome("r2") == "running"


async def test_a_deploy_that_waited_for_a_removal_is_kept_like_any_other(agent: Agent) -> None:
    await agent.deployed("d1")
    async with agent.held_at("stop", agent.send("stop", "r1", service_id="web", remove=True)):
        await agent.deploy("r2", "d2")
    assert await agent.outcome("r2") == "running"
    assert await agent.journal.kept(WEB) == ["d2"]
    assert agent.engine.pins == {("web", "d2")}
    await agent.carry_out("scale", "r3", replicas=2)
    assert agent.engine.up("web") == ["d2", "d2"]


async def test_services_do_not_wait_for_each_other(agent: Agent) -> None:
    agent.engine.pull_secs = 30.0
    begun = now()
    for number in range(5):
        await agent.deploy(f"r{number}", "d1", f"svc{number}")
    await agent.done(*(f"svc{number}" for number in range(5)))
    assert now() - begun < 35
    assert [await agent.outcome(f"r{number}") for number in range(5)] == ["running"] * 5


# What waits acts on what is current when its turn comes


async def test_a_scale_that_waited_for_a_deploy_scales_the_new_deployment(agent: Agent) -> None:
    await agent.deployed("d1")
    async with agent.held_at("create", agent.deploy("r2", "d2")):
        await agent.send("scale", "r3", service_id="web", replicas=3)
    assert [await agent.outcome(request) for request in ("r2", "r3")] == ["running", "running"]
    assert agent.engine.up("web") == ["d2", "d2", "d2"]
    row = await agent.service()
    assert (row.deployment_id, row.replicas) == ("d2", 3)


@pytest.mark.parametrize("kind", ["restart", "stop"])
async def test_a_restart_or_stop_that_waited_leaves_the_new_deployment_current(agent: Agent, kind: str) -> None:
    await agent.deployed("d1")
    async with agent.held_at("stop" if kind == "stop" else "create", agent.deploy("r2", "d2")):
        await agent.send(kind, "r3", service_id="web")
    assert [answer["success"] for answer in await agent.responses("r3")] == [True]
    row = await agent.service()
    assert (row.deployment_id, row.stopped) == ("d2", kind == "stop")


async def test_a_scale_whose_service_was_removed_before_its_turn_fails_with_one_report(agent: Agent) -> None:
    await agent.deployed("d1")
    async with agent.held_at("stop", agent.send("stop", "r2", service_id="web", remove_container=True)):
        await agent.send("scale", "r3", service_id="web", replicas=2)
        await agent.send("restart", "r4", service_id="web")
    assert await agent.outcome("r3") == "SERVICE_NOT_FOUND"
    assert (await agent.answer("r4"))["error"]["code"] == "SERVICE_NOT_FOUND"


# Deadlines


async def test_a_deployment_that_is_not_proven_in_time_is_taken_back(agent: Agent) -> None:
    await agent.deployed("d1", **CHECKED)
    begun = now()
    await agent.deploy_to_end("r2", "d2", timeout_seconds=7, **slow(500))
    assert 6.9 < now() - begun < 9
    await agent.failed(
        "r2",
        "rolled_back",
        "DEADLINE",
        "not done within 7 s; it ended in: wait until replica 1 is healthy (last probe: ",
    )
    assert [c.deployment.deployment_id for c in agent.engine.of("web")] == ["d1"]


async def test_time_that_runs_short_after_the_proof_leaves_no_old_container_serving(agent: Agent) -> None:
    await agent.deployed("d1", env={"FAIL": "deaf"}, config={"replicas": 8})
    end = await agent.deploy_to_end("r2", "d2", strategy="blue_green", timeout_seconds=5)
    assert (end["status"], end["message"]) == ("running", "deployed: 1 replica running")
    assert [c.deployment.deployment_id for c in agent.engine.of("web")] == ["d2"]


async def test_a_pull_that_takes_too_long_ends_the_deployment(agent: Agent) -> None:
    agent.engine.pull_secs = 100.0
    await agent.deploy_to_end("r1", "d1", timeout_seconds=10)
    await agent.failed("r1", "failed", "DEADLINE", "nothing is running: the service has no earlier version")
    assert agent.engine.of("web") == []


# Failure


@pytest.mark.parametrize("failure", ["exit", "crash", "unhealthy"])
@pytest.mark.parametrize("strategy", ["rolling", "blue_green"])
async def test_a_failed_start_first_deployment_costs_only_the_new_containers(
    agent: Agent, strategy: str, failure: str
) -> None:
    two = {"replicas": 2, "health_check": CHECK}
    await agent.deployed("d1", config=two)
    old = [c.container_id for c in agent.engine.of("web")]
    end = await agent.deploy_to_end("r2", "d2", strategy=strategy, env={"FAIL": failure}, config=two)
    assert (end["status"], end["error"]["code"]) == (
        "rolled_back",
        {"exit": "CONTAINER_CRASHED", "crash": "CONTAINER_CRASHED", "unhealthy": "HEALTH_CHECK_FAILED"}[failure],
    )
    assert end["error_message"] == end["error"]["message"]
    assert "the previous version is running (" in end["message"]
    assert any("starting d2" in line for line in end["logs"])
    assert [c.container_id for c in agent.engine.of("web")] == old
    assert agent.engine.up("web") == ["d1", "d1"]
    assert WEB not in agent.engine.least_up or agent.engine.least_up[WEB] >= 2
    alerts = [payload for kind, payload in await agent.said("r2") if kind == "alert"]
    assert [alert["type"] for alert in alerts] == ["deployment_failed"]
    row = await agent.service()
    assert row.deployment_id == "d1"
    assert await agent.journal.kept(WEB) == ["d1"]


async def test_a_failed_instant_deployment_brings_back_what_it_stopped(agent: Agent) -> None:
    await agent.deployed("d1", **CHECKED)
    old = [c.container_id for c in agent.engine.of("web")]
    await agent.deploy_to_end("r2", "d2", strategy="instant", env={"FAIL": "unhealthy"}, **CHECKED)
    await agent.failed("r2", "rolled_back", "HEALTH_CHECK_FAILED")
    assert [c.container_id for c in agent.engine.of("web")] == old
    assert agent.engine.up("web") == ["d1"]


async def test_a_failed_instant_deployment_without_a_way_back_leaves_nothing(agent: Agent) -> None:
    await agent.deployed("d1", **CHECKED)
    end = await agent.deploy_to_end(
        "r2", "d2", strategy="instant", rollback_on_failure=False, env={"FAIL": "unhealthy"}, **CHECKED
    )
    assert (end["status"], end["error"]["code"]) == ("failed", "HEALTH_CHECK_FAILED")
    assert "nothing is running: the containers of the previous version are gone" in end["message"]
    assert agent.engine.of("web") == []


async def test_an_instant_deployment_that_fails_before_it_stopped_anything_says_that_the_old_one_serves(
    agent: Agent,
) -> None:
    await agent.deployed("d1")
    await agent.deploy_to_end("r2", "d2", strategy="instant", rollback_on_failure=False, image="shop/web:none")
    await agent.failed("r2", "failed", "PULL_FAILED", "the previous version is running (")
    assert agent.engine.up("web") == ["d1"]


async def test_a_start_first_deployment_keeps_the_old_one_even_without_rollback(agent: Agent) -> None:
    await agent.deployed("d1", **CHECKED)
    await agent.deploy_to_end("r2", "d2", rollback_on_failure=False, env={"FAIL": "unhealthy"}, **CHECKED)
    await agent.failed("r2", "failed", "HEALTH_CHECK_FAILED", "the previous version is running (")
    assert agent.engine.up("web") == ["d1"]


@pytest.mark.parametrize("strategy", ["rolling", "instant"])
async def test_what_comes_back_is_judged_by_its_own_check(tmp_path: Path, strategy: str) -> None:
    """A new check that the old version cannot pass must not keep the old version from coming back."""
    adapter = FakeEngine()
    unmeetable: dict[str, Any] = {"config": {"health_check": {**CHECK, "command": ["no-such-program"]}}}
    async with running(tmp_path, adapter) as agent:
        await agent.deployed("d1", **CHECKED)
        end = await agent.deploy_to_end("r2", "d2", strategy=strategy, **unmeetable)
        assert (end["status"], end["error"]["code"]) == ("rolled_back", "HEALTH_CHECK_FAILED")
        assert "the rollback" not in end["message"]
        assert [c.deployment.deployment_id for c in adapter.of("web")] == ["d1"]
        assert adapter.up("web") == ["d1"]


async def test_a_failed_first_deployment_may_be_tried_again_with_another_spec(agent: Agent) -> None:
    assert (await agent.deploy_to_end("r1", "d1", env={"FAIL": "unhealthy"}, **CHECKED))["status"] == "failed"
    assert agent.engine.of("web") == []
    assert await agent.journal.services() == []
    # Its image is kept with its container, but not taken for the next try, which may be of another image.
    assert agent.engine.pins == {("web", "d1")}
    pulls = agent.engine.calls.count("obtain_image")
    await agent.deployed("d1", image="shop/web:2", **CHECKED)
    assert agent.engine.up("web") == ["d1"]
    assert agent.engine.calls.count("obtain_image") == pulls + 1
    assert agent.engine.kept == {}


async def test_a_host_port_is_handed_over_stop_first_and_handed_back_on_failure(agent: Agent) -> None:
    published: dict[str, Any] = {"networking": {"expose_port": 8088}, **CHECKED}
    await agent.deployed("d1", **published)
    end = await agent.deploy_to_end("r2", "d2", env={"FAIL": "unhealthy"}, **published)
    assert end["status"] == "rolled_back"
    assert "host port 8088" in end["message"]
    assert agent.engine.up("web") == ["d1"]
    await agent.deployed("d3", **published)
    assert agent.engine.up("web") == ["d3"]


TWO_AT_ONCE: dict[str, Any] = {"env": {"FAIL": "exit"}, "strategy": "blue_green", "config": {"replicas": 2}}
"""Two that fail: one is kept, the other removed."""


async def test_unwinding_is_tried_again(agent: Agent) -> None:
    await agent.deployed("d1")
    agent.engine.refuse("remove", "REMOVE_FAILED", times=2)
    assert (await agent.deploy_to_end("r2", "d2", **TWO_AT_ONCE))["status"] == "rolled_back"
    assert [c.deployment.deployment_id for c in agent.engine.of("web")] == ["d1"]
    assert agent.engine.refusals["remove"] == []


async def test_unwinding_that_cannot_succeed_ends_and_says_what_is_left(agent: Agent) -> None:
    await agent.deployed("d1")
    agent.engine.refuse("remove", "REMOVE_FAILED", times=50)
    end = await agent.deploy_to_end("r2", "d2", **TWO_AT_ONCE)
    assert end["status"] == "failed"
    assert "the rollback is incomplete" in end["message"]
    assert agent.engine.up("web") == ["d1"]


async def test_a_failed_container_that_cannot_be_kept_is_removed(agent: Agent) -> None:
    await agent.deployed("d1")
    agent.engine.refuse("keep_failed", "RENAME_FAILED")
    end = await agent.deploy_to_end("r2", "d2", env={"FAIL": "exit"})
    assert end["status"] == "rolled_back"
    assert "the failed container is not kept: cannot keep_failed" in end["message"]
    assert [c.deployment.deployment_id for c in agent.engine.of("web")] == ["d1"]
    assert agent.engine.kept == {}


async def test_a_deployment_that_was_cancelled_or_replaced_leaves_nothing(agent: Agent) -> None:
    await agent.deployed("d1")
    await agent.deploy("r2", "d2", **slow(60))
    await asyncio.sleep(2)
    await agent.deployed("d3")
    assert (await agent.outcome("r2")) == "SUPERSEDED"
    assert agent.engine.kept == {}


async def test_what_ran_out_of_time_is_kept_and_the_next_success_removes_it(agent: Agent) -> None:
    await agent.deployed("d1")
    end = await agent.deploy_to_end("r2", "d2", timeout_seconds=7, **slow(500))
    assert "see `syntra-agent logs web --deployment d2`" in end["message"]
    assert [c.deployment.deployment_id for c in agent.engine.kept.values()] == ["d2"]
    await agent.carry_out("scale", "r3", replicas=2)
    await agent.carry_out("restart", "r4")
    assert len(agent.engine.kept) == 1
    await agent.deployed("d3")
    assert agent.engine.kept == {}
    assert ("web", "d2") not in agent.engine.pins


async def test_tidying_that_fails_after_the_proof_is_a_note_and_not_a_failure(agent: Agent) -> None:
    await agent.deployed("d1")
    agent.engine.refuse("remove", "REMOVE_FAILED")
    end = await agent.deploy_to_end("r2", "d2")
    assert end["status"] == "running"
    assert "cannot remove" in end["message"]
    assert agent.engine.up("web") == ["d2"]


# Scale, restart, rollback, stop


async def test_scaling_goes_up_and_down_and_to_nothing_and_back(agent: Agent) -> None:
    await agent.deployed("d1")
    first = agent.engine.of("web")[0].container_id
    turns = [(4, "rolling"), (2, "immediate"), (0, "immediate"), (3, "immediate")]
    for number, (replicas, pace) in enumerate(turns):
        await agent.carry_out("scale", f"r{number}", replicas=replicas, strategy=pace)
        assert await agent.outcome(f"r{number}") == "running"
        assert agent.engine.up("web") == ["d1"] * replicas
        if replicas == 2:
            assert first in [c.container_id for c in agent.engine.of("web")]
    row = await agent.service()
    assert row.replicas == 3


async def test_a_scale_up_that_fails_takes_back_only_what_it_added(agent: Agent) -> None:
    await agent.deployed("d1")
    agent.engine.refuse("start", "START_FAILED")
    await agent.carry_out("scale", "r2", replicas=3)
    await agent.failed("r2", "rolled_back", "START_FAILED")
    assert agent.engine.up("web") == ["d1"]
    assert len(agent.engine.of("web")) == 1
    row = await agent.service()
    assert row.replicas == 1


async def test_a_restart_restarts_every_replica_once_and_leaves_left_overs_down(agent: Agent) -> None:
    await agent.deployed("d1")
    agent.engine.refuse("remove", "REMOVE_FAILED")
    await agent.deployed("d2", config={"replicas": 2})
    assert [c.is_up for c in agent.engine.of("web")] == [False, True, True]
    before = {c.container_id: c.started_ns for c in agent.engine.of("web")}
    await agent.carry_out("restart", "r3")
    assert [answer["success"] for answer in await agent.responses("r3")] == [True]
    assert [c.started_ns != before[c.container_id] for c in agent.engine.of("web")] == [False, True, True]
    assert agent.engine.calls.count("restart") == 2


async def test_a_restart_restarts_also_when_the_clock_was_set_back(agent: Agent) -> None:
    await agent.deployed("d1", config={"replicas": 2})
    for container in agent.engine.of("web"):
        container.started_ns = time.time_ns() + 3600 * 10**9
    await agent.carry_out("restart", "r1")
    assert (await agent.responses("r1"))[0]["success"]
    assert agent.engine.calls.count("restart") == 2


async def test_a_rollback_returns_to_the_one_before_or_to_a_named_one(agent: Agent) -> None:
    for number in (1, 2, 3):
        await agent.deployed(f"d{number}")
    await agent.carry_out("rollback", "back")
    assert (await agent.end_of("back"))["message"] == "rolled back to d2: 1 replica running"
    assert agent.engine.up("web") == ["d2"]
    await agent.carry_out("rollback", "named", target_deployment_id="d1")
    assert agent.engine.up("web") == ["d1"]
    await agent.send("rollback", "wrong", service_id="web", target_deployment_id="d9")
    answer = await agent.answer("wrong")
    assert answer["error"]["code"] == "DEPLOYMENT_NOT_FOUND"
    assert "d1, d2, d3" in answer["error"]["message"]


async def test_a_rollback_keeps_the_number_of_replicas_that_was_scaled_to(agent: Agent) -> None:
    await agent.deployed("d1")
    await agent.deployed("d2")
    await agent.carry_out("scale", "r3", replicas=3)
    await agent.carry_out("rollback", "r4")
    assert agent.engine.up("web") == ["d1"] * 3


async def test_a_stop_that_the_engine_refuses_is_a_failure(agent: Agent) -> None:
    await agent.deployed("d1")
    agent.engine.refuse("stop", "STOP_FAILED")
    await agent.carry_out("stop", "r2")
    assert (await agent.answer("r2"))["error"]["code"] == "STOP_FAILED"
    assert agent.engine.up("web") == ["d1"]


@pytest.mark.parametrize("refused", ["collect_garbage", "release_network"])
async def test_a_removed_service_leaves_no_container_no_image_and_no_row(agent: Agent, refused: str) -> None:
    await agent.deployed("d1")
    await agent.deployed("d2")
    await agent.deployed("d1", "db")
    agent.engine.refuse(refused, "REFUSED")
    await agent.carry_out("stop", "r3", remove_container=True)
    answer = await agent.answer("r3")
    assert answer["success"]
    assert answer["data"]["removed"]
    assert agent.engine.of("web") == []
    assert agent.engine.pins == {("db", "d1")}
    assert [row.service_id for row in await agent.journal.services()] == ["db"]
    await agent.send("stop", "r4", service_id="web")
    assert (await agent.responses("r4"))[0]["error"]["code"] == "SERVICE_NOT_FOUND"


async def test_what_was_never_deployed_can_neither_be_scaled_restarted_rolled_back_nor_stopped(agent: Agent) -> None:
    for kind in ("scale", "restart", "rollback", "stop"):
        await agent.send(kind, kind, service_id="web", replicas=2)
    codes = [(await agent.responses(kind))[0]["error"]["code"] for kind in ("scale", "restart", "rollback", "stop")]
    assert codes == ["SERVICE_NOT_FOUND", "SERVICE_NOT_FOUND", "NO_ROLLBACK_TARGET", "SERVICE_NOT_FOUND"]
    assert agent.engine.calls.count("create") == 0


async def test_one_deployment_id_has_one_spec(agent: Agent) -> None:
    await agent.deployed("d1")
    await agent.deploy("r2", "d1", env={"MORE": "1"})
    assert (await agent.responses("r2"))[0]["error"]["code"] == "DEPLOYMENT_EXISTS"
    await agent.deploy_to_end("r3", "d1", config={"replicas": 2})
    assert agent.engine.up("web") == ["d1", "d1"]


async def test_only_the_images_of_kept_deployments_stay(agent: Agent) -> None:
    for number in range(1, KEPT_DEPLOYMENTS + 3):
        await agent.deployed(f"d{number}")
    kept = {f"d{number}" for number in range(3, KEPT_DEPLOYMENTS + 3)}
    assert {deployment for _, deployment in agent.engine.pins} == kept
    assert await agent.journal.deployment(WEB, DeploymentId("d2")) is None


# Answers in time, bounds, secrets


async def test_a_stop_that_takes_long_is_answered_before_the_control_plane_gives_up(agent: Agent) -> None:
    await agent.deployed("d1", env={"FAIL": "deaf"})
    begun = now()
    await agent.send("stop", "r2", service_id="web", timeout_seconds=45)
    await asyncio.sleep(19)
    assert await agent.responses("r2") == []
    await asyncio.sleep(2)
    answer = await agent.answer("r2")
    assert answer == {"request_id": "r2", "success": True, "data": {"accepted": True, "completed": False}}
    await agent.done()
    assert now() - begun >= 45
    assert len(await agent.responses("r2")) == 1
    await agent.send("stop", "r2", service_id="web", timeout_seconds=45)
    assert await agent.responses("r2") == [answer, answer]


async def test_a_local_client_waits_for_the_end_of_a_long_stop(agent: Agent) -> None:
    await agent.deployed("d1", env={"FAIL": "deaf"})
    await agent.ask("stop", "r2", service_id="web", timeout_seconds=45)
    await agent.done()
    assert [answer["data"]["completed"] for answer in agent.local.responses()] == [True]


async def test_a_lane_is_bounded_and_a_refused_command_is_forgotten(agent: Agent) -> None:
    await agent.deployed("d1")
    hold = agent.engine.hold("restart")
    for number in range(MAX_WAITING_PER_SERVICE + 2):
        await agent.send("restart", f"r{number}", service_id="web")
        if number == 0:
            await hold.arrived.wait()
    last = f"r{MAX_WAITING_PER_SERVICE + 1}"
    assert [answer["error"]["code"] for answer in await agent.responses(last)] == ["BUSY"]
    # A newer deploy clears the lane, so there is room for it.
    hold.release.set()
    await agent.done()
    await agent.carry_out("restart", last)
    assert (await agent.responses(last))[1]["success"]


async def test_all_lanes_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues_module, "MAX_JOBS", 3)
    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent:
        hold = adapter.hold("create")
        for number in range(4):
            await agent.deploy(f"r{number}", "d1", f"svc{number}")
        assert (await agent.responses("r3"))[0]["error"]["code"] == "BUSY"
        hold.release.set()
        await agent.done(*(f"svc{number}" for number in range(4)))


async def test_an_agent_that_stops_takes_no_more_work(agent: Agent) -> None:
    await agent.deployer.queues.drain(1.0)
    await agent.deploy("r1", "d1")
    assert (await agent.responses("r1"))[0]["error"]["code"] == "BUSY"


async def test_a_registry_password_is_used_and_never_kept(agent: Agent) -> None:
    agent.engine.password = CANARY
    hold = agent.engine.hold("create")
    auth = {"username": "ann", "password": CANARY}
    await agent.deploy("r1", "d1", registry_auth=auth)
    await hold.arrived.wait()
    [row] = await agent.journal.unfinished()
    assert "registry_auth" not in row.payload
    assert CANARY not in str(row.payload)
    kept = await agent.journal.deployment(WEB, DeploymentId("d1"))
    assert CANARY not in str(kept)
    assert agent.redactor.clean(f"password is {CANARY}") == "password is [redacted]"
    hold.release.set()
    await agent.done()
    assert await agent.outcome("r1") == "running"
    assert agent.engine.passwords_seen == [CANARY]
    assert all(CANARY not in str(message) for message in await agent.said("r1"))


async def test_a_bug_costs_its_operation_and_not_the_lane(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    agent.engine.bugs["ensure_network"] = ZeroDivisionError("a bug")
    for request_id, deployment_id in (("r1", "d1"), ("r2", "d2")):
        await agent.deploy_to_end(request_id, deployment_id)
        assert await agent.outcome(request_id) == "INTERNAL"
    assert "operation failed unexpectedly" in [record.getMessage() for record in caplog.records]


# The time to stop


async def stopping_takes(agent: Agent, command: str, **payload: Any) -> float:
    begun = now()
    await agent.send(command, f"{command}-{begun}", service_id="web", **payload)
    await agent.done()
    return now() - begun


async def test_a_container_stops_within_the_grace_of_its_own_spec_unless_the_command_says_otherwise(
    agent: Agent,
) -> None:
    deaf: dict[str, Any] = {"env": {"FAIL": "deaf"}}
    await agent.deployed("d1", **deaf, config={"stop_grace_seconds": 40})
    assert 40 <= await stopping_takes(agent, "restart") < 50
    assert 3 <= await stopping_takes(agent, "restart", timeout_seconds=3) < 10
    # What the new version asks for is about the new version.
    begun = now()
    await agent.deployed("d2", **deaf, config={"stop_grace_seconds": 0})
    assert 40 <= now() - begun < 50
    assert await stopping_takes(agent, "stop") < 5
    await agent.deployed("d3", **deaf)
    assert 10 <= await stopping_takes(agent, "stop") < 15
