"""Alerts: each once per episode and once more at its end, whatever happens to the agent, the engine or the journal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.alerts.disks import DiskWatch, Usage
from syntra.agent.alerts.ledger import AlertLedger
from syntra.agent.alerts.watch import TAIL_LINES, AlertWatch
from syntra.health.episodes import CALM_SECS, HOLD_SECS, Crash, Severity, Subject
from syntra.health.restore_failures import RestoreFailure
from syntra.model.container import ContainerState
from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.status import Health, LogLine
from syntra.runtime.errors import RuntimeUnavailable
from tests.agent.agent_rig import Agent, Machine
from tests.agent.fake_engine import FakeContainer
from tests.agent.fake_readiness import FakeReadiness
from tests.agent.samples import CANARY

pytestmark = pytest.mark.virtual_time

CHECKED = {"health_check": {"type": "exec", "command": ["wget"], "interval_seconds": 1}, "replicas": 2}


@asynccontextmanager
async def watching(
    agent: Agent,
    told: FakeReadiness | None = None,
    *,
    restore_failures: Callable[[], Sequence[RestoreFailure]] = lambda: (),
) -> AsyncIterator[AlertWatch]:
    async with asyncio.TaskGroup() as group:
        queues = agent.deployer.queues
        watch = AlertWatch(
            agent.ledger,
            agent.journal,
            agent.runtime,
            told or healthy(),
            agent.changes,
            is_busy=queues.is_busy,
            clean=agent.redactor.clean,
            restore_failures=restore_failures,
        )
        task = group.create_task(watch.run(), name="alerts")
        await quiet()
        yield watch
        task.cancel()


def healthy() -> FakeReadiness:
    return FakeReadiness(otherwise=Health.HEALTHY)


async def quiet() -> None:
    await asyncio.sleep(0.1)


async def alerts_of(agent: Agent) -> list[dict[str, Any]]:
    messages = [json.loads(item.text) for item in await agent.journal.outbox.pending(10_000)]
    return [message["payload"] for message in messages if message["type"] == "alert"]


async def told_of(agent: Agent) -> list[tuple[str, bool]]:
    return [(alert["type"], alert["metadata"].get("recovered", False)) for alert in await alerts_of(agent)]


async def crashed(agent: Agent, container: FakeContainer, exit_code: int = 7) -> None:
    """A container ends by itself and is restarted by the engine's policy."""
    agent.engine.ended_alone(container, exit_code)
    container.restart_count += 1
    await quiet()


async def test_a_crash_is_told_with_its_code_and_last_lines_and_its_end_after_calm(agent: Agent) -> None:
    await agent.deployed("d1")
    [container] = agent.engine.of("web")
    container.lines += [LogLine(timestamp="", stream="stderr", message=f"line {n}") for n in range(30)]
    async with watching(agent):
        for _ in range(3):
            await crashed(agent, container)
        [alert] = await alerts_of(agent)
        assert (alert["type"], alert["severity"], alert["service_id"]) == ("container_crash", "critical", "web")
        assert alert["title"] == "web replica 1 crashed"
        assert alert["metadata"]["exit_code"] == 7
        assert alert["metadata"]["last_lines"] == [f"line {n}" for n in range(30 - TAIL_LINES, 30)]
        await asyncio.sleep(CALM_SECS - 10)
        assert len(await alerts_of(agent)) == 1
        await asyncio.sleep(20)
        [_, end] = await alerts_of(agent)
        assert end["metadata"]["recovered"] is True
        assert (end["metadata"]["times"], end["severity"], end["title"]) == (3, "critical", "web replica 1 runs again")
        assert agent.ledger.shown() == []


async def test_a_stop_by_another_hand_is_a_warning_that_says_so(agent: Agent) -> None:
    await agent.deployed("d1")
    async with watching(agent):
        agent.engine.ended_alone(agent.engine.of("web")[0], 137, signal="SIGKILL")
        await quiet()
        [alert] = await alerts_of(agent)
        assert (alert["severity"], alert["title"]) == ("warning", "web replica 1 was stopped outside the agent")
        assert (alert["metadata"]["exit_code"], alert["metadata"]["signal"]) == (137, "SIGKILL")


