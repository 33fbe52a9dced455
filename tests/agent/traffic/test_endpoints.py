"""What is reached: each change gives the next table and leaves the old one alone."""

from __future__ import annotations

import dataclasses

import pytest

from syntra.agent.traffic import endpoints
from syntra.agent.traffic.endpoints import EndpointTable, ReplicaEndpoint, ServiceEndpoints
from syntra.model.container import Container, ContainerState
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import ServiceSpec
from syntra.model.status import Health
from tests.model.samples import spec
from tests.runtime.containers import world

WEB = spec(service_id=ServiceId("web"), domains=("web.example.com",))
A, B, C = ContainerId("a"), ContainerId("b"), ContainerId("c")


def replica(
    container_id: ContainerId, *, state: ContainerState = ContainerState.RUNNING, address: str = ""
) -> Container:
    number = ord(container_id[0]) - ord("a") + 1
    return world.replica(
        number,
        container_id=container_id,
        service_id=ServiceId("web"),
        deployment_id="d1",
        state=state,
        addresses={"net": address or f"10.0.0.{number}"},
    )


def reached(*containers: ContainerId) -> dict[ContainerId, ReplicaEndpoint]:
    return {
        c: ReplicaEndpoint(index=replica(c).index, address=replica(c).addresses["net"], port=80) for c in containers
    }


def groups(reach: EndpointTable) -> dict[str, tuple[int, list[str]]]:
    [route] = endpoints.route_table(reach).routes
    return {group.name: (group.weight, [e.container_id for e in group.endpoints]) for group in route.groups}


def names(reach: EndpointTable) -> list[int]:
    [service] = endpoints.named(reach)
    return [index for index, _ in service.ready]


def test_published_and_withdrawn_leave_the_old_table_alone() -> None:
    empty: EndpointTable = {}
    one = endpoints.published(empty, WEB, reached(A))
    two = endpoints.published(one, WEB, reached(B))
    assert (empty, groups(one), groups(two)) == ({}, {"stable": (100, ["a"])}, {"stable": (100, ["a", "b"])})
    less = endpoints.withdrawn(two, WEB.service_id, [A, C])
    assert groups(less) == {"stable": (100, ["b"])}
    assert endpoints.is_reached(less, B)
    assert not endpoints.is_reached(less, A)
    assert endpoints.withdrawn(less, ServiceId("unknown"), [A]) == less
    assert endpoints.forgotten(less, WEB.service_id) == {}


def test_a_canary_has_its_share_and_no_name_before_it_has_everything() -> None:
    stable = endpoints.published({}, WEB, reached(A))
    tenth = endpoints.published(stable, WEB, reached(B), share=10)
    assert groups(tenth) == {"stable": (90, ["a"]), "canary": (10, ["b"])}
    assert names(tenth) == [1]
    half = endpoints.published(tenth, WEB, reached(B, C), share=50)
    assert groups(half) == {"stable": (50, ["a"]), "canary": (50, ["b", "c"])}
    whole = endpoints.published(half, WEB, reached(B, C), share=100)
    assert groups(whole) == {"stable": (0, ["a"]), "canary": (100, ["b", "c"])}
    assert names(whole) == [1, 2, 3]
    alone = endpoints.withdrawn(half, WEB.service_id, [A])
    assert groups(alone) == {"stable": (100, []), "canary": (100, ["b", "c"])}, "nothing is left to share with"
    assert names(alone) == [2, 3]
    given_up = endpoints.withdrawn(half, WEB.service_id, [B, C])
    assert groups(given_up) == {"stable": (100, ["a"])}
    taken_in = endpoints.published(half, WEB, reached(B, C))
    assert groups(taken_in) == {"stable": (100, ["a", "b", "c"])}


def test_what_comes_after_a_canary_that_has_everything_is_its_equal() -> None:
    whole = endpoints.published(endpoints.published({}, WEB, reached(A)), WEB, reached(B), share=100)
    alone = endpoints.withdrawn(whole, WEB.service_id, [A])
    assert groups(endpoints.published(alone, WEB, reached(C))) == {"stable": (100, ["b", "c"])}


def test_what_runs_no_more_is_gone_and_a_new_address_is_followed_with_the_port_it_had() -> None:
    moved = dataclasses.replace(WEB, port=9000)
    reach = endpoints.published(endpoints.published({}, WEB, reached(A, B)), moved, {})
    now = endpoints.with_observed(reach, [replica(A, address="10.9.9.9"), replica(B, state=ContainerState.EXITED)])
    [route] = endpoints.route_table(now).routes
    assert [(e.address, e.port) for group in route.groups for e in group.endpoints] == [("10.9.9.9", 80)]
    assert endpoints.with_observed(now, []) == {WEB.service_id: ServiceEndpoints(spec=moved)}


