"""Plans: their words, and, carried out in a world that may stop them after any engine call, what they keep safe."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from syntra.model.command import Pace
from syntra.model.container import Container, ContainerState
from syntra.model.spec import Canary, CanaryStep, Deployment, Strategy, VolumeMount
from syntra.runtime.containers import planner as plan
from syntra.runtime.containers.planner import Goal
from syntra.runtime.containers.side_by_side import stop_first_reason
from syntra.runtime.containers.volumes import as_written
from syntra.runtime.runtime import Commit, Plan, Step
from tests.model.samples import deployment, quick
from tests.runtime.containers.world import GOING, HASH, World, effects, replica, texts, wants

RUNNING, EXITED, CREATED, PAUSED = (
    ContainerState.RUNNING,
    ContainerState.EXITED,
    ContainerState.CREATED,
    ContainerState.PAUSED,
)
NEW = "dep_new"
DATA = VolumeMount(name="data", host_path=None, container_path="/data", read_only=False)
Planner = Callable[[World], Plan]


def goal(replicas: int, strategy: Strategy = Strategy.ROLLING, *, prior: int = 0, **of: Any) -> Goal:
    """A goal of so many replicas; `prior` says that c1, c2 … were up when it began."""
    return Goal(
        deployment=deployment(NEW, strategy=strategy, replicas=replicas, **of),
        spec_hash=HASH,
        replicas=replicas,
        prior=frozenset(replica(number).container_id for number in range(1, prior + 1)),
    )


def olds(count: int, **changes: Any) -> list[Container]:
    return [replica(number, **changes) for number in range(1, count + 1)]


PREPARE = ["pull nginx:1 and pin it", "ensure the network of project shop"]
COMMIT = "commit the new version"
SHORT = (
    ("pull nginx:1 and pin it; ensure the network of project shop", "prepare"),
    (r"create replica (\d); start replica \1; wait until replica \1 is healthy", r"new \1"),
    (r"wait until ([^;]*) (?:is|are) healthy", r"await \1"),
    ("commit the new version", "commit"),
    ("dep_(old|new)-", r"\1-"),
)


def new(number: int) -> list[str]:
    """The steps of one new replica."""
    return [f"create replica {number}", f"start replica {number}", f"wait until replica {number} is healthy"]


def brief(steps: Sequence[Step]) -> str:
    """Texts of steps in short; the tests that quote them whole are the specification of the words."""
    shorter = "; ".join(texts(steps))
    for words, short in SHORT:
        shorter = re.sub(words, short, shorter)
    return shorter


def deploying_brief(wanted: Goal, observed: Sequence[Container], *, committed: bool = False) -> str:
    return brief(plan.deploy(wanted, observed, committed=committed).steps)


def rolling_back_brief(wanted: Goal, observed: Sequence[Container], *, restore: bool = True) -> str:
    return brief(plan.roll_back(wanted, observed, restore=restore).steps)


def test_rolling_from_one_to_three_replaces_the_old_by_the_first_new() -> None:
    planned = plan.deploy(goal(3, prior=1), olds(1))
    assert texts(planned.steps) == [*PREPARE, *new(1), "stop dep_old-1", *new(2), *new(3), COMMIT, "remove dep_old-1"]
    assert planned.notes == ()


def test_rolling_from_three_to_one_stops_nothing_before_the_commit() -> None:
    assert (
        deploying_brief(goal(1, prior=3), olds(3))
        == "prepare; new 1; commit; stop old-1, old-2, old-3; remove old-1, old-2, old-3"
    )


def test_rolling_two_of_two_goes_one_by_one() -> None:
    assert (
        deploying_brief(goal(2, prior=2), olds(2))
        == "prepare; new 1; stop old-1; new 2; commit; stop old-2; remove old-1, old-2"
    )


def test_a_rolling_deploy_taken_up_again_does_not_stop_a_second_old_one_for_the_same_new_one() -> None:
    # Killed after the first new one had taken the place of the first old one.
    observed = [replica(1, state=EXITED), replica(2), replica(3, deployment_id=NEW, index=1)]
    assert (
        deploying_brief(goal(2, prior=2), observed)
        == "prepare; await new-1; new 2; commit; stop old-2; remove old-1, old-2"
    )


def test_blue_green_brings_all_up_before_any_old_one_stops() -> None:
    assert texts(plan.deploy(goal(2, Strategy.BLUE_GREEN, prior=2), olds(2)).steps) == [
        *PREPARE,
        "create replica 1",
        "create replica 2",
        "start replica 1",
        "start replica 2",
        "wait until replica 1, replica 2 are healthy",
        COMMIT,
        "stop dep_old-1, dep_old-2",
        "remove dep_old-1, dep_old-2",
    ]


TENTH = [*new(1), "send 10 % of the requests to replica 1", "hold the canary at 10 % of the requests for 60 s"]
HALF = [
    *new(2),
    "send 50 % of the requests to replica 1, replica 2",
    "hold the canary at 50 % of the requests for 60 s",
]
ALL = [
    "create replica 3",
    "start replica 3",
    "create replica 4",
    "start replica 4",
    "wait until replica 1, replica 2, replica 3, replica 4 are healthy",
    "send 100 % of the requests to replica 1, replica 2, replica 3, replica 4",
    COMMIT,
    "stop dep_old-1, dep_old-2",
    "remove dep_old-1, dep_old-2",
]


def test_a_canary_has_as_many_replicas_as_its_share_needs_and_the_old_stay_until_it_has_all() -> None:
    planned = plan.deploy(goal(4, Strategy.CANARY, prior=2), olds(2))
    assert texts(planned.steps) == [*PREPARE, *TENTH, *HALF, *ALL]
    assert planned.notes == ()


def test_a_canary_taken_up_again_holds_the_present_step_anew_and_none_of_those_before() -> None:
    observed = [*olds(2), replica(3, deployment_id=NEW, index=1), replica(4, deployment_id=NEW, index=2, state=EXITED)]
    wanted = dataclasses.replace(goal(4, Strategy.CANARY, prior=2), pinned=True)
    half = [
        "start dep_new-2",
        "wait until dep_new-1, dep_new-2 are healthy",
        "send 50 % of the requests to dep_new-1, dep_new-2",
        "hold the canary at 50 % of the requests for 60 s",
    ]
    at_stage_one = texts(plan.deploy(dataclasses.replace(wanted, stage=1), observed).steps)
    assert at_stage_one[: len(PREPARE) - 1 + len(half)] == [PREPARE[1], *half]
    for over in (2, 3, 4):
        assert deploying_brief(dataclasses.replace(wanted, stage=over), observed) == (
            "ensure the network of project shop; start new-2; create replica 3; start replica 3; "
            "create replica 4; start replica 4; await new-1, new-2, replica 3, replica 4; "
            "send 100 % of the requests to new-1, new-2, replica 3, replica 4; commit; stop old-1, old-2; "
            "remove old-1, old-2"
        )


def test_a_canary_that_holds_at_all_requests_is_held_before_the_commit_until_it_was() -> None:
    canary = Canary(steps=(CanaryStep(percent=1, hold_secs=0.0), CanaryStep(percent=100, hold_secs=5.0)))
    wanted = goal(1, Strategy.CANARY, prior=1)
    wanted = dataclasses.replace(wanted, deployment=dataclasses.replace(wanted.deployment, canary=canary), pinned=True)
    held = [
        "wait until replica 1 is healthy",
        "send 100 % of the requests to replica 1",
        "hold the canary at 100 % of the requests for 5 s",
        COMMIT,
    ]
    steps = texts(plan.deploy(wanted, olds(1)).steps)
    assert steps[3:9] == ["wait until replica 1 is healthy", "send 1 % of the requests to replica 1", *held]
    assert texts(plan.deploy(dataclasses.replace(wanted, stage=1), olds(1)).steps)[3:7] == held
    assert texts(plan.deploy(dataclasses.replace(wanted, stage=2), olds(1)).steps)[3:6] == [*held[:2], held[3]]


@pytest.mark.parametrize("observed", [[], olds(2, state=EXITED), [replica(1, deployment_id=NEW)]])
def test_a_canary_with_nothing_to_compare_it_with_goes_like_blue_green_and_says_so(observed: list[Container]) -> None:
    planned = plan.deploy(goal(1, Strategy.CANARY), observed)
    assert planned.steps == plan.deploy(goal(1, Strategy.BLUE_GREEN), observed).steps
    assert planned.notes == ("no earlier version is running to compare the canary with: all replicas start at once",)


def test_what_served_and_is_down_for_a_moment_is_still_something_to_compare_with() -> None:
    steps = texts(plan.deploy(goal(4, Strategy.CANARY, prior=2), olds(2, state=EXITED)).steps)
    assert TENTH[-1] in steps


def test_a_canary_cannot_stand_beside_what_holds_its_port_or_its_volume() -> None:
    def obstacle(wanted: Deployment, observed: list[Container]) -> str | None:
        return plan.canary_obstacle(wanted, observed, as_written(wanted.spec))

    wanted = deployment(NEW, strategy=Strategy.CANARY, host_port=443)
    held = wants(wanted.spec)
    assert obstacle(wanted, olds(1, **held)) == "host port 443 can be held by one container at a time"
    assert obstacle(wanted, olds(1, state=EXITED, **held)) is None
    assert obstacle(wanted, [replica(1, deployment_id=NEW, **held)]) is None
    single = deployment(NEW, strategy=Strategy.CANARY, volumes=(DATA,))
    assert obstacle(single, olds(1, **wants(single.spec))) == "volume data has a single writer"


INSTANT = [
    "create replica 1",
    "stop dep_old-1",
    "start replica 1",
    "wait until replica 1 is healthy",
    COMMIT,
    "remove dep_old-1",
]


def test_instant_stops_the_old_before_the_new_starts_and_creates_before_both() -> None:
    planned = plan.deploy(goal(1, Strategy.INSTANT, prior=1), olds(1))
    assert texts(planned.steps) == [*PREPARE, *INSTANT]
    assert planned.notes == ()


@pytest.mark.parametrize("strategy", [Strategy.ROLLING, Strategy.BLUE_GREEN])
@pytest.mark.parametrize(
    ("of", "reason"),
    [
        ({"host_port": 443}, "host port 443 can be held by one container at a time"),
        ({"volumes": (DATA,)}, "volume data has a single writer"),
        ({"volumes": (dataclasses.replace(DATA, host_path="/srv/data"),)}, "volume /srv/data has a single writer"),
    ],
)
def test_where_two_cannot_run_side_by_side_the_old_stops_first_and_the_note_says_why(
    strategy: Strategy, of: dict[str, Any], reason: str
) -> None:
    wanted = goal(1, strategy, prior=1, **of)
    planned = plan.deploy(wanted, olds(1, **wants(wanted.deployment.spec)))
    named = ["ensure volume data"] if of == {"volumes": (DATA,)} else []
    assert texts(planned.steps) == [*PREPARE, *named, *INSTANT]
    assert planned.notes == (f"the old container stops before the new one starts: {reason}",)


def test_two_run_side_by_side_when_nothing_is_shared() -> None:
    spec = goal(1, host_port=443, volumes=(DATA,)).deployment.spec
    assert stop_first_reason(as_written(spec), olds(1, host_ports=frozenset({80}))) is None
    read_only = dataclasses.replace(spec, volumes=(dataclasses.replace(DATA, read_only=True),))
    assert stop_first_reason(as_written(read_only), olds(1, **wants(dataclasses.replace(spec, host_port=None)))) is None
    many = dataclasses.replace(spec, host_port=None, replicas=2)
    assert stop_first_reason(as_written(many), olds(1, **wants(many))) is None


def test_named_volumes_are_ensured_once_and_host_folders_never() -> None:
    volumes = (DATA, dataclasses.replace(DATA, container_path="/b"), dataclasses.replace(DATA, host_path="/srv"))
    assert texts(plan.deploy(goal(2, volumes=volumes), []).steps)[:3] == [*PREPARE, "ensure volume data"]


def test_a_pinned_image_is_not_pulled_again() -> None:
    assert (
        texts(plan.deploy(dataclasses.replace(goal(1), pinned=True), []).steps)[0]
        == "ensure the network of project shop"
    )


def test_what_is_there_already_is_used_and_what_cannot_be_is_replaced() -> None:
    observed = [
        replica(1, deployment_id=NEW, state=EXITED),
        replica(2, deployment_id=NEW, state=ContainerState.DEAD),
        replica(3, deployment_id=NEW, spec_hash="of another spec"),
        replica(4, deployment_id=NEW),
    ]
    assert (
        deploying_brief(goal(3), observed)
        == "prepare; start new-1; await new-1; stop new-3; await new-4; new 2; commit; remove new-2, new-3"
    )


def test_a_deploy_of_what_runs_only_waits_and_commits() -> None:
    observed = [replica(1, deployment_id=NEW), replica(2, deployment_id=NEW)]
    assert deploying_brief(goal(2, Strategy.BLUE_GREEN, prior=2), observed) == "await new-1, new-2; commit"


def test_with_fewer_wanted_of_the_same_deployment_those_that_are_up_and_came_first_stay() -> None:
    observed = [replica(1, deployment_id=NEW, state=EXITED)] + [replica(n, deployment_id=NEW) for n in (3, 2)]
    assert deploying_brief(goal(1, prior=0), observed) == "await new-2; commit; stop new-3; remove new-1, new-3"


def test_after_the_commit_only_retiring_is_left() -> None:
    observed = [*olds(2), replica(3, state=EXITED), replica(4, deployment_id=NEW)]
    assert (
        deploying_brief(goal(1, prior=2), observed, committed=True) == "stop old-1, old-2; remove old-1, old-2, old-3"
    )


def test_rolling_back_starts_the_old_before_it_stops_the_new() -> None:
    observed = [replica(1, state=EXITED), replica(2), replica(3, deployment_id=NEW)]
    assert texts(plan.roll_back(goal(2, prior=2), observed, restore=True).steps) == [
        "start dep_old-1",
        "wait until dep_old-1 is healthy",
        "stop dep_new-3",
        "remove dep_new-3",
    ]


def test_rolling_back_what_cannot_run_side_by_side_stops_the_new_first() -> None:
    wanted = goal(1, prior=1, host_port=443)
    held = wants(wanted.deployment.spec)
    observed = [replica(1, state=EXITED, **held), replica(2, deployment_id=NEW, **held)]
    assert rolling_back_brief(wanted, observed) == "stop new-2; start old-1; await old-1; remove new-2"


def test_rolling_back_without_restoring_takes_away_what_was_stopped_too() -> None:
    observed = [replica(1, state=EXITED), replica(2), replica(3, deployment_id=NEW)]
    assert (
        rolling_back_brief(goal(1, Strategy.INSTANT, prior=2), observed, restore=False)
        == "stop new-3; remove old-1, new-3"
    )


def test_rolling_back_leaves_alone_what_cannot_be_started() -> None:
    observed = [replica(1, state=ContainerState.DEAD), replica(2, deployment_id=NEW, state=CREATED)]
    assert rolling_back_brief(goal(1, prior=1), observed) == "remove new-2"


# Scenarios: any containers of the service, any goal, any moments at which the agent is killed.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """`cuts`: after how many engine calls each attempt is killed, before the one that goes through."""

    wanted: Goal
    replicas: tuple[Container, ...]
    cuts: tuple[int, ...]
    backwards: bool
    exclusive: bool

    def world(self) -> World:
        return World(self.replicas, exclusive_mounts=self.exclusive, backwards=self.backwards)

    @property
    def floor(self) -> int:
        """As many as served when it began, or as are wanted when that is fewer; 0 where the old may stop first."""
        is_start_first = not self.exclusive and self.wanted.deployment.spec.host_port is None
        if not is_start_first or self.wanted.deployment.strategy is Strategy.INSTANT:
            return 0
        return min(sum(replica.is_up for replica in self.replicas), self.wanted.replicas)


STATES = st.sampled_from([RUNNING, RUNNING, RUNNING, EXITED, CREATED, PAUSED, *ContainerState])
CUTS = st.lists(st.integers(0, 12), max_size=3).map(tuple)


@st.composite
def scenarios(draw: Callable[..., Any]) -> Scenario:
    shared = draw(st.sampled_from(["nothing", "port", "volume"]))
    count = draw(st.integers(0, 1 if shared == "port" else 4))
    needs: dict[str, dict[str, Any]] = {"nothing": {}, "port": {"host_port": 443}, "volume": {"volumes": (DATA,)}}
    wanted = goal(count, draw(st.sampled_from(Strategy)), **needs[shared])
    exclusive = shared == "volume" and count <= 1
    replicas: list[Container] = []
    holder = None
    for number in range(1, draw(st.integers(0, 4)) + draw(st.integers(0, 2)) + 1):
        state = draw(STATES)
        deployment_id = draw(st.sampled_from(["dep_old", "dep_old", "dep_older", NEW]))
        held = wants(wanted.deployment.spec)
        if replica(state=state).is_up and (shared == "port" or exclusive):
            # The world before was possible too: one holder of the port, writers of one deployment.
            holder = holder or (number if shared == "port" else deployment_id)
            if holder not in (number, deployment_id):
                state = EXITED
        hash_ = draw(st.sampled_from([HASH, HASH, HASH, "another"]))
        index = draw(st.integers(1, 4))
        made = replica(number, deployment_id=deployment_id, state=state, index=index, spec_hash=hash_, **held)
        replicas.append(made)
    return Scenario(
        wanted=wanted, replicas=tuple(replicas), cuts=draw(CUTS), backwards=draw(st.booleans()), exclusive=exclusive
    )


def carry_out(
    world: World,
    planner: Planner,
    cuts: tuple[int | None, ...],
    wanted: Goal | None = None,
    *,
    until: Callable[[object], bool] = lambda _: False,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Plan and perform, once per cut; `None` goes through. Ends for good before a step that `until` names."""
    check()
    for cut in cuts:
        for step in effects(planner(world))[:cut]:
            if until(step):
                return
            world.perform(step, wanted)
            check()