async def test_want_of_memory_is_named(agent: Agent) -> None:
    await agent.deployed("d1")
    async with watching(agent):
        agent.engine.ended_alone(agent.engine.of("web")[0], 137, oom_killed=True)
        await quiet()
        [alert] = await alerts_of(agent)
        assert alert["title"] == "web replica 1 ran out of memory"
        assert alert["metadata"]["oom_killed"] is True


async def test_what_was_asked_for_and_what_a_deployment_fails_by_is_no_crash(agent: Agent) -> None:
    await agent.deployed("d1")
    async with watching(agent):
        await agent.carry_out("restart", "r1")
        await agent.deployed("d2", image="shop/web:2")
        await agent.deploy_to_end("r3", "d3", env={"FAIL": "exit"})
        await agent.carry_out("stop", "s1")
        await quiet()
        assert {kind for kind, _ in await told_of(agent)} == {"deployment_failed"}


async def test_health_that_turns_is_told_and_its_end_once_it_holds(agent: Agent) -> None:
    told = healthy()
    await agent.deployed("d1", config=CHECKED)
    sick, other = agent.engine.of("web")
    async with watching(agent, told):
        for _ in range(3):  # it flaps
            told.health[sick.container_id] = Health.UNHEALTHY
            agent.changes.announce()
            await quiet()
            told.health.clear()
            agent.changes.announce()
            await quiet()
        [alert] = await alerts_of(agent)
        assert (alert["type"], alert["severity"], alert["message"]) == (
            *("health_check_failed", "warning"),
            "status 500",
        )
        assert alert["metadata"]["serving"] == 1
        await asyncio.sleep(HOLD_SECS + 1)
        assert await told_of(agent) == [("health_check_failed", False), ("health_check_failed", True)]
        told.health.update({c.container_id: Health.UNHEALTHY for c in (sick, other)})
        agent.changes.announce()
        await quiet()
        assert [alert["severity"] for alert in (await alerts_of(agent))[2:]] == ["critical", "critical"]


async def test_an_alert_does_not_outlive_what_it_is_about(agent: Agent) -> None:
    told = healthy()
    await agent.deployed("d1", config=CHECKED)
    await agent.deployed("d1", "other", config=CHECKED)
    told.otherwise = Health.UNHEALTHY
    async with watching(agent, told):
        assert len(agent.ledger.shown()) == 4
        await agent.carry_out("scale", "s1", replicas=1)
        await agent.carry_out("stop", "s2", service_id="other")
        await quiet()
        assert [episode.subject.key for episode in agent.ledger.opened] == ["web/1"]
        await agent.carry_out("stop", "s3", remove_container=True)
        await quiet()
        assert agent.ledger.shown() == []
        recovered = [alert["message"] for alert in await alerts_of(agent) if "recovered" in alert["metadata"]]
        *earlier, last = recovered
        assert sorted(earlier) == ["the service has no such replica any more", *["the service was stopped"] * 2]
        # A removal begins with the stop; which of the two is seen is a matter of the moment.
        assert last in {"the service was stopped", "the service was removed"}


async def test_a_failed_deployment_is_told_once_and_over_with_the_next_that_succeeds(agent: Agent) -> None:
    for number in (1, 2):
        await agent.deploy_to_end(f"r{number}", "d1", image="shop/web:none")
    assert await told_of(agent) == [("deployment_failed", False)]
    [alert] = await alerts_of(agent)
    assert alert["title"] == "deploy of web failed"
    assert alert["metadata"] == {"deployment_id": "d1", "code": "PULL_FAILED", "request_id": "r1"}
    await agent.deployed("d2")
    assert await told_of(agent) == [("deployment_failed", False), ("deployment_failed", True)]


async def test_an_agent_that_starts_again_repeats_nothing_and_tells_the_end(machine: Machine) -> None:
    told = healthy()
    async with machine.until_killed() as agent:
        await agent.deployed("d1", config=CHECKED)
        [sick, _] = machine.engine.of("web")
        told.health[sick.container_id] = Health.UNHEALTHY
        async with watching(agent, told):
            await crashed(agent, sick)
        before = agent.ledger.opened
        assert len(before) == 2
    async with machine.running() as agent:
        assert {(e.kind, e.subject, e.began, e.times) for e in agent.ledger.opened} == {
            (e.kind, e.subject, e.began, e.times) for e in before
        }
        async with watching(agent, told):
            await asyncio.sleep(60)
            assert len(await told_of(agent)) == 2
            told.health.clear()
            await asyncio.sleep(CALM_SECS + 60)
            ends = [kind for kind, is_end in await told_of(agent) if is_end]
            assert ends == ["health_check_failed", "container_crash"]


