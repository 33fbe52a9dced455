"""Routes over a fake engine and a real file: what is published, what is said of a proxy that is not there."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from syntra.model.errors import RequestError
from syntra.model.ids import ServiceId
from syntra.model.spec import Deployment, ServiceSpec
from syntra.model.status import Health
from syntra.runtime.errors import RuntimeUnavailable, StepFailed
from tests.agent.traffic.rig import Rig, Stale, deployed


async def test_replicas_come_and_go_and_a_proxy_that_is_not_there_is_said(rig: Rig, of: Deployment) -> None:
    one, two = await deployed(rig, of, 2)
    await rig.traffic.publish(of.spec, [one, two])
    assert rig.servers() == ["http://172.30.0.2:8080", "http://172.30.0.3:8080"]
    assert "cannot be observed" in rig.traffic.problems[0]
    await rig.traffic.withdraw(of.spec.service_id, [one])
    assert rig.servers() == ["http://172.30.0.3:8080"]
    await rig.traffic.forget(of.spec.service_id)
    assert rig.servers() == []
    assert rig.traffic.problems == [], "who routes nothing needs no proxy"


async def test_a_replica_beside_a_held_canary_leaves_when_it_ends_and_returns_when_it_is_ready(
    rig: Rig, of: Deployment
) -> None:
    one, two = await deployed(rig, of, 2)
    await rig.traffic.publish(of.spec, [one, two])
    new = await rig.replica(of, 3)
    await rig.traffic.publish(of.spec, [new], share=10)
    rig.busy = {of.spec.service_id}
    rig.held = {of.spec.service_id}
    await rig.adapter.stop(one, 0)
    await rig.traffic.reconcile()
    assert rig.servers() == ["http://172.30.0.3:8080", "http://172.30.0.4:8080"]
    await rig.adapter.start(one)
    rig.readiness.health = {one: Health.HEALTHY}
    await rig.traffic.reconcile()
    assert rig.servers() == [f"http://172.30.0.{n}:8080" for n in (2, 3, 4)]
    assert rig.weights() == {"stable": 90, "canary": 10}


async def test_a_replica_that_ends_leaves_and_one_that_is_ready_again_returns(rig: Rig, of: Deployment) -> None:
    one, two = await deployed(rig, of, 2)
    await rig.traffic.publish(of.spec, [one, two])
    await rig.adapter.stop(one, 0)
    await rig.traffic.reconcile()
    assert rig.servers() == ["http://172.30.0.3:8080"]
    await rig.adapter.start(one)
    await rig.traffic.reconcile()
    assert rig.servers() == ["http://172.30.0.3:8080"], "running is not yet ready"
    rig.readiness.health = {one: Health.HEALTHY, two: Health.UNHEALTHY}
    rig.busy = {of.spec.service_id}
    await rig.traffic.reconcile()
    assert rig.servers() == ["http://172.30.0.3:8080"], "an operation decides for itself"
    rig.busy = set()
    await rig.traffic.reconcile()
    assert rig.servers() == ["http://172.30.0.2:8080"]
    rig.readiness.health = {one: Health.UNHEALTHY, two: Health.UNHEALTHY}
    await rig.traffic.reconcile()
    assert rig.servers() == ["http://172.30.0.2:8080"], "the last one stays"


async def test_an_agent_that_starts_again_goes_on_from_what_was_published(
    rig: Rig, of: Deployment, tmp_path: Path
) -> None:
    one, _two = await deployed(rig, of, 2)
    await rig.traffic.publish(of.spec, [one])
    rig.traffic = rig.again()
    await rig.traffic.start()
    assert rig.servers() == ["http://172.30.0.2:8080"], "the second was never published"
    (tmp_path / "published.json").unlink()
    rig.traffic = rig.again()
    await rig.traffic.start()
    assert rig.servers() == ["http://172.30.0.2:8080", "http://172.30.0.3:8080"]


async def test_a_domain_is_claimed_once_and_needs_a_port(rig: Rig, of: Deployment) -> None:
    await deployed(rig, of, 1)
    rig.traffic = rig.again()
    other: ServiceSpec = dataclasses.replace(of.spec, service_id=ServiceId("other"))

    def asking(**changes: Any) -> Deployment:
        return dataclasses.replace(of, spec=dataclasses.replace(other, **changes))

    with pytest.raises(RequestError, match=f"belongs to service {of.spec.service_id}"):
        await rig.traffic.check(asking())
    await rig.traffic.check(of)
    await rig.traffic.check(asking(domains=("other.example.com",)))
    with pytest.raises(RequestError, match=r"config\.port"):
        await rig.traffic.check(asking(domains=("other.example.com",), port=None))
    assert not rig.traffic.routes(dataclasses.replace(other, domains=()))


async def test_routes_of_before_survive_a_start_without_an_engine(rig: Rig, of: Deployment) -> None:
    one, two = await deployed(rig, of, 2)
    await rig.traffic.publish(of.spec, [one])
    rig.traffic = rig.again()
    rig.adapter.away = True
    with pytest.raises(RuntimeUnavailable):
        await rig.traffic.start()
    assert rig.servers() == ["http://172.30.0.2:8080"]
    rig.adapter.away = False
    other = dataclasses.replace(of.spec, service_id=ServiceId("other"), domains=("other.example.com",))
    await rig.traffic.publish(other, [two])
    assert rig.servers() == ["http://172.30.0.2:8080", "http://172.30.0.3:8080"], "the earlier service is still there"


async def test_what_could_not_be_written_has_not_happened(rig: Rig, of: Deployment, tmp_path: Path) -> None:
    one, two = await deployed(rig, of, 2)
    await rig.traffic.publish(of.spec, [one])
    (tmp_path / "dynamic").rename(tmp_path / "aside")
    (tmp_path / "dynamic").write_text("no directory")
    with pytest.raises(StepFailed, match="cannot make") as failed:
        await rig.traffic.publish(of.spec, [two])
    assert failed.value.code == "ROUTE_FAILED"
    assert (rig.traffic.is_serving(one), rig.traffic.is_serving(two)) == (True, False)
    # Taking back what never was there needs no disk.
    await rig.traffic.withdraw(of.spec.service_id, [two])
    (tmp_path / "dynamic").unlink()
    (tmp_path / "aside").rename(tmp_path / "dynamic")
    await rig.traffic.publish(of.spec, [two])
    assert rig.servers() == ["http://172.30.0.2:8080", "http://172.30.0.3:8080"]


async def test_a_share_survives_the_agent_and_ends_with_the_operation(rig: Rig, of: Deployment) -> None:
    one, two = await deployed(rig, of, 2)
    await rig.traffic.publish(of.spec, [one])
    await rig.traffic.publish(of.spec, [two], share=10)
    assert rig.weights() == {"stable": 90, "canary": 10}
    rig.traffic = rig.again()
    rig.busy = {of.spec.service_id}
    await rig.traffic.start()
    await rig.traffic.reconcile()
    assert rig.weights() == {"stable": 90, "canary": 10}
    rig.busy = set()
    await rig.traffic.reconcile()
    assert rig.weights() == {"stable": 100}
    assert rig.servers() == ["http://172.30.0.2:8080", "http://172.30.0.3:8080"]


async def test_an_idle_service_has_the_domains_of_what_is_deployed(rig: Rig, of: Deployment) -> None:
    [one] = await deployed(rig, of, 1)
    other = dataclasses.replace(of.spec, domains=("next.example.com",))
    rig.busy = {of.spec.service_id}
    await rig.traffic.publish(other, [one])
    assert rig.domains() == ["next.example.com"]
    rig.busy = set()
    await rig.traffic.reconcile()
    assert rig.domains() == ["web.example.com"]


async def test_a_file_that_another_hand_changed_is_written_again(rig: Rig, of: Deployment, tmp_path: Path) -> None:
    [one] = await deployed(rig, of, 1)
    await rig.traffic.publish(of.spec, [one])
    written = (tmp_path / "dynamic" / "syntra.yml").read_bytes()
    (tmp_path / "dynamic" / "syntra.yml").write_text("{}")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(rig.traffic.run())
        while (tmp_path / "dynamic" / "syntra.yml").read_bytes() != written:
            await asyncio.sleep(0.01)
        running.cancel()


async def test_a_list_that_is_older_than_a_start_drops_nothing(rig: Rig, of: Deployment) -> None:
    rig.adapter = adapter = Stale(registry=("nginx:1",))
    rig.traffic = rig.again()
    one, two = await deployed(rig, of, 2)
    rig.busy = {of.spec.service_id}
    await rig.traffic.publish(of.spec, [one, two])
    adapter.stale = frozenset({two})
    await rig.traffic.reconcile()
    assert len(rig.servers()) == 2
    await adapter.stop(two, 0)
    await rig.traffic.reconcile()
    assert len(rig.servers()) == 1


async def test_a_domain_is_held_from_the_check_and_while_it_may_come_back(rig: Rig, of: Deployment) -> None:
    [one] = await deployed(rig, of, 1)
    await rig.traffic.publish(of.spec, [one])

    def asking(service: str, domain: str) -> Deployment:
        return dataclasses.replace(
            of, spec=dataclasses.replace(of.spec, service_id=ServiceId(service), domains=(domain,))
        )

    # Both are asked before either is published.
    first, second = asking("first", "new.example.com"), asking("second", "new.example.com")
    answers = await asyncio.gather(*map(rig.traffic.check, (first, second)), return_exceptions=True)
    assert answers[0] is None
    assert isinstance(answers[1], RequestError)
    assert answers[1].code == "ROUTE_CONFLICT"
    await rig.traffic.forget(ServiceId("first"))
    await rig.traffic.check(second)
    # A deploy under way has left the domain, and goes back to it when it fails.
    rig.busy = {of.spec.service_id}
    await rig.traffic.publish(dataclasses.replace(of.spec, domains=("next.example.com",)), [one])
    with pytest.raises(RequestError, match=f"belongs to service {of.spec.service_id}"):
        await rig.traffic.check(asking("third", "web.example.com"))


async def test_services_without_domains_come_and_go_without_the_proxy(rig: Rig, of: Deployment, tmp_path: Path) -> None:
    [one] = await deployed(rig, of, 1)
    await rig.traffic.publish(of.spec, [one])
    plain = dataclasses.replace(of.spec, service_id=ServiceId("db"), domains=())
    unwritable(tmp_path)
    await rig.traffic.publish(plain, [one])
    assert rig.traffic.is_serving(one)


def unwritable(folder: Path) -> None:
    (folder / "dynamic").rename(folder / "aside")
    (folder / "dynamic").write_text("no directory")


async def test_without_a_file_a_replica_is_not_withdrawn_unless_it_is_the_last_of_its_service(
    rig: Rig, of: Deployment, tmp_path: Path
) -> None:
    one, two = await deployed(rig, of, 2)
    await rig.traffic.publish(of.spec, [one, two])
    unwritable(tmp_path)
    with pytest.raises(StepFailed, match="cannot make"):
        await rig.traffic.withdraw(of.spec.service_id, [one])
    assert rig.traffic.is_serving(one)
    await rig.traffic.withdraw(of.spec.service_id, [one, two])
    assert not rig.traffic.is_serving(one)
    assert not rig.traffic.is_serving(two)