def deploying(scenario: Scenario) -> Planner:
    return lambda world: plan.deploy(world.goal(scenario.wanted), world.observed(), committed=world.committed)


def rolling_back(scenario: Scenario, *, restore: bool = True) -> Planner:
    return lambda world: plan.roll_back(world.goal(scenario.wanted), world.observed(), restore=restore)


@quick
@given(scenarios())
def test_a_deploy_killed_anywhere_reaches_its_goal_and_keeps_serving(scenario: Scenario) -> None:
    world, wanted = scenario.world(), scenario.wanted

    def check() -> None:
        assert world.serving() >= scenario.floor
        if not world.committed:
            assert world.prior <= world.replicas.keys(), "before the commit nothing that served is removed"
            if scenario.floor and wanted.deployment.strategy in (Strategy.BLUE_GREEN, Strategy.CANARY):
                assert world.prior <= world.up()

    carry_out(world, deploying(scenario), (*scenario.cuts, None), wanted, check=check)
    assert world.committed
    assert len(world.replicas) == wanted.replicas
    for container_id, found in world.replicas.items():
        assert (found.deployment_id, found.spec_hash) == (NEW, HASH)
        assert container_id in world.proven
    assert effects(deploying(scenario)(world)) == [], "a second plan has nothing to do"


@quick
@given(scenarios(), CUTS)
def test_rolling_back_from_anywhere_before_the_commit_gives_back_what_was(
    scenario: Scenario, rollback_cuts: tuple[int, ...]
) -> None:
    world, wanted = scenario.world(), scenario.wanted
    strangers = {r.container_id for r in scenario.replicas if r.deployment_id != NEW}
    carry_out(world, deploying(scenario), scenario.cuts, wanted, until=lambda step: isinstance(step, Commit))
    assume(not world.committed)

    def check() -> None:
        assert world.prior | strangers <= world.replicas.keys()
        if not rollback_cuts:
            assert world.serving() >= scenario.floor

    carry_out(world, rolling_back(scenario), (*rollback_cuts, None), check=check)
    assert world.up() == world.prior
    assert world.replicas.keys() == world.prior | strangers
    assert effects(rolling_back(scenario)(world)) == []


