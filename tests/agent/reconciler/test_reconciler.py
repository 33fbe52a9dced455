"""The reconciler: what is gone or down comes back, unhealthy replicas restart where asked, operations come first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from syntra.agent.reconciler.reconciler import ACTION_SECS, PULL_SECS, SERVICES_AT_ONCE, Reconciler
from syntra.agent.traffic.port import NoTraffic
from syntra.model.container import ContainerState
from syntra.model.health_change import HealthChange
from syntra.model.ids import ContainerId, RequestId, ServiceId
from syntra.model.status import Health
from tests.agent.agent_rig import Agent, Machine, running
from tests.agent.fake_engine import FakeContainer, FakeEngine
from tests.agent.fake_readiness import FakeReadiness
from tests.agent.virtual_time import now

pytestmark = pytest.mark.virtual_time

WEB = ServiceId("web")
CHECK: dict[str, object] = {"type": "exec", "command": ["wget"], "interval_seconds": 1}
RESTARTS = {"health_check": {**CHECK, "restart_unhealthy": True}, "replicas": 2}


@dataclass
class Told(NoTraffic, FakeReadiness):
    """Health and traffic as the test tells them. What is withdrawn serves again once it is healthy."""

    otherwise: Health = Health.HEALTHY
    serving: set[ContainerId] = field(default_factory=set)
    withdrawn: list[ContainerId] = field(default_factory=list)

    def is_serving(self, container_id: ContainerId) -> bool:
        return container_id in self.serving

    async def withdraw(self, service_id: ServiceId, containers: Sequence[ContainerId]) -> None:
        assert service_id == WEB
        self.withdrawn += containers
        self.serving -= {*containers}


@asynccontextmanager
async def reconciling(agent: Agent, told: Told) -> AsyncIterator[Reconciler]:
    async with asyncio.TaskGroup() as group:
        reconciler = Reconciler(
            agent.engine,
            agent.journal,
            told,
            agent.deployer.queues,
            agent.changes,
            readiness=told,
            drain_secs=1.0,
            clock=asyncio.get_running_loop().time,
        )
        task = group.create_task(reconciler.run(), name="reconciler")
        yield reconciler
        task.cancel()


def gone(agent: Agent, container: FakeContainer) -> None:
    """What `docker rm -f` leaves."""
    del agent.engine.containers[container.container_id]
    agent.engine._announce()


def stopped(agent: Agent, container: FakeContainer) -> None:
    """What `docker stop` leaves."""
    container.state, container.exit_code, container.ends_at = ContainerState.EXITED, 137, None
    agent.engine._announce()


async def until_up(agent: Agent, count: int, at_most_secs: float = 10.0) -> None:
    async with asyncio.timeout(at_most_secs):
        while len(agent.engine.up("web")) != count:
            await asyncio.sleep(0.1)


async def test_a_replica_that_was_removed_by_another_hand_comes_back(agent: Agent) -> None:
    await agent.deployed("d1", config={"replicas": 2})
    async with reconciling(agent, Told()):
        agent.engine.networks_made.clear()
        gone(agent, agent.engine.of("web")[0])
        begun = now()
        await until_up(agent, 2)
        assert 1.0 <= now() - begun < 2.0
        assert sorted(c.index for c in agent.engine.of("web")) == [1, 2]
        assert agent.engine.networks_made == {"shop"}


async def test_a_replica_that_was_stopped_by_another_hand_is_started_again(agent: Agent) -> None:
    await agent.deployed("d1")
    [container] = agent.engine.of("web")
    async with reconciling(agent, Told()):
        stopped(agent, container)
        await until_up(agent, 1)
    assert agent.engine.of("web") == [container]


async def test_an_image_that_is_gone_is_pulled_again_without_credentials(agent: Agent) -> None:
    await agent.deployed("d1")
    async with reconciling(agent, Told()):
        agent.engine.pins.clear()
        agent.engine.images.clear()
        agent.engine.pull_secs = PULL_SECS / 2
        gone(agent, agent.engine.of("web")[0])
        await asyncio.sleep(10)
        assert not agent.deployer.queues.is_busy(WEB), "a pull holds nobody up"
        await until_up(agent, 1, PULL_SECS)
        assert agent.engine.passwords_seen == []


async def test_what_was_stopped_by_command_stays_down_and_what_was_removed_stays_away(agent: Agent) -> None:
    await agent.deployed("d1")
    async with reconciling(agent, Told()):
        await agent.carry_out("stop", "s1")
        await asyncio.sleep(120)
        assert [c.state for c in agent.engine.of("web")] == [ContainerState.EXITED]
        await agent.carry_out("stop", "s2", remove_container=True)
        await asyncio.sleep(120)
        assert agent.engine.of("web") == []


async def test_a_look_that_fails_decides_nothing(agent: Agent) -> None:
    await agent.deployed("d1")
    async with reconciling(agent, Told()):
        agent.engine.forget_the_past()
        agent.engine.refuse("observe", "ENGINE_ERROR", times=1000)
        agent.engine._announce()
        await asyncio.sleep(300)
        assert set(agent.engine.calls) == {"observe"}
        assert len(agent.engine.of("web")) == 1


async def test_an_engine_that_goes_down_is_not_worked_against(agent: Agent) -> None:
    await agent.deployed("d1")
    async with reconciling(agent, Told()):
        agent.engine.forget_the_past()
        agent.engine.away_from = {"ping"}
        stopped(agent, agent.engine.of("web")[0])
        await asyncio.sleep(20)
        assert "start" not in agent.engine.calls
        agent.engine.away_from = set()
        await until_up(agent, 1, 60)


async def test_what_fails_again_and_again_is_tried_less_and_less_often(agent: Agent) -> None:
    await agent.deployed("d1")
    async with reconciling(agent, Told()):
        agent.engine.forget_the_past()
        agent.engine.refuse("start", "START_FAILED", times=1000)
        stopped(agent, agent.engine.of("web")[0])
        await asyncio.sleep(600)
        assert 7 <= agent.engine.calls.count("start") <= 10


async def test_an_unhealthy_replica_is_withdrawn_and_restarted_where_the_spec_asks_for_it(agent: Agent) -> None:
    await agent.deployed("d1", config=RESTARTS)
    sick, well = agent.engine.of("web")
    told = Told(serving={sick.container_id, well.container_id})
    async with reconciling(agent, told):
        before = sick.started_ns
        told.health[sick.container_id] = Health.UNHEALTHY
        agent.changes.announce()
        await asyncio.sleep(2)
        assert told.withdrawn == [sick.container_id]
        assert (sick.started_ns or 0) > (before or 0)
        assert agent.engine.least_up[WEB] == 1, "one at a time"


async def test_an_unhealthy_replica_is_left_alone_where_the_spec_does_not_ask(agent: Agent) -> None:
    await agent.deployed("d1", config={"health_check": CHECK})
    told = Told()
    told.health[agent.engine.of("web")[0].container_id] = Health.UNHEALTHY
    async with reconciling(agent, told):
        await asyncio.sleep(300)
        assert "restart" not in agent.engine.calls


async def test_the_last_replica_that_serves_is_never_restarted(agent: Agent) -> None:
    await agent.deployed("d1", config=RESTARTS)
    first, second = agent.engine.of("web")
    told = Told(serving={first.container_id})
    told.health.update({c.container_id: Health.UNHEALTHY for c in (first, second)})
    async with reconciling(agent, told):
        await asyncio.sleep(600)
        assert set(told.withdrawn) == {second.container_id}
        assert agent.engine.calls.count("restart") > 1


async def test_a_live_change_of_the_check_decides_whether_the_unhealthy_is_restarted(agent: Agent) -> None:
    await agent.deployed("d1", config={"health_check": CHECK})
    told = Told()
    told.health[agent.engine.of("web")[0].container_id] = Health.UNHEALTHY
    await agent.journal.health_changes.put(
        WEB,
        HealthChange(restart_unhealthy=True),
        request_id=RequestId("c1"),
        kind="configure_health_check",
        origin="local",
        response={},
        messages=[],
    )
    async with reconciling(agent, told):
        await asyncio.sleep(5)
        assert "restart" in agent.engine.calls


async def test_an_operation_that_arrives_waits_for_the_action_and_no_longer_than_its_deadline(agent: Agent) -> None:
    await agent.deployed("d1")
    hold = agent.engine.hold("start")
    async with reconciling(agent, Told()):
        stopped(agent, agent.engine.of("web")[0])
        await hold.arrived.wait()
        del agent.engine.holds["start"]
        assert agent.deployer.queues.is_busy(WEB)
        begun = now()
        await agent.deploy_to_end("r2", "d2")
        assert now() - begun >= ACTION_SECS - 1
        assert await agent.outcome("r2") == "running"
        assert agent.engine.up("web") == ["d2"]


async def test_a_service_with_an_operation_under_way_is_left_to_it(agent: Agent) -> None:
    await agent.deployed("d1")
    async with reconciling(agent, Told()):
        async with agent.held_at("obtain_image", agent.deploy("r2", "d2", image="shop/web:2")):
            gone(agent, agent.engine.of("web")[0])
            await asyncio.sleep(20)
            assert agent.engine.of("web") == []
        assert agent.engine.up("web") == ["d2"]


async def test_a_shutdown_ends_an_action_that_hangs(tmp_path: Path) -> None:
    async with running(tmp_path, FakeEngine(), drain_secs=2.0) as agent:
        await agent.deployed("d1")
        hold = agent.engine.hold("start")
        async with reconciling(agent, Told()):
            stopped(agent, agent.engine.of("web")[0])
            await hold.arrived.wait()
            begun = now()
            await agent.deployer.queues.drain(2.0)
            assert now() - begun < 5.0
            assert not agent.deployer.queues.is_busy(WEB)


async def test_services_are_kept_side_by_side_but_not_all_at_once(agent: Agent) -> None:
    services = [f"web{number}" for number in range(SERVICES_AT_ONCE + 2)]
    for service in services:
        await agent.deployed("d1", service)
    hold = agent.engine.hold("start")
    agent.engine.forget_the_past()
    async with reconciling(agent, Told()):
        for service in services:
            stopped(agent, agent.engine.of(service)[0])
        await asyncio.sleep(10)
        assert agent.engine.calls.count("start") == SERVICES_AT_ONCE
        hold.release.set()
        await asyncio.sleep(10)
        assert all(agent.engine.up(service) == ["d1"] for service in services)


async def test_an_agent_that_ended_between_create_and_start_goes_on_with_the_start(machine: Machine) -> None:
    async with machine.running() as agent:
        await agent.deployed("d1")
        async with reconciling(agent, Told()):
            hold = agent.engine.hold("start")
            gone(agent, agent.engine.of("web")[0])
            await hold.arrived.wait()
        [created] = agent.engine.of("web")
        assert created.state is ContainerState.CREATED
    async with machine.running() as again, reconciling(again, Told()):
        await until_up(again, 1)
        assert again.engine.of("web") == [created]


@pytest.mark.parametrize("became", ["healthy", "the last that serves"])
async def test_a_replica_that_changed_while_its_restart_waited_is_left_alone(agent: Agent, became: str) -> None:
    await agent.deployed("d1", config=RESTARTS)
    sick, well = agent.engine.of("web")
    told = Told(serving={sick.container_id, well.container_id})
    async with reconciling(agent, told):
        agent.engine.forget_the_past()
        hold = agent.engine.hold("ping")
        told.health[sick.container_id] = Health.UNHEALTHY
        agent.changes.announce()
        await hold.arrived.wait()
        if became == "healthy":
            told.health.clear()
        else:
            told.serving.discard(well.container_id)
        agent.engine.holds.clear()
        hold.release.set()
        await asyncio.sleep(10)
        assert "restart" not in agent.engine.calls
        assert told.withdrawn == []


async def test_a_service_that_was_made_smaller_while_an_image_came_gets_no_replica_too_many(agent: Agent) -> None:
    await agent.deployed("d1", config={"replicas": 2})
    async with reconciling(agent, Told()):
        agent.engine.pins.clear()
        hold = agent.engine.hold("obtain_image")
        gone(agent, agent.engine.of("web")[1])
        await hold.arrived.wait()
        await agent.carry_out("scale", "s1", replicas=1)
        agent.engine.holds.clear()
        hold.release.set()
        await asyncio.sleep(60)
        assert agent.engine.up("web") == ["d1"]


async def test_what_another_deployment_has_replaced_meanwhile_is_not_started(agent: Agent) -> None:
    await agent.deployed("d1")
    [old] = agent.engine.of("web")
    async with reconciling(agent, Told()):
        hold = agent.engine.hold("ping")
        stopped(agent, old)
        await hold.arrived.wait()
        del agent.engine.holds["ping"]
        # Its removal fails, so it stays behind: the sweeper's matter.
        agent.engine.refuse("remove", "REMOVE_FAILED", times=20)
        await agent.deploy_to_end("r2", "d2")
        assert await agent.outcome("r2") == "running"
        assert old in agent.engine.of("web")
        hold.release.set()
        await asyncio.sleep(60)
        assert agent.engine.up("web") == ["d2"]


async def test_pulls_that_stand_still_hold_up_no_other_service(agent: Agent) -> None:
    services = [f"web{number}" for number in range(SERVICES_AT_ONCE)]
    for service in services:
        await agent.deployed("d1", service)
    await agent.deployed("d1")
    async with reconciling(agent, Told()):
        agent.engine.pins.clear()
        agent.engine.hold("obtain_image")
        for service in services:
            gone(agent, agent.engine.of(service)[0])
        await asyncio.sleep(10)
        assert agent.engine.calls.count("obtain_image") >= SERVICES_AT_ONCE
        stopped(agent, agent.engine.of("web")[0])
        await until_up(agent, 1)


async def test_a_replica_that_is_paused_is_left_alone_and_keeps_no_other_from_its_restart(agent: Agent) -> None:
    await agent.deployed("d1", config={**RESTARTS, "replicas": 3})
    paused, sick, well = agent.engine.of("web")
    told = Told(serving={well.container_id})
    paused.state = ContainerState.PAUSED
    told.health[sick.container_id] = Health.UNHEALTHY
    async with reconciling(agent, told):
        await asyncio.sleep(3)
        assert told.withdrawn == [sick.container_id]


async def test_a_paused_service_is_left_alone_until_it_is_resumed(agent: Agent) -> None:
    await agent.deployed("d1", config={"replicas": 2})
    await agent.send("pause", "p1", service_id="web", reason="disk is moved", requested_by="maria")
    async with reconciling(agent, Told()):
        gone(agent, agent.engine.of("web")[0])
        await asyncio.sleep(300)
        assert len(agent.engine.up("web")) == 1
        await agent.send("resume", "r1", service_id="web")
        await until_up(agent, 2)
    told = [(event.kind, event.text) for event in await agent.journal.events.after(0, limit=100)]
    assert ("pause", "paused by maria: disk is moved") in told and ("resume", "resumed") in told


async def test_a_pause_that_comes_after_the_decision_counts(agent: Agent) -> None:
    await agent.deployed("d1", config={"replicas": 2})
    async with reconciling(agent, Told()):
        hold = agent.engine.hold("ping")
        gone(agent, agent.engine.of("web")[0])
        await hold.arrived.wait()
        await agent.send("pause", "p1", service_id="web")
        hold.release.set()
        await asyncio.sleep(120)
        assert len(agent.engine.up("web")) == 1