async def test_ends_that_the_engine_did_not_tell_are_found_by_looking(agent: Agent) -> None:
    await agent.deployed("d1", config={"replicas": 2})
    looped, down = agent.engine.of("web")
    async with watching(agent):
        looped.restart_count += 2
        agent.engine._announce()
        await quiet()
        assert await alerts_of(agent) == [], "while every end is told, a count is no news"
        looped.restart_count += 1
        down.state, down.exit_code = ContainerState.EXITED, 9
        agent.engine.tells_ends = False
        agent.engine._announce()
        await quiet()
        assert sorted(alert["title"] for alert in await alerts_of(agent)) == [
            "web replica 1 crashed",
            "web replica 2 crashed",
        ]


async def test_what_an_engine_stops_that_goes_down_is_not_told_but_what_crashed_before_is(agent: Agent) -> None:
    await agent.deployed("d1", config={"replicas": 2})
    crashes, stops = agent.engine.of("web")
    async with watching(agent):
        agent.engine.away = True
        agent.engine.ended_alone(crashes, 3)
        agent.engine.ended_alone(stops, 0, signal="SIGTERM")
        await asyncio.sleep(40)
        assert await alerts_of(agent) == []
        agent.engine.away = False
        stops.state = ContainerState.RUNNING
        agent.engine._announce()
        await quiet()
        assert [alert["title"] for alert in await alerts_of(agent)] == ["web replica 1 crashed"]


async def test_what_could_not_be_written_has_not_been_announced(agent: Agent) -> None:
    subject = Subject(key="web", name="web", service_id=ServiceId("web"))
    with pytest.raises(RuntimeUnavailable):
        async with agent.ledger.changing() as draft:
            draft.announce(draft.episodes.deployment_failed(draft.now, subject, DeploymentId("d1"), "no"))
            raise RuntimeUnavailable("the disk is full")
    assert agent.ledger.opened == ()
    await agent.ledger.record(lambda episodes, now: episodes.deployment_failed(now, subject, DeploymentId("d1"), "no"))
    assert await told_of(agent) == [("deployment_failed", False)]


async def test_open_alerts_are_shown_in_the_status(agent: Agent) -> None:
    await agent.deploy_to_end("r1", "d1", image="shop/web:none")
    await agent.ask("status", "q1")
    await quiet()
    [shown] = agent.local.responses()[0]["data"]["alerts"]
    assert (shown["type"], shown["subject"], shown["times"], shown["severity"]) == (
        *("deployment_failed", "web", 1),
        "warning",
    )


async def test_a_disk_is_told_of_as_it_fills_and_when_it_has_room_again(agent: Agent, tmp_path: Path) -> None:
    used = 50.0
    disks = DiskWatch(agent.ledger, agent.engine, tmp_path, usage=lambda _: Usage(device=1, percent=used))
    for percent in (84.9, 85.0, 90.0, 95.1, 96.0, 84.0, 82.9):
        used = percent
        await disks.check()
    told = [(alert["severity"], alert["metadata"].get("recovered", False)) for alert in await alerts_of(agent)]
    assert told == [("warning", False), ("critical", False), ("critical", True)]
    assert (await alerts_of(agent))[0]["metadata"]["resource"] == f"disk:{tmp_path}", "one file system, told of once"


async def test_two_file_systems_are_told_apart_and_one_that_cannot_be_asked_says_nothing(
    agent: Agent, tmp_path: Path
) -> None:
    def usage(path: Path) -> Usage:
        if path == tmp_path:
            raise OSError("stale")
        return Usage(device=2, percent=99.0)

    disks = DiskWatch(agent.ledger, agent.engine, tmp_path, usage=usage)
    agent.engine.away = True
    await disks.check()
    assert await alerts_of(agent) == []
    agent.engine.away = False
    await disks.check()
    assert [episode.severity for episode in agent.ledger.opened] == [Severity.CRITICAL]
    assert [episode.subject.key for episode in agent.ledger.opened] == ["disk:/"]