@quick
@given(scenarios(), CUTS)
def test_an_instant_deploy_that_does_not_restore_leaves_only_what_is_up(
    scenario: Scenario, rollback_cuts: tuple[int, ...]
) -> None:
    world, wanted = scenario.world(), scenario.wanted
    carry_out(world, deploying(scenario), scenario.cuts, wanted, until=lambda step: isinstance(step, Commit))
    assume(not world.committed)
    still_up = world.up() & world.prior

    carry_out(world, rolling_back(scenario, restore=False), (*rollback_cuts, None))
    assert world.up() == still_up
    assert not [r for r in world.replicas.values() if r.deployment_id == NEW and r.container_id not in still_up]
    assert world.replicas.keys() & world.prior == still_up


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("of", [{}, {"host_port": 443}, {"volumes": (DATA,)}], ids=["free", "port", "volume"])
def test_every_single_cut_of_a_deploy_can_go_on_and_can_go_back(strategy: Strategy, of: dict[str, Any]) -> None:
    counts = [(1, 1), (1, 0), (0, 1)] if of else [(old, new) for old in range(5) for new in range(5)]
    for old, new in counts:
        wanted = goal(new, strategy, prior=old, **of)
        replicas = tuple(olds(old, **wants(wanted.deployment.spec)))
        for cut in range(len(effects(plan.deploy(wanted, replicas))) + 1):
            scenario = Scenario(wanted=wanted, replicas=replicas, cuts=(cut,), backwards=False, exclusive=bool(of))
            go_on(scenario)
            go_back(scenario)


