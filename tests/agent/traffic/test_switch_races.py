"""Routes while several things happen at once: what an earlier look knew must not undo what a deploy has done since."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from syntra.agent.changes import Changes
from syntra.agent.traffic.switch import TrafficSettings, TrafficSwitch
from syntra.model.container import ContainerState
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.spec import Deployment
from syntra.model.status import Health
from syntra.runtime.errors import StepFailed
from tests.agent.fake_engine import Hold
from tests.agent.fake_readiness import FakeReadiness
from tests.agent.journal.samples import committed
from tests.agent.traffic.rig import Rig, SeenNames, Unseen, deployed, routed


def next_of(of: Deployment) -> Deployment:
    spec = dataclasses.replace(of.spec, domains=("next.example.com",), port=9090)
    return dataclasses.replace(of, deployment_id=DeploymentId("d-next"), spec=spec)


async def committed_during_a_look(rig: Rig, request_id: str, of: Deployment) -> None:
    hold = rig.adapter.hold("observe")
    async with asyncio.TaskGroup() as group:
        group.create_task(rig.traffic.reconcile())
        await hold.arrived.wait()
        await committed(rig.journal, request_id, of)
        rig.busy = set()
        hold.release.set()


async def test_a_deployment_that_is_committed_during_a_look_keeps_its_routes(rig: Rig, of: Deployment) -> None:
    [one] = await deployed(rig, of, 1)
    await rig.traffic.publish(of.spec, [one])
    after = next_of(of)
    await rig.adapter.obtain_image(after, None, lambda *_: None)
    two = await rig.replica(after, 1)
    rig.busy = {of.spec.service_id}
    await rig.traffic.publish(after.spec, [two])
    await committed_during_a_look(rig, "r2", after)
    assert rig.domains() == ["next.example.com"]


async def test_a_first_deployment_that_is_committed_during_a_look_keeps_its_routes(rig: Rig, of: Deployment) -> None:
    await rig.adapter.obtain_image(of, None, lambda *_: None)
    await rig.traffic.start()
    one = await rig.replica(of, 1)
    rig.busy = {of.spec.service_id}
    await rig.traffic.publish(of.spec, [one])
    await committed_during_a_look(rig, "r1", of)
    assert rig.servers() == ["http://172.30.0.2:8080"]


async def test_names_are_known_whoever_is_the_first_to_ask_what_is_published(
    rig: Rig, of: Deployment, tmp_path: Path
) -> None:
    [one] = await deployed(rig, of, 1)
    await rig.traffic.publish(of.spec, [one])
    names = SeenNames()
    traffic = TrafficSwitch(
        TrafficSettings(drain_secs=1, state_dir=tmp_path),
        engine=rig.adapter,
        changes=Changes(),
        journal=rig.journal.journal,
        is_busy=lambda _: False,
        readiness=FakeReadiness(),
        names=names,
    )
    await traffic.table()
    await traffic.reconcile()
    assert [named.ready for named in names.shown or ()] == [((1, "172.30.0.2"),)]


async def test_a_replica_that_ends_while_its_publication_waits_is_not_published_for_long(
    rig: Rig, of: Deployment
) -> None:
    one, two = await deployed(rig, of, 2)
    await rig.traffic.publish(of.spec, [one])
    rig.busy = {of.spec.service_id}
    rig.adapter.holds["observe"] = hold = Hold()
    async with asyncio.TaskGroup() as group:
        # Has the switch to itself, as while a slow proxy is waited for.
        group.create_task(rig.traffic.reconcile())
        await hold.arrived.wait()
        late = group.create_task(_outcome(rig.traffic, of, two))
        for _ in range(20):
            await asyncio.sleep(0)
        await rig.adapter.stop(two, 0)
        hold.release.set()
    assert "right after its start" in late.result()
    assert not rig.traffic.is_serving(two)


async def _outcome(traffic: TrafficSwitch, of: Deployment, container_id: ContainerId) -> str:
    try:
        await traffic.publish(of.spec, [container_id])
    except StepFailed as failed:
        return str(failed)
    return ""


@pytest.mark.virtual_time
async def test_a_replica_without_a_health_check_returns_as_soon_as_it_has_stayed_up(rig: Rig, of: Deployment) -> None:
    of = dataclasses.replace(of, spec=dataclasses.replace(of.spec, health=None))
    [one] = await deployed(rig, of, 1)
    await rig.traffic.publish(of.spec, [one])
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(rig.traffic.run())
        await asyncio.sleep(1)
        await rig.adapter.stop(one, 0)
        await asyncio.sleep(1)
        assert rig.servers() == []
        await rig.adapter.start(one)
        up_at = loop.time()
        group_ready = loop.call_later(1, lambda: rig.readiness.health.update({one: Health.HEALTHY}))
        while not rig.servers():
            await asyncio.sleep(0.1)
        took = loop.time() - up_at
        running.cancel()
        group_ready.cancel()
    assert took < 3
    assert rig.adapter.containers[one].state is ContainerState.RUNNING


def other_than(of: Deployment, number: int) -> Deployment:
    spec = dataclasses.replace(
        of.spec, service_id=ServiceId(f"svc{number}"), domains=(f"web{number}.example.com",), health=None
    )
    return dataclasses.replace(of, deployment_id=DeploymentId(f"d{number}"), spec=spec)


async def many(rig: Rig, count: int) -> list[tuple[Deployment, ContainerId]]:
    found = []
    for number in range(count):
        of = other_than(routed(), number)
        await rig.adapter.obtain_image(of, None, lambda *_: None)
        found.append((of, await rig.replica(of, 1)))
    return found


@pytest.mark.virtual_time
async def test_services_that_change_at_once_wait_for_a_slow_proxy_together(rig: Rig) -> None:
    traffic, services = rig.slow(3), await many(rig, 8)
    begun = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        for of, container_id in services:
            group.create_task(traffic.publish(of.spec, [container_id]))
        await asyncio.sleep(1)
        # A command that comes meanwhile is answered, and not by the proxy's leave.
        await traffic.check(other_than(routed(), 9))
        assert asyncio.get_running_loop().time() - begun < 2
    assert asyncio.get_running_loop().time() - begun < 8
    assert len(rig.servers()) == 8
    async with asyncio.TaskGroup() as group:
        for of, container_id in services[:4]:
            group.create_task(traffic.withdraw(of.spec.service_id, [container_id]))
        group.create_task(traffic.forget(services[4][0].spec.service_id))
    assert len(rig.servers()) == 3


@pytest.mark.virtual_time
async def test_what_fails_or_is_cut_off_leaves_the_others_their_change(rig: Rig) -> None:
    traffic, services = rig.slow(3), await many(rig, 5)
    await rig.adapter.stop(services[2][1], 0)
    async with asyncio.TaskGroup() as group:

        def publishing(number: int) -> asyncio.Task[str]:
            of, container_id = services[number]
            return group.create_task(_outcome(traffic, of, container_id))

        first = publishing(0)
        await asyncio.sleep(1)
        maker, ended, cut, last = (publishing(number) for number in (1, 2, 3, 4))
        await asyncio.sleep(1)
        cut.cancel()
        await asyncio.sleep(2)
        # It makes the change of all that waited, and is waiting for the proxy.
        assert first.done() and not last.done()
        maker.cancel()
    assert (maker.cancelled(), cut.cancelled(), last.result()) == (True, True, "")
    assert "right after its start" in ended.result()
    assert [traffic.is_serving(container_id) for _, container_id in services] == [True, True, False, False, True]


@pytest.mark.virtual_time
async def test_what_leaves_is_drained_by_what_it_was_deployed_with(rig: Rig, of: Deployment) -> None:
    rig.adapter = Unseen(registry=("nginx:1",))
    rig.traffic = traffic = rig.slow(0, drain_secs=60)
    [one] = await deployed(rig, of, 1)
    await traffic.publish(of.spec, [one])
    # The next deployment gives its domain up: what came through it is still open at the old replica.
    await traffic.publish(dataclasses.replace(of.spec, domains=(), port=None), [])
    for _ in range(2):
        begun = asyncio.get_running_loop().time()
        await traffic.withdraw(of.spec.service_id, [one])
        took = asyncio.get_running_loop().time() - begun
        assert 59 < took < 62, "also when it is asked for again, as after a kill"
