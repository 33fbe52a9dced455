"""Replicas with volumes of their own: no volume ever has two writers, and all but one replica keep serving."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from syntra.model.container import Container, ContainerState
from syntra.model.spec import Strategy
from syntra.runtime.containers import planner
from syntra.runtime.containers.planner import Goal
from syntra.runtime.containers.volumes import ReplicaVolumes, image_volume_name, resolve
from syntra.runtime.runtime import Commit, Plan
from tests.model.samples import deployment, quick
from tests.runtime.containers.world import HASH, World, effects, replica, texts

NEW = "dep_new"
WHY = "the image's volume /data has a single writer; set image_volumes: discard if its content is not worth keeping"
CUTS = st.lists(st.integers(0, 14), max_size=3).map(tuple)


def olds(*indexes: int, **changes: Any) -> list[Container]:
    """Old replicas that run, each on its image volume."""
    spec = deployment(NEW).spec
    found = []
    for index in indexes:
        name = image_volume_name(spec, "/data", index)
        mounts = {"writable_mounts": frozenset({name}), "volumes": {"/data": name}}
        found.append(replica(index, **{**mounts, **changes}))
    return found


def goal(replicas: int, observed: list[Container], strategy: Strategy = Strategy.ROLLING) -> Goal:
    wanted = deployment(NEW, strategy=strategy, replicas=replicas)
    return Goal(
        deployment=wanted,
        spec_hash=HASH,
        replicas=replicas,
        prior=frozenset(r.container_id for r in observed if r.is_up),
        pinned=True,
        found=volumes(wanted.spec, observed),
    )


def volumes(spec: Any, observed: list[Container]) -> ReplicaVolumes:
    return resolve(spec, [], declared=["/data"], replicas=observed)


def test_a_rolling_deploy_of_two_replaces_one_at_a_time() -> None:
    planned = planner.deploy(goal(2, olds(1, 2)), olds(1, 2))
    assert texts(planned.steps) == [
        "ensure the network of project shop",
        "ensure volume shop_svc_123_data_1",
        "ensure volume shop_svc_123_data_2",
        "create replica 1",
        "stop dep_old-1",
        "start replica 1",
        "wait until replica 1 is healthy",
        "create replica 2",
        "stop dep_old-2",
        "start replica 2",
        "wait until replica 2 is healthy",
        "commit the new version",
        "remove dep_old-1, dep_old-2",
    ]
    assert planned.notes == (f"each old container stops before the new one with its volume starts: {WHY}",)


def test_what_needs_no_stop_starts_first_and_new_replicas_take_the_indexes_of_the_old() -> None:
    steps = texts(planner.deploy(goal(2, olds(3)), olds(3)).steps)
    assert (
        steps.index("wait until replica 1 is healthy")
        < steps.index("stop dep_old-3")
        < (steps.index("start replica 3"))
    )
    assert "create replica 2" not in steps


def test_one_replica_and_other_strategies_stop_the_old_first() -> None:
    for wanted in (goal(1, olds(1)), *(goal(2, olds(1, 2), s) for s in (Strategy.BLUE_GREEN, Strategy.CANARY))):
        observed = olds(*range(1, wanted.replicas + 1))
        planned = planner.deploy(wanted, observed)
        steps = texts(planned.steps)
        stops = next(number for number, text in enumerate(steps) if text.startswith("stop "))
        assert stops < steps.index("start replica 1")
        assert planned.notes == (f"the old container stops before the new one starts: {WHY}",)
        assert planner.canary_obstacle(wanted.deployment, observed, wanted.volumes) == WHY


def test_an_image_that_is_not_here_has_volumes_that_are_not_known() -> None:
    wanted = goal(1, [])
    unknown = dataclasses.replace(
        wanted, pinned=False, found=resolve(wanted.deployment.spec, [], declared=None, replicas=[])
    )
    assert planner.deploy(unknown, []).notes == (
        "the volumes that the image declares are known once the image is here",
    )
    assert planner.deploy(wanted, []).notes == ()


def test_removing_a_service_says_which_volumes_stay() -> None:
    observed = [*olds(1), replica(2, volumes={"/data": "f" * 64, "/etc/x": "shop_conf"})]
    spec = deployment(NEW).spec
    assert planner.stop(observed, remove=True, spec=spec).notes == (
        f"these volumes stay: {'f' * 64}, shop_conf, shop_svc_123_data_1",
    )
    assert planner.stop(observed, remove=False, spec=spec).notes == ()
    assert planner.stop([replica(1)], remove=True, spec=spec).notes == ()


@st.composite
def worlds(draw: Callable[..., Any]) -> tuple[World, Goal]:
    indexes = draw(st.sets(st.integers(1, 4), max_size=3))
    observed = olds(*sorted(indexes))
    down = draw(st.sets(st.sampled_from(sorted(indexes)))) if indexes else set()
    observed = [
        dataclasses.replace(r, state=ContainerState.EXITED) if r.index in down and len(down) < len(indexes) else r
        for r in observed
    ]
    strategy = draw(st.sampled_from([Strategy.ROLLING, Strategy.ROLLING, Strategy.BLUE_GREEN, Strategy.INSTANT]))
    world = World(observed, exclusive_mounts=True, backwards=draw(st.booleans()))
    return world, goal(draw(st.integers(1, 4)), observed, strategy)


def run(world: World, wanted: Goal, make: Callable[[Goal], Plan], cuts: tuple[int | None, ...], floor: int) -> None:
    """Plan from what is there and perform, once per cut; `None` goes through."""
    for cut in cuts:
        seen = dataclasses.replace(
            world.goal(wanted), found=volumes(wanted.deployment.spec, world.observed()), pinned=True
        )
        for step in effects(make(seen))[:cut]:
            world.perform(step, seen)
            assert world.serving() >= floor, str(step)


def floor_of(world: World, wanted: Goal) -> int:
    """One fewer than ran, or than are wanted; nothing where all old ones may stop first."""
    is_by_index = wanted.deployment.strategy is Strategy.ROLLING and wanted.replicas > 1
    return max(0, min(len(world.prior), wanted.replicas) - 1) if is_by_index else 0


@quick
@given(worlds(), CUTS)
def test_a_deploy_killed_anywhere_reaches_its_goal_with_one_writer_each(
    made: tuple[World, Goal], cuts: tuple[int, ...]
) -> None:
    world, wanted = made

    def deploy(seen: Goal) -> Plan:
        return planner.deploy(seen, world.observed(), committed=world.committed)

    run(world, wanted, deploy, (*cuts, None), floor_of(world, wanted))
    assert world.committed
    assert {r.deployment_id for r in world.replicas.values()} == {NEW}
    assert len(world.up()) == wanted.replicas
    for found in world.replicas.values():
        assert found.writable_mounts == {image_volume_name(wanted.deployment.spec, "/data", found.index)}


@quick
@given(worlds(), CUTS, CUTS)
def test_a_rollback_from_anywhere_gives_back_what_was_with_one_writer_each(
    made: tuple[World, Goal], cuts: tuple[int, ...], rollback_cuts: tuple[int, ...]
) -> None:
    world, wanted = made

    def deploy(seen: Goal) -> Plan:
        whole = planner.deploy(seen, world.observed())
        before = next(number for number, step in enumerate(whole.steps) if isinstance(step, Commit))
        return Plan(steps=whole.steps[:before])

    def roll_back(seen: Goal) -> Plan:
        return planner.roll_back(seen, world.observed(), restore=True)

    run(world, wanted, deploy, cuts, floor_of(world, wanted))
    run(world, wanted, roll_back, (*rollback_cuts, None), 0)
    assert world.up() == world.prior
    assert not any(r.deployment_id == NEW for r in world.replicas.values())