def go_on(scenario: Scenario) -> None:
    world = scenario.world()

    def check() -> None:
        assert world.serving() >= scenario.floor

    carry_out(world, deploying(scenario), (*scenario.cuts, None), scenario.wanted, check=check)
    assert world.up() == world.proven == world.replicas.keys()
    assert len(world.replicas) == scenario.wanted.replicas


def go_back(scenario: Scenario) -> None:
    world = scenario.world()
    carry_out(world, deploying(scenario), scenario.cuts, scenario.wanted)
    if world.committed:
        return

    def check() -> None:
        assert world.serving() >= scenario.floor

    carry_out(world, rolling_back(scenario), (None,), check=check)
    assert world.up() == world.prior == world.replicas.keys()


def scaling(scenario: Scenario, pace: Pace) -> Planner:
    return lambda world: plan.scale(world.goal(scenario.wanted), world.observed(), pace=pace, committed=world.committed)


@quick
@given(scenarios(), st.sampled_from(Pace))
def test_a_scale_killed_anywhere_runs_exactly_what_is_wanted(scenario: Scenario, pace: Pace) -> None:
    world, wanted = scenario.world(), scenario.wanted
    assume(wanted.deployment.spec.host_port is None and not scenario.exclusive)
    fresh = {r.container_id: r for r in scenario.replicas if _is_fresh(r)}
    others = {r.container_id: r for r in scenario.replicas if not _is_fresh(r)}
    floor = min(len(world.prior & fresh.keys()), wanted.replicas)

    def check() -> None:
        assert len(world.proven & fresh.keys()) >= floor

    carry_out(world, scaling(scenario, pace), (*scenario.cuts, None), wanted, check=check)
    assert world.committed
    assert {i: r for i, r in world.replicas.items() if i in others} == others
    found = {i for i in world.replicas if i not in others}
    assert len(found) == wanted.replicas
    assert found <= world.up()
    if len(fresh) <= wanted.replicas:
        assert found <= world.proven
        assert fresh.keys() <= found


