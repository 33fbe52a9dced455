"""Traffic in plans: published once proven, withdrawn before anything stops, and nothing else changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syntra.model.ids import ContainerId
from syntra.runtime.steps import (
    AwaitHealthy,
    Commit,
    CreateReplica,
    Hold,
    Named,
    Plan,
    Publish,
    RemoveReplicas,
    RestartReplica,
    Shift,
    StartReplica,
    Step,
    StopReplicas,
    Withdraw,
)
from syntra.runtime.traffic import with_traffic


def named(number: int) -> Named:
    return Named(container_id=ContainerId(f"c{number}"), name=f"web-{number}")


STEPS = st.one_of(
    st.builds(CreateReplica, index=st.integers(1, 3)),
    st.builds(StartReplica, replica=st.integers(1, 3), label=st.just("replica 1")),
    st.builds(AwaitHealthy, replicas=st.just((1,)), label=st.just("replica 1 is")),
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
    plan = Plan(
        steps=(
            AwaitHealthy(replicas=(1, 2), label="replica 1, replica 2 are"),
            StopReplicas(replicas=(named(7), named(8))),
        )
    )
    assert [str(step) for step in with_traffic(plan, serving=2).steps] == [
        "wait until replica 1, replica 2 are healthy",
        "publish replica 1, replica 2",
        "withdraw and drain web-7, web-8",
        "stop web-7, web-8",
    ]


def test_what_a_canary_awaits_is_published_with_its_share_and_never_without() -> None:
    steps: tuple[Step, ...] = (
        AwaitHealthy(replicas=(1,), label="replica 1 is"),
        Shift(replicas=(1,), label="replica 1", percent=10),
        Hold(number=1, replicas=(1,), percent=10, secs=60),
        AwaitHealthy(replicas=(1, 2), label="replica 1, replica 2 are"),
        Shift(replicas=(1, 2), label="replica 1, replica 2", percent=100),
        Commit(),
    )
    retiring = StopReplicas(replicas=(named(7),))
    assert with_traffic(Plan(steps=(*steps, retiring)), serving=2).steps == (
        *steps,
        Withdraw(replicas=retiring.replicas),
        retiring,
    )
