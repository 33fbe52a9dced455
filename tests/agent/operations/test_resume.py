"""Engines that go away and agents that are stopped or killed: at any call, before or after its effect, work goes on.

Each matrix counts the calls to the engine from the moment a command is sent, and lets the one fault happen at each.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.operations.execution import ROLLBACK_SECS
from syntra.model.ids import RequestId, ServiceId
from tests.agent.agent_rig import Agent, Machine, running, until_killed
from tests.agent.fake_engine import FakeEngine
from tests.agent.journal.opened import opened
from tests.agent.samples import CANARY, deploy_payload
from tests.agent.virtual_time import now

pytestmark = pytest.mark.virtual_time

WEB = ServiceId("web")
STRIDE = 13
CHECK: dict[str, Any] = {
    "type": "exec",
    "command": ["wget", "-q", "http://localhost"],
    "interval_seconds": 1,
    "retries": 2,
}
CHECKED: dict[str, Any] = {"config": {"health_check": CHECK, "replicas": 2}}


def releasing(script: str) -> dict[str, Any]:
    return {"config": {**CHECKED["config"], "release_command": ["sh", "-c", script]}}


@dataclass(frozen=True)
class Story:
    """A command on a service that runs two replicas of d1, deployed after d0, and how it ends."""

    send: Callable[[Agent], Awaitable[None]]
    up: list[str]
    status: str | None
    least_up: int = 2


STORIES = {
    "rolling": Story(lambda a: a.deploy("r", "d2", **CHECKED), ["d2", "d2"], "running"),
    "blue-green": Story(lambda a: a.deploy("r", "d2", strategy="blue_green", **CHECKED), ["d2", "d2"], "running"),
    "instant": Story(lambda a: a.deploy("r", "d2", strategy="instant", **CHECKED), ["d2", "d2"], "running", least_up=0),
    "failing": Story(lambda a: a.deploy("r", "d2", env={"FAIL": "unhealthy"}, **CHECKED), ["d1", "d1"], "rolled_back"),
    "failing instant": Story(
        lambda a: a.deploy("r", "d2", env={"FAIL": "unhealthy"}, strategy="instant", **CHECKED),
        ["d1", "d1"],
        "rolled_back",
        least_up=0,
    ),
    "releasing": Story(
        lambda a: a.deploy("r", "d2", **releasing("exit 0")),
        ["d2", "d2"],
        "running",
    ),
    "release failing": Story(
        lambda a: a.deploy("r", "d2", strategy="instant", **releasing("exit 3")),
        ["d1", "d1"],
        "rolled_back",
    ),
    "scale up": Story(lambda a: a.send("scale", "r", service_id="web", replicas=4), ["d1"] * 4, "running"),
    "scale down": Story(lambda a: a.send("scale", "r", service_id="web", replicas=1), ["d1"], "running", least_up=1),
    "rollback": Story(lambda a: a.send("rollback", "r", service_id="web"), ["d0", "d0"], "running"),
    "restart": Story(lambda a: a.send("restart", "r", service_id="web"), ["d1", "d1"], None, least_up=1),
    "stop": Story(lambda a: a.send("stop", "r", service_id="web"), [], None, least_up=0),
    "remove": Story(lambda a: a.send("stop", "r", service_id="web", remove_container=True), [], None, least_up=0),
}


async def prepare(agent: Agent) -> None:
    """Deploy d0 and d1."""
    await agent.deployed("d0", **CHECKED)
    await agent.deployed("d1", **CHECKED)
    agent.engine.forget_the_past()


async def prepared(path: Path) -> FakeEngine:
    """An engine on which d0 and d1 were deployed, and the journal of that in `path`."""
    adapter = FakeEngine()
    async with running(path, adapter) as agent:
        await prepare(agent)
    return adapter


async def assert_ended(agent: Agent, story: Story, name: str) -> None:
    """The service is as the story tells, and the control plane heard of it once."""
    left = [c.deployment.deployment_id for c in agent.engine.of("web")]
    assert sorted(agent.engine.up("web")) == story.up
    assert len(left) == len(story.up) or name == "stop", left
    assert agent.engine.least_up.get(WEB, 2) >= story.least_up
    assert await agent.journal.unfinished() == []
    assert agent.engine.releases == {}
    assert {(c.deployment.deployment_id, c.is_up) for c in agent.engine.kept.values()} <= {("d2", False)}
    assert len(agent.engine.kept) == ("failing" in name), "a failed deployment leaves one container to look at"
    assert len(agent.engine.released) <= 1, "a kill is no reason to run a release command again"
    row = await agent.journal.service(WEB)
    if name == "remove":
        assert row is None
        assert agent.engine.pins == set()
    else:
        assert row is not None
        assert row.deployment_id == (story.up[0] if story.up else "d1")
        assert row.replicas == (len(story.up) or 2)
        assert row.stopped == (name == "stop")
    if story.status is None:
        [answer] = await agent.responses("r")
        assert answer["success"]
    else:
        assert (await agent.end_of("r"))["status"] == story.status
        assert len(await agent.responses("r")) == 1


def calls(name: str, after: bool, every: bool) -> Iterator[int]:
    """One call in thirteen, beginning elsewhere for each story; the soak run takes every one.

    The first call proves that the engine is there: away at that, a command is refused.
    """
    first = 0 if every else (list(STORIES).index(name) + 6 * after) % STRIDE
    return itertools.count(2 + first, 1 if every else STRIDE)


every_story = pytest.mark.parametrize("name", STORIES)
sides = pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
at_calls = pytest.mark.parametrize(
    "every", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["at some calls", "at any call"]
)


@at_calls
@sides
@every_story
async def test_an_engine_that_is_away_changes_nothing_about_the_end(
    quick_path: Path, name: str, after: bool, every: bool
) -> None:
    await away(quick_path, name, after, calls(name, after, every))


@at_calls
@sides
@every_story
async def test_a_killed_agent_goes_on_where_it_was(quick_path: Path, name: str, after: bool, every: bool) -> None:
    await kill(quick_path, name, after, calls(name, after, every))


async def away(path: Path, name: str, lost: bool, numbers: Iterator[int]) -> None:
    """Run a story once for each number of a call, until it makes no more calls than that."""
    story = STORIES[name]
    engine = await prepared(path / "prepared")
    reached = True
    while reached:
        number = next(numbers)
        adapter = engine.clone()
        (adapter.lost_at if lost else adapter.away_at).add(number)
        async with running(shutil.copytree(path / "prepared", path / str(number)), adapter) as agent:
            await story.send(agent)
            await agent.done()
            reached = len(adapter.calls) >= number
            await assert_ended(agent, story, name)


async def kill(path: Path, name: str, after: bool, numbers: Iterator[int]) -> None:
    """The same with an agent that is killed at the call, and started again."""
    story = STORIES[name]
    engine = await prepared(path / "prepared")
    reached = True
    while reached:
        number = next(numbers)
        adapter = engine.clone()
        adapter.kill_at, adapter.kill_after_effect = number, after
        directory = shutil.copytree(path / "prepared", path / str(number))
        async with until_killed(directory, adapter) as agent:
            await story.send(agent)
            reached = await agent.killed_or_done()
        adapter.kill_at = None
        async with running(directory, adapter) as agent:
            await agent.done()
            await assert_ended(agent, story, name)


async def rest(agent: Agent, up: list[str]) -> None:
    await agent.done()
    assert sorted(agent.engine.up("web")) == up


async def test_an_engine_that_comes_back_after_minutes_finds_the_work_waiting(agent: Agent) -> None:
    await prepare(agent)
    hold = await agent.reach("create", agent.deploy("r", "d2", timeout_seconds=600, **CHECKED))
    agent.engine.away = True
    hold.release.set()
    await asyncio.sleep(300)
    assert await agent.ends("r") == []
    agent.engine.away = False
    await rest(agent, ["d2", "d2"])
    assert await agent.outcome("r") == "running"


async def test_an_engine_that_stays_away_ends_the_deployment_and_its_unwinding_with_a_report(agent: Agent) -> None:
    await prepare(agent)
    hold = await agent.reach("start", agent.deploy("r", "d2", timeout_seconds=30, **CHECKED))
    agent.engine.away = True
    hold.release.set()
    begun = now()
    await agent.done()
    assert now() - begun == pytest.approx(30 + ROLLBACK_SECS, abs=5)
    await agent.failed("r", "failed", "DEADLINE", "the rollback did not finish in time")
    agent.engine.away = False
    assert agent.engine.up("web") == ["d1", "d1"]


async def test_an_engine_that_is_away_when_work_begins_is_waited_for(agent: Agent) -> None:
    await prepare(agent)
    hold = await agent.reach("observe", agent.deploy("r", "d2", **CHECKED))
    agent.engine.away = True
    hold.release.set()
    await asyncio.sleep(10)
    agent.engine.away = False
    await rest(agent, ["d2", "d2"])


# Stopping in order


@pytest.mark.parametrize("method", ["obtain_image", "create", "start", "execute", "stop", "remove"])
async def test_a_stopped_agent_parks_its_work_and_the_next_one_finishes_it(machine: Machine, method: str) -> None:
    async with machine.running() as agent:
        await prepare(agent)
        await agent.reach(method, agent.deploy("r", "d2", **CHECKED))
        await agent.deploy("db", "d1", "db")
    async with machine.running() as agent:
        await agent.done("web", "db")
        assert await agent.outcome("r") == "running"
        assert await agent.outcome("db") == "running"
        assert sorted(machine.engine.up("web")) == ["d2", "d2"]
        assert len(machine.engine.of("web")) == 2


async def test_a_short_operation_is_finished_before_the_agent_stops(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with running(tmp_path, adapter, drain_secs=10.0) as agent:
        await agent.deploy("r", "d1")
        await agent.deployer.queues.drain(10.0)
        assert await agent.outcome("r") == "running"


async def test_an_operation_that_does_not_come_to_a_safe_point_is_cut_off(machine: Machine) -> None:
    async with machine.running(drain_secs=5.0) as agent:
        await agent.deployed("d1", env={"FAIL": "deaf"})
        await agent.send("stop", "r", service_id="web", timeout_seconds=600)
        await asyncio.sleep(1)
        begun = now()
    assert now() - begun < 15
    async with machine.running() as agent:
        await agent.done()
        assert (await agent.answer("r"))["success"]
        assert machine.engine.up("web") == []


async def test_what_waits_behind_other_work_is_resumed_in_order(machine: Machine) -> None:
    async with machine.until_killed() as agent:
        await prepare(agent)
        await agent.reach("create", agent.deploy("r1", "d2", **CHECKED))
        await agent.send("scale", "r2", service_id="web", replicas=3)
        await agent.send("restart", "r3", service_id="web")
    async with machine.running() as agent:
        await agent.done()
        assert [await agent.outcome(request) for request in ("r1", "r2")] == ["running", "running"]
        assert [answer["success"] for answer in await agent.responses("r3")] == [True]
        assert machine.engine.up("web") == ["d2"] * 3


async def test_a_deployment_that_waited_while_nobody_was_there_is_superseded_by_the_newer_one(machine: Machine) -> None:
    async with machine.until_killed() as agent:
        await prepare(agent)
        await agent.reach("create", agent.deploy("r1", "d2", **CHECKED))
        await agent.deploy("r2", "d3", **CHECKED)
    async with machine.running() as agent:
        await agent.done()
        assert [await agent.outcome(request) for request in ("r1", "r2")] == ["SUPERSEDED", "running"]
        assert [c.deployment.deployment_id for c in machine.engine.of("web")] == ["d3", "d3"]


async def test_an_exec_that_was_cut_off_is_answered_honestly_and_not_run_again(machine: Machine) -> None:
    async with machine.until_killed() as agent:
        await prepare(agent)
        await agent.reach("execute", agent.send("exec", "e1", service_id="web", command=["sh", "-c", f"echo {CANARY}"]))
    before = machine.engine.calls.count("execute")
    async with machine.running() as agent:
        answer = await agent.answer("e1")
        assert answer["error"]["code"] == "INTERRUPTED"
        await agent.send("exec", "e1", service_id="web", command=["sh", "-c", "echo again"])
        assert await agent.responses("e1") == [answer, answer]
    assert machine.engine.calls.count("execute") == before


async def test_a_deploy_that_a_kill_interrupted_goes_on_without_its_password_and_still_hides_its_secrets(
    machine: Machine,
) -> None:
    async with machine.until_killed() as agent:
        hold = machine.engine.hold("obtain_image")
        auth = {"username": "ann", "password": "password-of-ann"}
        await agent.deploy("r", "d1", env={"API_TOKEN": CANARY}, registry_auth=auth)
        await hold.arrived.wait()
    async with machine.running() as agent:
        await agent.done()
        assert await agent.outcome("r") == "running"
        assert machine.engine.passwords_seen == []
        assert agent.redactor.clean(CANARY) == "[redacted]"


async def test_a_stored_command_that_cannot_be_read_any_more_is_answered_and_does_not_stop_the_rest(
    machine: Machine,
) -> None:
    async with machine.until_killed() as agent:
        await prepare(agent)
        hold = machine.engine.hold("obtain_image")
        await agent.deploy("r1", "d2", **CHECKED)
        await agent.deploy("r2", "d1", "db")
        await hold.arrived.wait()
        await agent.journal._database.transact(
            lambda c: c.execute("UPDATE commands SET kind = 'levitate' WHERE request_id = 'r1'")
        )
    async with machine.running() as agent:
        await agent.done("db")
        assert (await agent.responses("r1"))[-1]["error"]["code"] == "UNSUPPORTED"
        assert await agent.outcome("r2") == "running"
        assert await agent.journal.unfinished() == []


# A journal that cannot be written for a while


async def refuse_writes(agent: Agent, change: str) -> Callable[[], Awaitable[object]]:
    """Let a change such as UPDATE ON commands fail as on a full disk, until the returned call."""
    trigger = f"BEFORE {change} BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
    await agent.journal._database.transact(lambda c: c.execute(f"CREATE TRIGGER full {trigger}"))
    return lambda: agent.journal._database.transact(lambda c: c.execute("DROP TRIGGER full"))


@pytest.mark.parametrize(
    "change", ["UPDATE ON commands", "UPDATE ON operations", "INSERT ON services", "INSERT ON steps", "DELETE ON steps"]
)
async def test_an_operation_waits_until_the_journal_can_be_written_again(agent: Agent, change: str) -> None:
    await prepare(agent)
    room_again = await refuse_writes(agent, change)
    await agent.deploy("r", "d2", **CHECKED)
    await asyncio.sleep(20)
    assert await agent.ends("r") == []
    assert agent.deployer.queues.is_busy(WEB)
    await room_again()
    await agent.done()
    assert await agent.outcome("r") == "running"
    assert sorted(agent.engine.up("web")) == ["d2", "d2"]


async def test_an_agent_that_stops_while_the_journal_is_full_parks_what_is_not_reported(machine: Machine) -> None:
    async with machine.running(drain_secs=3.0) as agent:
        await prepare(agent)
        room_again = await refuse_writes(agent, "UPDATE ON commands")
        await agent.deploy("r", "d2", **CHECKED)
        await asyncio.sleep(20)
        await agent.deployer.queues.drain(3.0)
        await room_again()
    async with machine.running() as agent:
        await agent.done()
        assert await agent.outcome("r") == "running"


async def test_a_superseded_operation_is_reported_when_the_journal_can_be_written_again(agent: Agent) -> None:
    await prepare(agent)
    async with agent.held_at("create", agent.deploy("r1", "d2", **CHECKED)):
        await agent.deploy("r2", "d3", **CHECKED)
        room_again = await refuse_writes(agent, "UPDATE ON commands")
        await agent.deploy("r3", "d4", **CHECKED)
        assert await agent.ends("r2") == []
        await room_again()
    outcomes = [await agent.outcome(request) for request in ("r1", "r2", "r3")]
    assert outcomes == ["SUPERSEDED", "SUPERSEDED", "running"]
    assert sorted(agent.engine.up("web")) == ["d4", "d4"]


async def test_a_command_that_cannot_be_kept_is_refused_and_may_be_sent_again(agent: Agent) -> None:
    room_again = await refuse_writes(agent, "INSERT ON commands")
    await agent.ask("deploy", "r1", **deploy_payload("d1"))
    await agent.ask("exec", "r2", service_id="web", command=["pwd"])
    assert [answer["error"]["code"] for answer in agent.local.responses()] == ["JOURNAL", "JOURNAL"]
    await room_again()
    await agent.ask("deploy", "r1", **deploy_payload("d1"))
    await agent.done()
    assert agent.local.heard[-1][1]["status"] == "running"


async def test_a_late_answer_that_cannot_be_kept_leaves_the_work_alone(agent: Agent) -> None:
    await agent.deployed("d1", env={"FAIL": "deaf"})
    await agent.send("stop", "r", service_id="web", timeout_seconds=60)
    await asyncio.sleep(10)
    room_again = await refuse_writes(agent, "UPDATE ON commands")
    await asyncio.sleep(20)
    await room_again()
    await agent.done()
    answer = await agent.answer("r")
    assert answer["data"]["completed"]
    found = await agent.journal.find(RequestId("r"))
    assert found is not None
    assert found.response == answer


# Commands that come while the last run's work is taken up


async def test_a_command_that_comes_while_work_is_taken_up_is_newer_than_all_of_it_and_runs_once(
    machine: Machine,
) -> None:
    async with machine.until_killed() as agent:
        await agent.reach("obtain_image", agent.deploy("r1", "d1"))
    machine.engine.holds.clear()
    async with opened(machine.directory) as journal, asyncio.TaskGroup() as group:
        agent = Agent(machine.directory, journal.journal, machine.engine, group)
        group.create_task(agent.deploy("r2", "d2"), name="an early command")
        group.create_task(agent.send("exec", "r3", service_id="web", command=["true"]), name="an early exec")
        await asyncio.sleep(0)
        await agent.deployer.resume()
        await asyncio.sleep(1.0)
        await agent.done()
        assert await agent.outcome("r1") == "SUPERSEDED"
        assert await agent.outcome("r2") == "running"
        assert [c.deployment.deployment_id for c in machine.engine.of("web")] == ["d2"]
        assert [answer["error"]["code"] for answer in await agent.responses("r3")] == ["CONTAINER_NOT_FOUND"]
        agent.events.cancel()


async def test_secrets_of_what_runs_are_known_before_anything_is_said_of_it(machine: Machine) -> None:
    async with machine.running() as agent:
        await agent.deployed("d1", env={"DB_PASSWORD": CANARY})
        await agent.deployed("d2", env={"DB_PASSWORD": f"{CANARY}-2"})
    async with machine.running() as agent:
        # The keeper makes it again without a command that would bring them.
        assert agent.redactor.clean(f"{CANARY}-2") == "[redacted]"
        await agent.send("rollback", "b1", service_id="web")
        assert agent.redactor.clean(f"invalid: {CANARY}.") == "invalid: [redacted]."
        await agent.done()