@quick
@given(scenarios(), st.sampled_from(Pace), CUTS)
def test_rolling_back_a_scale_removes_what_it_added_and_nothing_else(
    scenario: Scenario, pace: Pace, rollback_cuts: tuple[int, ...]
) -> None:
    world, wanted = scenario.world(), scenario.wanted
    assume(wanted.deployment.spec.host_port is None and not scenario.exclusive)
    world.prior = frozenset(world.replicas)
    carry_out(world, scaling(scenario, pace), scenario.cuts, wanted, until=lambda step: isinstance(step, Commit))

    carry_out(world, lambda at: plan.roll_back_scale(at.goal(wanted), at.observed()), (*rollback_cuts, None))
    assert world.replicas.keys() == world.prior
    assert world.prior >= world.up() >= {r.container_id for r in scenario.replicas if r.is_up}


def _is_fresh(found: Container) -> bool:
    usable = found.state not in (*GOING, PAUSED)
    return usable and found.deployment_id == NEW and found.spec_hash == HASH


def test_scaling_up_brings_replicas_together_or_one_by_one() -> None:
    observed = [replica(2, deployment_id=NEW)]
    assert brief(plan.scale(goal(3), observed, pace=Pace.IMMEDIATE).steps) == (
        "prepare; create replica 1; create replica 3; start replica 1; start replica 3; "
        "await new-2, replica 1, replica 3; commit"
    )
    assert brief(plan.scale(goal(2), observed, pace=Pace.ROLLING).steps) == "prepare; await new-2; new 1; commit"
    assert plan.scale(goal(1), observed, pace=Pace.ROLLING, committed=True).steps == ()


