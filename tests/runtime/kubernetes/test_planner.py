"""Plans for services in a cluster: each strategy's steps, and that planning again after any prefix gives the rest."""

from __future__ import annotations

import dataclasses

import pytest

from syntra.model.spec import Canary, CanaryStep, Deployment, Strategy
from syntra.runtime.kubernetes.names import Slot
from syntra.runtime.kubernetes.steps import (
    ApplyWorkload,
    AwaitRollout,
    DeleteObjects,
    Preflight,
    ScaleSlot,
    ShiftRequests,
    SwitchSlot,
)
from syntra.runtime.runtime import Commit, Desired, ForgetService, Hold, Step
from tests.runtime.kubernetes.world import DELAY, World, deploying, restarting, returning, scaling, stopping, version

BESIDE = (Strategy.BLUE_GREEN, Strategy.CANARY)
EVERY = (Strategy.ROLLING, Strategy.INSTANT, *BESIDE)
CANARY = Canary(
    steps=(
        CanaryStep(percent=10, hold_secs=5),
        CanaryStep(percent=50, hold_secs=5),
        CanaryStep(percent=100, hold_secs=0),
    )
)


def target(number: int, strategy: Strategy) -> Deployment:
    return dataclasses.replace(version(number, strategy), canary=CANARY)


def after(*deployed: Deployment) -> World:
    """A world in which these were deployed, one after the other."""
    world = World()
    for one in deployed:
        world.carry_out(deploying(one))
        world.previous, world.is_checked = one, False
    return world


def names(steps: list[Step]) -> list[str]:
    return [type(step).__name__ for step in steps]


def state(world: World) -> tuple[object, ...]:
    """What matters in the end, without times and memory."""
    return (
        {slot: (one.deployment_id, one.replicas, bool(one.restarted_at)) for slot, one in world.workloads.items()},
        world.active,
        world.requests,
        [revision.deployment_id for revision in world.revisions],
        world.has_routes,
        world.has_secret,
        world.is_forgotten,
    )


def rolling_back(desired: Desired, world: World) -> Desired:
    return dataclasses.replace(desired, is_rolling_back=True, prior=frozenset(pod.container_id for pod in world.pods()))


FIRST = target(1, Strategy.ROLLING)
CASES = {
    **{f"first {strategy.value}": (after(), deploying(target(1, strategy))) for strategy in EVERY},
    **{f"second {strategy.value}": (after(FIRST), deploying(target(2, strategy))) for strategy in EVERY},
    **{
        f"{later.value} after {earlier.value}": (
            after(FIRST, target(2, earlier)),
            deploying(target(3, later)),
        )
        for earlier in EVERY
        for later in EVERY
    },
    **{
        f"rollback of {strategy.value}": (after(FIRST, target(2, strategy)), returning(target(1, strategy)))
        for strategy in EVERY
    },
    "scale up": (after(FIRST), scaling(FIRST, 5)),
    "scale down": (after(FIRST), scaling(FIRST, 1)),
    "scale in green": (after(FIRST, target(2, Strategy.BLUE_GREEN)), scaling(target(2, Strategy.BLUE_GREEN), 4)),
    "restart": (after(FIRST), restarting(FIRST)),
    "restart in green": (after(FIRST, target(2, Strategy.BLUE_GREEN)), restarting(target(2, Strategy.BLUE_GREEN))),
    "stop": (after(FIRST), stopping(FIRST, remove=False)),
    "remove": (after(FIRST), stopping(FIRST, remove=True)),
    "remove two slots": (after(FIRST, target(2, Strategy.CANARY)), stopping(FIRST, remove=True)),
}


@pytest.mark.parametrize("case", CASES)
def test_planning_again_after_any_prefix_gives_the_rest(case: str) -> None:
    before, desired = CASES[case]
    whole = before.copy()
    _, steps = whole.carry_out(desired)
    assert sum(isinstance(step, Commit) for step in steps) == 1
    for cut in range(len(steps) + 1):
        world = before.copy()
        journaled, _ = world.carry_out(desired, at_most=cut)
        world = world.restarted()
        journaled, rest = world.carry_out(journaled)
        assert journaled.is_committed
        assert state(world) == state(whole), f"killed after {names(steps[:cut])[-1:]}: {names(rest)}"


@pytest.mark.parametrize("strategy", EVERY)
def test_a_failure_after_any_step_returns_to_the_version_before(strategy: Strategy) -> None:
    before = after(FIRST)
    desired = deploying(target(2, strategy))
    until = names(before.copy().carry_out(desired)[1]).index("Commit")
    for cut in range(until + 1):
        world = before.copy()
        journaled, _ = world.carry_out(desired, at_most=cut)
        back = rolling_back(journaled, before)
        steps = len(world.copy().plan(back).steps)
        for second in range(steps + 1):
            again = world.copy()
            again.carry_out(back, at_most=second)
            again.carry_out(back)
            assert state(again)[:3] == state(before)[:3], f"failed after {cut}, killed after {second} steps back"


def test_a_failed_first_deploy_leaves_nothing() -> None:
    for cut in range(1, 6):
        world = World()
        journaled, _ = world.carry_out(deploying(FIRST), at_most=cut)
        world.carry_out(rolling_back(journaled, World()))
        assert state(world)[:3] == ({}, None, {}) and not world.has_secret


def test_a_failed_scale_returns_to_the_earlier_number() -> None:
    world = after(FIRST)
    prior = world.copy()
    desired, _ = world.carry_out(scaling(FIRST, 5), at_most=1)
    world.carry_out(rolling_back(desired, prior))
    assert state(world) == state(prior)


