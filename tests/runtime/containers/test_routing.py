"""Traffic in plans: published once proven, withdrawn before anything stops, and nothing else changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syntra.model.ids import ContainerId
from syntra.runtime.containers.routing import with_traffic
from syntra.runtime.containers.steps import (
    AwaitHealthy,
    CreateReplica,
    Publish,
    RemoveReplicas,
    RestartReplica,
    Shift,
    StartReplica,
    StopReplicas,
    Withdraw,
)
from syntra.runtime.runtime import Commit, Hold, Plan, Ref, Step


def named(number: int) -> Ref:
    return Ref(container_id=ContainerId(f"c{number}"), name=f"web-{number}", index=number)


def new(index: int) -> Ref:
    return Ref(name=f"replica {index}", index=index)


STEPS = st.one_of(
    st.builds(CreateReplica, index=st.integers(1, 3)),
    st.builds(StartReplica, replica=st.builds(new, st.integers(1, 3))),
    st.builds(AwaitHealthy, replicas=st.just((new(1),))),
    st.just(Commit()),
    st.builds(StopReplicas, replicas=st.tuples(st.builds(named, st.integers(1, 3)))),
    st.builds(RestartReplica, replica=st.builds(named, st.integers(1, 3))),
    st.builds(RemoveReplicas, replicas=st.tuples(st.builds(named, st.integers(1, 3)))),
)


@given(st.lists(STEPS, max_size=12), st.integers(0, 4))
def test_every_stop_is_withdrawn_first_and_every_proof_is_published(steps: list[Step], serving: int) -> None:
    plan = with_traffic(Plan(steps=tuple(steps), notes=("a note",)), serving=serving)
    assert [step for step in plan.steps if not isinstance(step, Publish | Withdraw)] == steps
    assert plan.notes == ("a note",)
    for before, step in zip((None, *plan.steps), plan.steps, strict=False):
        if isinstance(step, StopReplicas):
            assert before == Withdraw(replicas=step.replicas)
        if isinstance(step, RestartReplica):
            assert (before == Withdraw(replicas=(step.replica,))) is (serving > 1)
        if isinstance(step, Publish):
            assert isinstance(before, AwaitHealthy)
            assert before.replicas == step.replicas


def test_a_rolling_turn_reads_like_what_it_does() -> None:
    plan = Plan(steps=(AwaitHealthy(replicas=(new(1), new(2))), StopReplicas(replicas=(named(7), named(8)))))
    assert [str(step) for step in with_traffic(plan, serving=2).steps] == [
        "wait until replica 1, replica 2 are healthy",
        "route requests to replica 1, replica 2",
        "drain web-7, web-8",
        "stop web-7, web-8",
    ]


def test_what_a_canary_awaits_is_published_with_its_share_and_never_without() -> None:
    steps: tuple[Step, ...] = (
        AwaitHealthy(replicas=(new(1),)),
        Shift(replicas=(new(1),), percent=10),
        Hold(number=1, replicas=(new(1),), percent=10, secs=60),
        AwaitHealthy(replicas=(new(1), new(2))),
        Shift(replicas=(new(1), new(2)), percent=100),
        Commit(),
    )
    retiring = StopReplicas(replicas=(named(7),))
    assert with_traffic(Plan(steps=(*steps, retiring)), serving=2).steps == (
        *steps,
        Withdraw(replicas=retiring.replicas),
        retiring,
    )