def test_scaling_down_takes_what_is_down_and_then_the_newest_and_is_decided_first() -> None:
    observed = [replica(n, deployment_id=NEW) for n in (1, 2, 3)] + [replica(4, deployment_id=NEW, state=EXITED)]
    expected = [COMMIT, "stop dep_new-3", "remove dep_new-3, dep_new-4"]
    assert texts(plan.scale(goal(2), observed, pace=Pace.ROLLING).steps) == expected
    assert texts(plan.scale(goal(2), observed[::-1], pace=Pace.IMMEDIATE, committed=True).steps) == expected


@pytest.mark.parametrize("committed", [False, True])
def test_scaling_down_brings_back_what_should_run_whether_it_was_killed_or_not(committed: bool) -> None:
    observed = [replica(n, deployment_id=NEW, state=EXITED) for n in (1, 2)]
    assert (
        brief(plan.scale(goal(1), observed, pace=Pace.IMMEDIATE, committed=committed).steps)
        == "commit; start new-1; remove new-2"
    )


def test_stopping_keeps_every_container_down_also_when_the_engine_starts_again() -> None:
    observed = [
        replica(1),
        replica(2, state=CREATED),
        replica(3, state=ContainerState.REMOVING),
        replica(4, state=PAUSED),
    ]
    assert texts(plan.stop(observed, remove=False).steps) == [COMMIT, "stop dep_old-1, dep_old-2, dep_old-4"]
    assert texts(plan.stop(observed, remove=True).steps) == [
        COMMIT,
        "stop dep_old-1, dep_old-4",
        "remove dep_old-1, dep_old-2, dep_old-3, dep_old-4",
        "forget the service's kept deployments and images",
    ]
    assert texts(plan.stop([], remove=False).steps) == [COMMIT]