async def test_a_clock_that_is_set_back_keeps_no_alert_open(machine: Machine) -> None:
    wall = 1_000_000.0 + 7200.0
    async with machine.until_killed() as agent:
        ledger = AlertLedger(agent.journal, agent.reports, lambda: wall)
        subject = Subject(key="web/1", name="web replica 1", service_id=ServiceId("web"))
        crash = Crash(exit_code=1, oom_killed=False)
        await ledger.record(lambda episodes, now: [*episodes.crash(now, subject, crash), *episodes.up(now, subject)])
        wall -= 7200.0
        await ledger.record(lambda episodes, now: episodes.tick(now))
        wall += CALM_SECS - 1
        await ledger.record(lambda episodes, now: episodes.tick(now))
        assert ledger.opened
        # Nor when the agent starts again meanwhile.
        again = AlertLedger(agent.journal, agent.reports, lambda: wall)
        await again.load()
        wall += 2
        await ledger.record(lambda episodes, now: episodes.tick(now))
        assert ledger.shown() == []
        await again.record(lambda episodes, now: episodes.tick(now))
        wall += CALM_SECS
        await again.record(lambda episodes, now: episodes.tick(now))
        assert again.opened == ()


async def test_a_disk_that_is_one_with_another_by_now_leaves_no_alert_open(agent: Agent, tmp_path: Path) -> None:
    device = 2
    percent: dict[Path, float] = {tmp_path: 50.0, Path("/"): 99.0}

    def usage(path: Path) -> Usage:
        if path == Path("/") and device == 0:
            raise OSError("stale")
        return Usage(device=1 if path == tmp_path else device, percent=percent[path])

    disks = DiskWatch(agent.ledger, agent.engine, tmp_path, usage=usage)
    await disks.check()
    device = 0
    await disks.check()
    assert agent.ledger.opened, "one that does not answer may still be full"
    device, percent[Path("/")] = 1, 50.0
    await disks.check()
    assert agent.ledger.shown() == []


async def test_a_restart_that_failed_is_over_with_one_that_succeeds(agent: Agent) -> None:
    await agent.deployed("d1")
    agent.engine.refuse("restart", "RESTART_FAILED", times=5)
    await agent.carry_out("restart", "r1")
    assert await told_of(agent) == [("deployment_failed", False)]
    agent.engine.refusals.clear()
    await agent.carry_out("restart", "r2")
    assert [response["success"] for response in await agent.responses("r2")] == [True]
    assert await told_of(agent) == [("deployment_failed", False), ("deployment_failed", True)]
    assert (await alerts_of(agent))[1]["message"] == "a later restart succeeded"
    # What failed with another deployment is not made good by it.
    await agent.deploy_to_end("r3", "d2", image="shop/web:none")
    await agent.carry_out("restart", "r4")
    assert len(await told_of(agent)) == 3


async def test_a_first_deployment_that_failed_is_over_when_the_service_is_to_be_stopped(agent: Agent) -> None:
    await agent.deploy_to_end("r1", "d1", image="shop/web:none")
    assert await told_of(agent) == [("deployment_failed", False)]
    await agent.carry_out("stop", "s1", remove_container=True)
    [response] = await agent.responses("s1")
    assert response["success"]
    assert await told_of(agent) == [("deployment_failed", False), ("deployment_failed", True)]
    await agent.send("stop", "s2", service_id="web", remove_container=True)
    [response] = await agent.responses("s2")
    assert response["error"]["code"] == "SERVICE_NOT_FOUND"


async def test_a_stop_without_removal_leaves_what_failed_and_its_alert(agent: Agent) -> None:
    await agent.deploy_to_end("r1", "d1", env={"FAIL": "exit"})
    await agent.send("stop", "s1", service_id="web")
    [response] = await agent.responses("s1")
    assert response["error"]["code"] == "CONTAINER_NOT_RUNNING"
    assert "remove it (stop --remove)" in response["error"]["message"]
    assert len(agent.engine.kept) == 1
    assert await told_of(agent) == [("deployment_failed", False)]


async def test_the_last_lines_of_a_crash_hold_no_secret_that_is_known(agent: Agent) -> None:
    await agent.deployed("d1", env={"DB_PASSWORD": CANARY})
    [container] = agent.engine.of("web")
    container.say(f"cannot connect: {CANARY} is refused")
    container.say("cannot connect to postgres://shop:pa55@db/shop")
    async with watching(agent):
        await crashed(agent, container)
        [alert] = await alerts_of(agent)
        assert alert["metadata"]["last_lines"][-2:] == [
            "cannot connect: [redacted] is refused",
            "cannot connect to postgres://[redacted]@db/shop",
        ]
