"""Requests of the router: execs, log streams and queries, which run concurrently and fail alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.api.running_requests import MAX_REQUESTS, QUERIES_AT_ONCE, QUERY_WAIT_SECS
from syntra.model.ids import RequestId
from tests.agent.agent_rig import Agent, ControlPeer, LocalPeer, running
from tests.agent.fake_engine import FakeEngine, Hold
from tests.agent.samples import CANARY, deploy_payload
from tests.agent.virtual_time import now

pytestmark = pytest.mark.virtual_time


def said(script: str) -> dict[str, Any]:
    return {"service_id": "web", "command": ["sh", "-c", script]}


async def quiet() -> None:
    """Let everything that can happen at once happen."""
    await asyncio.sleep(0.001)


# Exec


async def test_an_exec_runs_once_however_often_it_arrives(agent: Agent) -> None:
    await agent.deployed("d1")
    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(agent.send("exec", "e1", **said("echo $VERSION;exit 2")), name=f"arrival {number}")
    await quiet()
    await agent.send("exec", "e1", **said("echo $VERSION;exit 2"))
    first, *again = await agent.responses("e1")
    assert first["data"] == {"exit_code": 2, "stdout": "d1\n", "stderr": ""}
    # The journal keeps no output.
    kept = {"exit_code": 2, "stdout": "", "stderr": "", "output_forgotten": True}
    assert [answer["data"] for answer in again] == [kept] * len(again)
    assert again
    assert agent.engine.calls.count("execute") == 1


async def test_an_exec_goes_to_the_newest_running_replica(agent: Agent) -> None:
    await agent.deployed("d1")
    agent.engine.refuse("remove", "REMOVE_FAILED")
    await agent.deployed("d2")
    await agent.send("exec", "e1", **said("echo $VERSION"))
    await quiet()
    assert (await agent.responses("e1"))[0]["data"]["stdout"] == "d2\n"


async def test_an_exec_that_cannot_run_is_refused_with_a_code(agent: Agent) -> None:
    await agent.send("exec", "none", **said("pwd"))
    await agent.deployed("d1")
    await agent.send("exec", "slow", **said("sleep 60"), timeout_seconds=5)
    await asyncio.sleep(10)
    agent.engine.refuse("execute", "EXEC_FAILED")
    await agent.send("exec", "refused", **said("pwd"))
    await quiet()
    agent.engine.away = True
    await agent.send("exec", "away", **said("pwd"))
    await quiet()
    codes = [(await agent.responses(i))[0]["error"]["code"] for i in ("none", "slow", "refused", "away")]
    assert codes == ["CONTAINER_NOT_FOUND", "EXEC_TIMEOUT", "EXEC_FAILED", "RUNTIME_UNAVAILABLE"]


async def test_what_an_exec_runs_is_not_kept(agent: Agent) -> None:
    await agent.deployed("d1")
    hold = await agent.reach("execute", agent.send("exec", "e1", **said(f"echo {CANARY}"), env={"SECRET": CANARY}))
    rows = await agent.journal._database.transact(
        lambda c: c.execute("SELECT payload FROM commands WHERE request_id = 'e1'").fetchall()
    )
    assert agent.journal._database.unseal(rows[0][0], "payload/e1") == b"{}"
    hold.release.set()


async def test_an_exec_with_much_output_says_that_it_was_cut(agent: Agent) -> None:
    await agent.deployed("d1")
    await agent.send("exec", "e1", **said("head -c 1500000 /dev/zero"))
    await quiet()
    assert (await agent.responses("e1"))[0]["data"]["truncated"] is True


# Bounds and faults


async def test_requests_are_bounded_for_each_peer_and_a_refused_exec_is_forgotten(agent: Agent) -> None:
    await agent.deployed("d1")
    hold = agent.engine.hold("execute")
    for number in range(MAX_REQUESTS):
        await agent.send("exec", f"e{number}", **said("pwd"))
    await agent.send("exec", "one-more", **said("pwd"))
    await agent.send("logs_subscribe", "logs", service_id="web")
    assert (await agent.responses("logs"))[0]["error"]["code"] == "BUSY"
    # A question is not refused, and the requests of one peer do not count for another.
    await agent.send("status", "query")
    await agent.ask("status", "query")
    await agent.ask("logs_subscribe", "logs", service_id="web")
    await quiet()
    assert (await agent.responses("query"))[0]["success"]
    assert [answer["success"] for answer in agent.local.responses()] == [True, True]
    hold.release.set()
    while agent.router._requests._tasks:
        await quiet()
    await agent.send("exec", "one-more", **said("pwd"))
    await quiet()
    answers = await agent.responses("one-more")
    assert [answer["success"] for answer in answers] == [False, True]


async def test_questions_wait_for_their_turn_and_are_refused_only_after_a_while(agent: Agent) -> None:
    await agent.deployed("d1")
    hold = agent.engine.hold("has_image")
    for number in range(QUERIES_AT_ONCE):
        await agent.ask("plan", f"m{number}", **deploy_payload("d2"))
    await agent.ask("status", "waits")
    await agent.send("status", "other")
    await quiet()
    assert (await agent.responses("other"))[0]["success"], "another peer's turns are its own"
    assert agent.local.responses() == []
    await asyncio.sleep(QUERY_WAIT_SECS / 2)
    hold.release.set()
    await asyncio.sleep(2)
    answers = {answer["request_id"]: answer["success"] for answer in agent.local.responses()}
    assert answers == {**{f"m{number}": True for number in range(QUERIES_AT_ONCE)}, "waits": True}
    hold = agent.engine.hold("has_image")
    for number in range(QUERIES_AT_ONCE):
        await agent.ask("plan", f"n{number}", **deploy_payload("d2"))
    await agent.ask("status", "late")
    await asyncio.sleep(QUERY_WAIT_SECS + 1)
    assert agent.local.responses()[-1]["error"]["code"] == "BUSY"
    hold.release.set()


async def test_a_query_that_breaks_costs_nobody_else_anything(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    await agent.deployed("d1")
    agent.engine.bugs["has_image"] = ZeroDivisionError("a bug")
    await agent.ask("plan", "m1", **deploy_payload("d2"))
    await quiet()
    assert "request failed unexpectedly" in [record.getMessage() for record in caplog.records]
    await agent.ask("status", "s1")
    await quiet()
    assert [answer["request_id"] for answer in agent.local.responses()] == ["s1"]


async def test_an_answer_that_cannot_be_kept_costs_nobody_else_anything(agent: Agent) -> None:
    database = agent.journal._database
    full = "CREATE TRIGGER full BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    await database.transact(lambda c: c.execute(full))
    await agent.send("status", "s1")
    await agent.send("logs_subscribe", "l1", service_id="web")
    await quiet()
    await database.transact(lambda c: c.execute("DROP TRIGGER full"))
    await agent.send("status", "s2")
    await quiet()
    assert (await agent.responses("s2"))[0]["success"]


async def test_a_stopping_agent_ends_its_requests(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent:
        await agent.deployed("d1")
        hold = adapter.hold("execute")
        await agent.send("exec", "e1", **said("pwd"))
        await agent.ask("logs_subscribe", "l1", service_id="web", follow=True)
        await hold.arrived.wait()
    assert agent.router._requests._tasks == set()
    assert agent.router._streams == {}


async def test_a_message_without_an_id_that_could_be_answered_is_refused_or_passed_over(agent: Agent) -> None:
    await agent.router.handle("status", "with space", {}, agent.local)
    assert agent.local.responses()[0]["error"]["code"] == "INVALID_PAYLOAD"
    await agent.router.handle("levitate", "e1", {}, agent.local)
    assert agent.local.responses()[1]["error"]["code"] == "UNSUPPORTED"
    await agent.router.handle("deploy", "e2", {**deploy_payload("d1"), "image": "NOT VALID"}, agent.local)
    assert agent.local.responses()[2]["error"]["code"] == "INVALID_PAYLOAD"
    assert await agent.journal.find(RequestId("e2")) is None


# Log streams


async def test_logs_of_an_unknown_service_are_refused(agent: Agent) -> None:
    await agent.ask("logs_subscribe", "l1", service_id="web")
    await quiet()
    assert agent.local.responses()[0]["error"]["code"] == "SERVICE_NOT_FOUND"


async def test_logs_without_follow_are_answered_read_and_done(agent: Agent) -> None:
    await agent.deployed("d1")
    await agent.ask("logs_subscribe", "l1", service_id="web")
    await quiet()
    response, lines, end = agent.local.heard
    assert response[1]["data"] == {"subscribed": True, "follow": False, "replicas": [1]}
    assert [line["message"] for line in lines[1]["logs"]] == ["starting d1", "serving d1 on 8080"]
    assert end == ("log_stream", {"request_id": "l1", "service_id": "web", "logs": [], "done": True})


async def test_a_subscription_that_arrives_twice_is_one_stream(agent: Agent) -> None:
    await agent.deployed("d1")
    for _ in range(2):
        await agent.ask("logs_subscribe", "l1", service_id="web", follow=True)
        await asyncio.sleep(1)
    agent.engine.of("web")[0].say("news")
    agent.engine._announce()
    await asyncio.sleep(1)
    lines = [line["message"] for kind, p in agent.local.heard if kind == "log_stream" for line in p["logs"]]
    assert lines == ["starting d1", "serving d1 on 8080", "news"]
    assert len(agent.router._streams) == 1
    await agent.ask("logs_unsubscribe", "l1", service_id="web")
    await quiet()
    assert agent.router._streams == {}
    assert agent.router._requests._tasks == set()


async def test_unsubscribing_ends_ones_own_streams_only(agent: Agent) -> None:
    await agent.deployed("d1")
    await agent.deployed("d1", "db")
    other = LocalPeer(agent.reports)
    for peer, request_id, service_id in (
        (agent.control, "c1", "web"),
        (agent.control, "c2", "web"),
        (agent.control, "c3", "db"),
        (other, "o1", "web"),
    ):
        payload = {"service_id": service_id, "follow": True}
        await agent.router.handle("logs_subscribe", request_id, payload, peer)
    await asyncio.sleep(1)

    def left() -> list[str]:
        return sorted(request_id for _, request_id in agent.router._streams)

    assert left() == ["c1", "c2", "c3", "o1"]
    await agent.send("logs_unsubscribe", "c1")
    await quiet()
    assert left() == ["c2", "c3", "o1"]
    await agent.send("logs_unsubscribe", "any", service_id="web")
    await quiet()
    assert left() == ["c3", "o1"]
    assert (await agent.responses("any"))[0]["data"] == {"unsubscribed": 1}
    agent.router.forget(other)
    await quiet()
    assert left() == ["c3"]


async def test_a_stream_whose_peer_is_gone_ends(agent: Agent) -> None:
    await agent.deployed("d1")
    gone = ControlPeer(agent.journal, gone=True)
    await agent.router.handle("logs_subscribe", "l1", {"service_id": "web", "follow": True}, gone)
    begun = now()
    while agent.router._requests._tasks:
        await asyncio.sleep(0.1)
    assert now() - begun < 1


async def test_a_stream_that_the_engine_ends_says_why(agent: Agent) -> None:
    await agent.deployed("d1")
    agent.engine.refuse("logs", "LOGS_FAILED")
    await agent.ask("logs_subscribe", "l1", service_id="web")
    await quiet()
    first, second = agent.local.responses()
    assert first["success"]
    assert second["error"]["code"] == "LOGS_FAILED"


async def test_a_client_that_is_gone_while_its_command_is_written_leaves_it_whole(agent: Agent) -> None:
    await agent.deployed("d1")
    agent.engine.holds["ping"] = hold = Hold()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(agent.ask("deploy", "r", **deploy_payload("d2")))
        await hold.arrived.wait()
        hold.release.set()
        for _ in range(4):
            await asyncio.sleep(0)
        asking.cancel()
    await quiet()
    await agent.done()
    remembered = await agent.journal.find(RequestId("r"))
    assert remembered is None or remembered.report is not None, "accepted and never carried out"
    assert await agent.journal.unfinished() == []