@pytest.mark.parametrize(
    ("before", "health", "after", "ready"),
    [
        ([], {A: Health.HEALTHY, B: Health.UNKNOWN}, [A], [1]),
        ([A], {A: Health.UNKNOWN}, [A], [1]),
        ([A, B], {A: Health.UNHEALTHY, B: Health.HEALTHY}, [B], [2]),
        ([A, B], {A: Health.UNHEALTHY, B: Health.UNKNOWN}, [B], [2]),
        ([A, B], {A: Health.UNHEALTHY, B: Health.UNHEALTHY}, [B], []),
        ([A], {A: Health.UNHEALTHY, B: Health.HEALTHY}, [B], [2]),
        ([A], {A: Health.UNHEALTHY}, [A], []),
    ],
)
def test_an_idle_service_is_reached_by_its_ready_replicas(
    before: list[ContainerId], health: dict[ContainerId, Health], after: list[ContainerId], ready: list[int]
) -> None:
    def readiness(of: Container, _: ServiceSpec) -> Health:
        return health.get(of.container_id, Health.UNKNOWN)

    reach = endpoints.published({}, WEB, reached(*before))
    now = endpoints.reconciled(reach, WEB, [replica(c) for c in health], readiness)
    assert sorted(now[WEB.service_id].reached) == after
    assert names(now) == ready
    assert endpoints.reconciled(now, WEB, [replica(c) for c in health], readiness) == now


@pytest.mark.parametrize(
    ("health", "stable"),
    [
        ({A: Health.HEALTHY, C: Health.HEALTHY}, ["a", "c"]),
        ({A: Health.UNHEALTHY, C: Health.HEALTHY}, ["c"]),
        ({A: Health.UNHEALTHY, C: Health.UNKNOWN}, ["a"]),
    ],
)
def test_while_a_canary_is_held_the_others_are_looked_after_and_the_shares_stay(
    health: dict[ContainerId, Health], stable: list[str]
) -> None:
    newer = dataclasses.replace(WEB, domains=("new.example.com",), port=9000)
    reach = endpoints.published(endpoints.published({}, WEB, reached(A)), newer, reached(B), share=10)
    now = endpoints.reconciled_during_canary(
        reach, WEB, [replica(c) for c in health], lambda r, _: health[r.container_id]
    )
    assert groups(now) == {"stable": (90, stable), "canary": (10, ["b"])}
    assert now[WEB.service_id].spec == newer
    assert endpoints.reconciled_during_canary({}, WEB, [replica(A)], lambda r, _: health[r.container_id]) == {}


@pytest.mark.parametrize(
    ("health", "after"),
    [({A: Health.HEALTHY}, [A]), ({A: Health.UNKNOWN}, [A]), ({A: Health.UNHEALTHY}, [B]), ({}, [A, B])],
)
def test_what_an_operation_left_behind_of_another_deployment_is_reached_only_in_place_of_nothing(
    health: dict[ContainerId, Health], after: list[ContainerId]
) -> None:
    reach = endpoints.published(endpoints.published({}, WEB, reached(A)), WEB, reached(B), share=5)
    now = endpoints.reconciled(reach, WEB, [replica(c) for c in health], lambda r, _: health[r.container_id])
    assert sorted(now[WEB.service_id].reached) == after


def test_the_one_that_was_kept_as_the_last_goes_first() -> None:
    health = {A: Health.UNHEALTHY}
    reach = endpoints.reconciled(
        endpoints.published({}, WEB, reached(A)), WEB, [replica(A)], lambda r, _: health[r.container_id]
    )
    later = endpoints.published(reach, WEB, reached(B))
    both = {A: Health.UNHEALTHY, B: Health.UNHEALTHY}
    now = endpoints.reconciled(later, WEB, [replica(A), replica(B)], lambda r, _: both[r.container_id])
    assert list(now[WEB.service_id].reached) == [B]


def test_a_service_without_a_domain_has_names_only() -> None:
    plain = spec(service_id=ServiceId("db"), port=None)
    reach = endpoints.published({}, plain, {A: ReplicaEndpoint(index=1, address="10.0.0.1", port=None)})
    assert endpoints.route_table(reach).routes == ()
    assert names(reach) == [1]
