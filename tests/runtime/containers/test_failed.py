"""What a plan keeps of a failed deployment: one container, whatever happened before and wherever it was killed."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import assume, given

from syntra.model.container import ContainerState
from syntra.model.ids import ContainerId
from syntra.model.spec import Strategy
from syntra.runtime.containers import planner as plan
from syntra.runtime.runtime import Commit
from tests.model.samples import quick
from tests.runtime.containers.test_planner import (
    CUTS,
    EXITED,
    NEW,
    Scenario,
    carry_out,
    deploying,
    goal,
    olds,
    rolling_back,
    scenarios,
)
from tests.runtime.containers.world import effects, replica, texts

EARLIER = replica(90, deployment_id="dep_earlier", state=EXITED, index=1)
SECOND = ContainerId("c8")


def failing() -> plan.Goal:
    """A goal of two whose second new replica failed, beside one that served, and what an earlier deploy has left."""
    return dataclasses.replace(goal(2, prior=1), at_fault=SECOND, failed=(EARLIER,))


NEW_ONES = [replica(7, deployment_id=NEW, index=1), replica(8, deployment_id=NEW, index=2)]


def test_the_container_at_fault_is_kept_in_the_place_of_the_earlier_one() -> None:
    assert texts(plan.roll_back(failing(), [*olds(1), *NEW_ONES], restore=True).steps) == [
        "stop dep_new-1, dep_new-2",
        "keep dep_new-2 as it failed",
        "remove dep_new-1",
        "remove dep_earlier-1",
    ]


def test_a_rollback_taken_up_again_keeps_the_same_container_and_no_other() -> None:
    kept = dataclasses.replace(NEW_ONES[1], state=EXITED)
    wanted = dataclasses.replace(failing(), failed=(EARLIER, kept))
    left = dataclasses.replace(NEW_ONES[0], state=EXITED)
    assert texts(plan.roll_back(wanted, [*olds(1), left], restore=True).steps) == [
        "remove dep_new-1",
        "remove dep_earlier-1",
    ]


def test_without_a_container_at_fault_the_earlier_one_stays() -> None:
    wanted = dataclasses.replace(failing(), at_fault=None)
    assert texts(plan.roll_back(wanted, [*olds(1), NEW_ONES[0]], restore=True).steps) == [
        "stop dep_new-1",
        "remove dep_new-1",
    ]


def test_what_served_is_never_kept_as_a_failed_one() -> None:
    served = replica(1, state=EXITED)
    wanted = dataclasses.replace(failing(), at_fault=served.container_id)
    assert "keep" not in " ".join(texts(plan.roll_back(wanted, [served, NEW_ONES[0]], restore=True).steps))


def test_the_container_of_a_release_command_is_kept_before_the_others_are_removed() -> None:
    wanted = dataclasses.replace(goal(1, release_command=("migrate",)), releases=True, at_fault=SECOND)
    assert texts(plan.roll_back(wanted, [], restore=True).steps) == [
        "keep the release command's container as it failed",
        "remove the container of the release command",
    ]
    kept = dataclasses.replace(wanted, failed=(replica(8, deployment_id=NEW, state=EXITED),))
    assert texts(plan.roll_back(kept, [], restore=True).steps) == ["remove the container of the release command"]


def test_the_next_deploy_removes_it_after_its_commit() -> None:
    wanted = dataclasses.replace(goal(1), failed=(EARLIER,))
    steps = texts(plan.deploy(wanted, []).steps)
    assert steps.index("remove dep_earlier-1") > steps.index("commit the new version")
    assert texts(plan.deploy(wanted, [replica(7, deployment_id=NEW, index=1)], committed=True).steps) == [
        "remove dep_earlier-1"
    ]


@pytest.mark.parametrize(("remove", "goes"), [(True, True), (False, False)])
def test_only_a_removal_of_the_service_takes_it_away(remove: bool, goes: bool) -> None:
    steps = texts(plan.stop([], remove=remove, failed=[EARLIER]).steps)
    assert ("remove dep_earlier-1" in steps) is goes


@quick
@given(scenarios(), CUTS)
def test_a_rollback_killed_anywhere_keeps_exactly_the_container_at_fault(
    scenario: Scenario, rollback_cuts: tuple[int, ...]
) -> None:
    assume(scenario.wanted.deployment.strategy is not Strategy.CANARY)
    world, wanted = scenario.world(), scenario.wanted
    world.failed = {EARLIER.container_id: EARLIER}
    strangers = {r.container_id for r in scenario.replicas if r.deployment_id != NEW}
    carry_out(world, deploying(scenario), scenario.cuts, wanted, until=lambda step: isinstance(step, Commit))
    assume(not world.committed)
    new = [r for r in world.replicas.values() if r.deployment_id == NEW and r.container_id not in world.prior]
    usable = [r for r in new if r.state not in (ContainerState.REMOVING, ContainerState.DEAD)]
    assume(usable)
    world.at_fault = usable[0].container_id

    def check() -> None:
        assert world.failed.keys() <= {EARLIER.container_id, usable[0].container_id}
        assert not any(one.is_up for one in world.failed.values())

    carry_out(world, rolling_back(scenario), (*rollback_cuts, None), check=check)
    assert world.failed.keys() == {usable[0].container_id}
    assert world.replicas.keys() == world.prior | strangers
    assert effects(rolling_back(scenario)(world)) == []