RELEASE = ("bin/migrate", "up  now")
RUN, TIDY = "run the release command: bin/migrate 'up now'", "remove the container of the release command"


@pytest.mark.parametrize("strategy", [Strategy.ROLLING, Strategy.INSTANT, Strategy.BLUE_GREEN])
def test_a_release_command_runs_before_anything_starts_or_stops_and_its_container_goes_last(strategy: Strategy) -> None:
    # Stop-first by a shared volume, too: nothing of the old version is stopped for a release that fails.
    wanted = dataclasses.replace(goal(1, strategy, prior=1, release_command=RELEASE, volumes=(DATA,)), releases=True)
    steps = texts(plan.deploy(wanted, olds(1, writable_mounts=frozenset({"data"}))).steps)
    assert steps[:4] == [*PREPARE, "ensure volume data", RUN]
    assert steps[-1] == TIDY
    assert steps.count(RUN) == steps.count(TIDY) == 1


def test_a_deploy_taken_up_again_after_its_release_does_not_run_it_again() -> None:
    wanted = dataclasses.replace(goal(2, prior=1, release_command=RELEASE), releases=True)
    steps = texts(plan.deploy(wanted, [*olds(1), replica(2, deployment_id=NEW, index=1)]).steps)
    assert RUN not in steps
    assert steps[-1] == TIDY
    assert texts(plan.deploy(wanted, olds(1), committed=True).steps)[-1] == TIDY