def test_an_update_is_checked_with_the_cluster_before_anything_changes() -> None:
    for strategy in EVERY:
        steps = list(after(FIRST).plan(deploying(target(2, strategy))).steps)
        assert isinstance(steps[0], Preflight)


def test_rolling_changes_the_one_deployment() -> None:
    _, steps = after(FIRST).carry_out(deploying(target(2, Strategy.ROLLING)))
    assert names(steps) == [
        "Preflight",
        "ApplySupports",
        "ApplyService",
        "ApplyWorkload",
        "AwaitRollout",
        "ApplyRoutes",
        "Commit",
        "KeepRevision",
        "Prune",
    ]


def test_blue_green_fills_the_other_slot_and_switches_when_it_is_rolled_out() -> None:
    world = after(FIRST)
    _, steps = world.carry_out(deploying(target(2, Strategy.BLUE_GREEN)))
    assert names(steps) == [
        "Preflight",
        "ApplySupports",
        "ApplyWorkload",
        "AwaitRollout",
        "SwitchSlot",
        "ApplyRoutes",
        "Commit",
        "ScaleSlot",
        "KeepRevision",
        "Prune",
    ]
    assert steps[2] == ApplyWorkload(slot=Slot.GREEN, name="api-green", replicas=2)
    assert steps[7] == ScaleSlot(slot=Slot.BLUE, name="api", replicas=0, delay_secs=DELAY)
    assert world.workloads[Slot.BLUE].deployment_id == "d1", "kept for an instant rollback"


def test_a_rollback_of_blue_green_starts_the_kept_slot_and_switches_back() -> None:
    world = after(FIRST, target(2, Strategy.BLUE_GREEN))
    _, steps = world.carry_out(returning(target(1, Strategy.BLUE_GREEN)))
    assert [step.slot for step in steps if isinstance(step, SwitchSlot)] == [Slot.BLUE]
    assert world.active is Slot.BLUE and world.workloads[Slot.GREEN].replicas == 0


def test_a_canary_gives_shares_in_stages_and_the_switch_gives_the_last() -> None:
    _, steps = after(FIRST).carry_out(deploying(target(2, Strategy.CANARY)))
    shares = [step for step in steps if isinstance(step, ShiftRequests | Hold | SwitchSlot | AwaitRollout)]
    assert [(type(step).__name__, getattr(step, "percent", None)) for step in shares] == [
        ("AwaitRollout", None),
        ("ShiftRequests", 10),
        ("Hold", 10),
        ("ShiftRequests", 50),
        ("Hold", 50),
        ("SwitchSlot", None),
    ]


def test_a_canary_that_was_promoted_has_no_stage_left() -> None:
    desired = dataclasses.replace(deploying(target(2, Strategy.CANARY)), stage=3)
    assert not [s for s in after(FIRST).plan(desired).steps if isinstance(s, ShiftRequests | Hold)]


def test_a_canary_goes_on_with_the_stage_that_was_journaled() -> None:
    world = after(FIRST)
    steps = list(world.plan(deploying(target(2, Strategy.CANARY))).steps)
    first_hold = next(place for place, step in enumerate(steps) if isinstance(step, Hold))
    desired, _ = world.carry_out(deploying(target(2, Strategy.CANARY)), at_most=first_hold + 1)
    assert desired.stage == 1
    rest = [step.percent for step in world.restarted().plan(desired).steps if isinstance(step, ShiftRequests)]
    assert rest == [50]


def test_a_rollback_has_no_canary() -> None:
    world = after(FIRST, target(2, Strategy.CANARY))
    plan = world.plan(returning(target(1, Strategy.CANARY)))
    assert not [step for step in plan.steps if isinstance(step, ShiftRequests | Hold)]


def test_a_first_canary_starts_all_and_says_so() -> None:
    plan = World().plan(deploying(target(1, Strategy.CANARY)))
    assert plan.notes == ("no earlier version is running to compare the canary with: all replicas start at once",)
    assert not [step for step in plan.steps if isinstance(step, ShiftRequests | Hold)]


@pytest.mark.parametrize("strategy", BESIDE)
def test_without_a_port_there_are_no_requests_to_switch(strategy: Strategy) -> None:
    worker = dataclasses.replace(version(2, strategy, port=None, domains=()), canary=CANARY)
    plan = after(version(1, port=None, domains=())).plan(deploying(worker))
    assert not [step for step in plan.steps if isinstance(step, SwitchSlot | ShiftRequests | Hold)]
    assert any("without a port" in note for note in plan.notes)


def test_a_stop_is_decided_first_and_keeps_the_objects() -> None:
    world = after(FIRST)
    _, steps = world.carry_out(stopping(FIRST, remove=False))
    assert names(steps) == ["Commit", "ScaleSlot", "AwaitStopped"]
    assert world.workloads[Slot.BLUE].replicas == 0 and world.active is Slot.BLUE


def test_a_removal_deletes_what_sends_requests_first_and_keeps_claims() -> None:
    _, steps = after(FIRST).carry_out(stopping(FIRST, remove=True))
    [deleted] = [step for step in steps if isinstance(step, DeleteObjects)]
    assert [kind for kind, _ in deleted.objects] == ["Ingress", "Service", "Deployment", "Secret"]
    assert isinstance(steps[-1], ForgetService)


def test_a_deploy_that_is_there_already_only_keeps_it() -> None:
    world = after(FIRST)
    desired = dataclasses.replace(deploying(FIRST), is_committed=True)
    assert names(list(world.plan(desired).steps)) == ["Prune"]
