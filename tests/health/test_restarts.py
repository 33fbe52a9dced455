"""Bringing replicas back: back-off, the last one that serves, and who else is at work."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.health.restarts import (
    MOST_DELAY_SECS,
    RESET_SECS,
    Action,
    CreateMissing,
    Desired,
    Restarts,
    RestartUnhealthy,
    Seen,
    StartDown,
)
from syntra.model.container import ContainerState
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.status import Health
from tests.runtime.containers import world

WEB, DEP = ServiceId("svc_web"), DeploymentId("dep_2")
UNKNOWN, HEALTHY, UNHEALTHY = Health.UNKNOWN, Health.HEALTHY, Health.UNHEALTHY
RUNNING, EXITED, DEAD = ContainerState.RUNNING, ContainerState.EXITED, ContainerState.DEAD
ONE = Desired(service_id=WEB, deployment_id=DEP, replicas=1, restart_unhealthy=True)
TWO = dataclasses.replace(ONE, replicas=2)


def replica(
    index: int = 1,
    state: ContainerState = RUNNING,
    health: Health = HEALTHY,
    *,
    serving: bool | None = None,
    **changes: Any,
) -> Seen:
    made = world.replica(index, **{"service_id": WEB, "deployment_id": DEP, "state": state, **changes})
    return Seen(replica=made, health=health, serving=health is HEALTHY if serving is None else serving)


def attempts(
    restarts: Restarts, desired: Desired, seen: Sequence[Seen], until: float, start: float = 0.0
) -> list[float]:
    """When actions come while the picture stays the same, asked only when told to ask again."""
    times, now = [], start
    while now <= until:
        if restarts.decide(now, [desired], seen):
            times.append(now)
        if restarts.next_at is None:
            break
        assert restarts.next_at > now, "asking again would go round and round"
        now = restarts.next_at
    return times


def the_action(desired: Desired, seen: Sequence[Seen], restarts: Restarts | None = None) -> Action:
    """The one action a second after this was seen for the first time."""
    restarts = restarts or Restarts()
    restarts.decide(0, [desired], seen)
    (action,) = restarts.decide(1, [desired], seen)
    return action


def test_a_replica_that_is_gone_is_created_again_after_a_second() -> None:
    restarts = Restarts()
    assert restarts.decide(100, [TWO], [replica(2)]) == [] and restarts.next_at == 101
    assert restarts.decide(101, [TWO], [replica(2)]) == [
        CreateMissing(service_id=WEB, deployment_id=DEP, index=1, remove=None, reason="replica 1 is gone")
    ]
    assert restarts.decide(101.5, [TWO], [replica(2)]) == [] and restarts.next_at == 103


def test_a_service_without_any_container_is_created_whole() -> None:
    restarts = Restarts()
    restarts.decide(0, [TWO], [])
    actions = restarts.decide(1, [TWO], [])
    assert [action.index for action in actions if isinstance(action, CreateMissing)] == [1, 2]


def test_attempts_double_up_to_five_minutes() -> None:
    times = attempts(Restarts(), ONE, [], 2000)
    gaps = [b - a for a, b in itertools.pairwise([0.0, *times])]
    assert gaps[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300] and set(gaps[9:]) == {MOST_DELAY_SECS}


def test_back_off_never_overflows() -> None:
    assert len(attempts(Restarts(), ONE, [], 1_000_000)) > 3000


def test_asking_more_often_changes_nothing() -> None:
    restarts, times = Restarts(), []
    for tenth in range(700):
        if restarts.decide(tenth / 10, [ONE], []):
            times.append(tenth / 10)
    assert times == [1, 3, 7, 15, 31, 63]


def test_a_short_recovery_does_not_reset_the_back_off_and_ten_minutes_do() -> None:
    restarts = Restarts()
    assert attempts(restarts, ONE, [], 40) == [1, 3, 7, 15, 31]
    well = [replica()]
    restarts.decide(40, [ONE], well)
    restarts.decide(40 + RESET_SECS - 1, [ONE], well)
    start = 40.0 + RESET_SECS
    assert (restarts.next_at or 0.0) == start
    shaken = Restarts()
    attempts(shaken, ONE, [], 40)
    shaken.decide(40, [ONE], well)
    shaken.decide(40 + RESET_SECS - 1, [ONE], [])
    assert shaken.next_at == 40 + RESET_SECS - 1 + 32
    restarts.decide(start, [ONE], well)
    assert restarts.next_at is None
    assert attempts(restarts, ONE, [], start + 10, start) == [start + 1, start + 3, start + 7]


@pytest.mark.parametrize("state", [EXITED, ContainerState.CREATED])
def test_a_container_that_is_down_is_started(state: ContainerState) -> None:
    seen = [replica(state=state, health=UNHEALTHY, exit_code=137, error="port is taken")]
    action = the_action(ONE, seen)
    code = " with code 137" if state is EXITED else ""
    assert action == StartDown(
        service_id=WEB,
        container_id=ContainerId("c1"),
        index=1,
        reason=f"replica 1 is {state.value}{code}: port is taken",
    )


def test_a_dead_container_is_replaced() -> None:
    action = the_action(ONE, [replica(state=DEAD)])
    assert isinstance(action, CreateMissing) and (action.index, action.remove) == (1, "c1")


@pytest.mark.parametrize("state", [ContainerState.RESTARTING, ContainerState.REMOVING])
def test_what_the_engine_is_at_is_left_to_it(state: ContainerState) -> None:
    assert attempts(Restarts(), ONE, [replica(state=state, health=UNHEALTHY)], 10_000) == []


@pytest.mark.parametrize("resting", [dataclasses.replace(ONE, stopped=True), dataclasses.replace(ONE, busy=True)])
@pytest.mark.parametrize("seen", [[], [replica(state=EXITED)], [replica(health=UNHEALTHY)]])
def test_a_service_that_is_stopped_or_busy_is_left_alone(resting: Desired, seen: list[Seen]) -> None:
    restarts = Restarts()
    restarts.decide(0, [ONE], seen)
    for now in range(1, 100):
        assert restarts.decide(now, [resting], seen) == [] and restarts.next_at is None
    # What was seen before and during it says nothing about after.
    assert restarts.decide(100, [ONE], seen) == [] and len(restarts.decide(101, [ONE], seen)) == 1


def test_an_operation_keeps_the_back_off_and_a_stop_forgets_it() -> None:
    restarts = Restarts()
    attempts(restarts, ONE, [], 40)
    restarts.decide(41, [dataclasses.replace(ONE, busy=True)], [])
    restarts.decide(42, [ONE], [])
    assert restarts.next_at == 42 + 32
    restarts.decide(43, [dataclasses.replace(ONE, stopped=True)], [])
    restarts.decide(44, [ONE], [])
    assert restarts.next_at == 45


def test_an_unhealthy_replica_is_restarted_when_the_spec_says_so() -> None:
    seen = [replica(1), replica(2, health=UNHEALTHY)]
    restarts = Restarts()
    restarts.decide(0, [TWO], seen)
    assert restarts.decide(1, [TWO], seen) == [
        RestartUnhealthy(service_id=WEB, container_id=ContainerId("c2"), index=2, reason="replica 2 is unhealthy")
    ]
    unasked = dataclasses.replace(TWO, restart_unhealthy=False)
    assert attempts(Restarts(), unasked, seen, 10_000) == []


def test_the_last_replica_that_serves_is_never_restarted() -> None:
    alone = [replica(health=UNHEALTHY, serving=True)]
    assert attempts(Restarts(), ONE, alone, 10_000) == []
    with_another_out = [replica(1, health=UNHEALTHY, serving=True), replica(2, health=UNKNOWN, serving=False)]
    assert attempts(Restarts(), TWO, with_another_out, 10_000) == []


def test_an_unhealthy_replica_that_does_not_serve_costs_nothing_to_restart() -> None:
    assert attempts(Restarts(), ONE, [replica(health=UNHEALTHY)], 20) == [1, 3, 7, 15]


def test_what_of_an_older_deployment_serves_counts_as_serving_and_is_not_ours_to_restart() -> None:
    older = replica(1, health=UNHEALTHY, serving=True, deployment_id=DeploymentId("dep_1"), container_id="old")
    seen = [older, replica(1, health=UNHEALTHY, serving=True)]
    action = the_action(ONE, seen)
    assert isinstance(action, RestartUnhealthy) and action.container_id == "c1"


def test_one_replica_after_the_other_is_restarted() -> None:
    three = dataclasses.replace(ONE, replicas=3)
    seen = [replica(index, health=UNHEALTHY) for index in (1, 2, 3)]
    restarts = Restarts()
    restarts.decide(0, [three], seen)
    done: list[tuple[float, str]] = []
    now = 0.0
    while now <= 5:
        now = restarts.next_at or 99
        actions = restarts.decide(now, [three], seen)
        assert len(actions) <= 1
        done += [(now, action.container_id) for action in actions if isinstance(action, RestartUnhealthy)]
    assert done[:3] == [(1, "c1"), (3, "c2"), (5, "c3")]


def test_the_next_one_goes_at_once_when_the_one_before_is_healthy() -> None:
    seen = [replica(1, health=UNHEALTHY), replica(2, health=UNHEALTHY)]
    restarts = Restarts()
    restarts.decide(0, [TWO], seen)
    restarts.decide(1, [TWO], seen)
    (action,) = restarts.decide(1.5, [TWO], [replica(1), seen[1]])
    assert isinstance(action, RestartUnhealthy) and action.container_id == "c2"


def test_what_serves_least_is_restarted_first() -> None:
    seen = [replica(1, health=UNHEALTHY, serving=True), replica(2, health=UNHEALTHY), replica(3)]
    three = dataclasses.replace(ONE, replicas=3)
    action = the_action(three, seen)
    assert isinstance(action, RestartUnhealthy) and action.container_id == "c2"


def test_indexes_left_by_scaling_down_are_not_filled() -> None:
    assert attempts(Restarts(), TWO, [replica(2), replica(5)], 10_000) == []
    action = the_action(TWO, [replica(5)])
    assert isinstance(action, CreateMissing) and action.index == 1


def test_more_containers_than_wanted_are_not_brought_back() -> None:
    assert attempts(Restarts(), ONE, [replica(1, state=EXITED), replica(2)], 10_000) == []


def test_services_do_not_wait_for_each_other_and_are_forgotten_when_gone() -> None:
    other = dataclasses.replace(ONE, service_id=ServiceId("svc_db"))
    restarts = Restarts()
    restarts.decide(0, [ONE, other], [])
    assert {action.service_id for action in restarts.decide(1, [ONE, other], [])} == {"svc_web", "svc_db"}
    restarts.decide(2, [ONE], [])
    assert set(restarts._services) == {WEB}
    assert restarts.decide(3, [], []) == [] and restarts._services == {} and restarts.next_at is None


def test_places_that_are_no_longer_there_are_forgotten() -> None:
    restarts = Restarts()
    for index in range(1, 200):
        restarts.decide(index, [ONE], [replica(index)])
    assert list(restarts._services[WEB]) == [199]


PICTURES = st.lists(
    st.tuples(
        st.floats(0, 50),
        st.booleans(),  # busy
        st.booleans(),  # stopped
        st.lists(
            st.tuples(
                st.integers(1, 4), st.sampled_from(list(ContainerState)), st.sampled_from(list(Health)), st.booleans()
            ),
            max_size=4,
            unique_by=lambda one: one[0],
        ),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(pictures=PICTURES, replicas=st.integers(0, 4))
def test_whatever_is_seen_nothing_takes_the_last_that_serves_and_attempts_keep_their_distance(
    pictures: list[tuple[float, bool, bool, list[tuple[int, ContainerState, Health, bool]]]], replicas: int
) -> None:
    restarts = Restarts()
    now = 0.0
    last: dict[str, float] = {}
    for later, busy, stopped, parts in pictures:
        now += later
        seen = [replica(index, state, health, serving=serving) for index, state, health, serving in parts]
        desired = dataclasses.replace(ONE, replicas=replicas, busy=busy, stopped=stopped)
        actions: list[Action] = restarts.decide(now, [desired], seen)
        assert not actions or not (busy or stopped)
        assert restarts.next_at is None or restarts.next_at > now
        by_id = {one.replica.container_id: one for one in seen}
        serving = {one.replica.container_id for one in seen if one.serving}
        restarted = {action.container_id for action in actions if isinstance(action, RestartUnhealthy)}
        assert len(restarted) <= 1 and (not serving or serving - restarted)
        for action in actions:
            match action:
                case RestartUnhealthy():
                    one = by_id[action.container_id]
                    assert one.health is UNHEALTHY and one.replica.state in (RUNNING, ContainerState.PAUSED)
                case StartDown():
                    assert by_id[action.container_id].replica.state in (EXITED, ContainerState.CREATED)
                case CreateMissing():
                    used = {one.replica.index for one in seen}
                    assert (action.index in used) is (action.remove is not None)
            place = str(action.index) if isinstance(action, CreateMissing) else action.container_id[1:]
            assert now - last.get(place, -1.0) >= 1.0
            last[place] = now
        assert len(actions) <= replicas
        if stopped:
            last.clear()