def test_a_rollback_or_a_service_without_one_runs_no_release_command() -> None:
    rollback = goal(1, prior=1, release_command=RELEASE)
    without = dataclasses.replace(goal(1, prior=1), releases=True)
    for wanted in (rollback, without):
        assert not {RUN, TIDY} & {*texts(plan.deploy(wanted, olds(1)).steps)}


def test_undoing_begins_with_the_release_command() -> None:
    wanted = dataclasses.replace(goal(1, prior=1, release_command=RELEASE), releases=True)
    assert texts(plan.roll_back(wanted, olds(1), restore=True).steps) == [TIDY]


def test_a_long_command_is_cut_in_the_plan() -> None:
    wanted = dataclasses.replace(goal(1, release_command=("sh", "-c", "x" * 200)), releases=True)
    [step] = [text for text in texts(plan.deploy(wanted, []).steps) if text.startswith("run the release")]
    assert step.endswith("x…")
    assert len(step) < 120


@quick
@given(scenarios(), st.booleans())
def test_a_stop_killed_anywhere_stops_everything(scenario: Scenario, remove: bool) -> None:
    world = scenario.world()
    carry_out(world, lambda at: plan.stop(at.observed(), remove=remove), (*scenario.cuts, None))
    assert world.up() == set()
    assert world.committed
    if remove:
        assert world.forgotten
        assert not world.replicas
    else:
        assert world.replicas.keys() == {r.container_id for r in scenario.replicas}
        assert world.kept_down == {i for i, r in world.replicas.items() if r.state not in GOING}


def test_restarting_goes_in_order_and_proves_each_before_the_next() -> None:
    observed = [replica(2), replica(1), replica(3, state=EXITED), replica(4, state=ContainerState.DEAD)]
    assert (
        brief(plan.restart(observed, begun_ns=100).steps)
        == "restart old-1; await old-1; restart old-2; await old-2; restart old-3; await old-3; commit"
    )


def test_a_restart_taken_up_again_awaits_those_that_had_their_turn() -> None:
    observed = [replica(1, started_ns=100), replica(2, started_ns=99)]
    assert brief(plan.restart(observed, begun_ns=100).steps) == "await old-1; restart old-2; await old-2; commit"


def test_a_restart_creates_what_is_missing_last() -> None:
    there = [replica(1, deployment_id=NEW), replica(2, deployment_id=NEW, state=ContainerState.DEAD)]
    assert texts(plan.restart(there, begun_ns=100, goal=goal(2)).steps) == [
        "restart dep_new-1",
        "wait until dep_new-1 is healthy",
        *PREPARE,
        "create replica 2",
        "start replica 2",
        "wait until replica 2 is healthy",
        "commit the new version",
    ]
    assert texts(plan.restart(there[:1], begun_ns=100, goal=goal(1)).steps) == [
        "restart dep_new-1",
        "wait until dep_new-1 is healthy",
        "commit the new version",
    ]


@quick
@given(scenarios())
def test_a_restart_killed_anywhere_restarts_each_once_and_has_one_at_a_time_unproven(scenario: Scenario) -> None:
    assume(scenario.wanted.deployment.spec.host_port is None and not scenario.exclusive)
    world = scenario.world()
    begun = world.clock
    restarts: dict[str, int] = {}

    def check() -> None:
        assert len(world.up() - world.proven) <= 1
        for found in world.replicas.values():
            if (found.started_ns or 0) > begun:
                assert restarts.setdefault(found.container_id, found.started_ns or 0) == found.started_ns

    carry_out(world, lambda at: plan.restart(at.observed(), begun_ns=begun), (*scenario.cuts, None), check=check)
    assert world.committed
    expected = {r.container_id for r in scenario.replicas if r.state not in GOING}
    assert world.up() == world.proven == restarts.keys() == expected
