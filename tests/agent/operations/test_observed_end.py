"""The sentence about what runs at the end of an operation is made of what was seen, and of nothing else."""

from __future__ import annotations

from syntra.agent.journal.rows import ServiceRow
from syntra.agent.operations.observed_end import after_failure, running
from syntra.model.container import ContainerState
from syntra.model.ids import DeploymentId, ServiceId
from tests.runtime.containers.world import replica

OLD = DeploymentId(replica(1).deployment_id)
EXITED = ContainerState.EXITED
PRIOR = frozenset(replica(number).container_id for number in (1, 2))


def row(*, replicas: int = 2, stopped: bool = False) -> ServiceRow:
    return ServiceRow(service_id=ServiceId("svc_123"), deployment_id=OLD, replicas=replicas, stopped=stopped, at=0.0)


def test_an_earlier_version_that_is_seen_to_run_is_restored() -> None:
    end = after_failure(row(), PRIOR, [replica(1), replica(2)], is_same_version=False)
    assert (end.sentence, end.restored) == ("the previous version is running (2 of 2 replicas)", True)
    end = after_failure(row(replicas=1), frozenset(), [replica(1)], is_same_version=True)
    assert (end.sentence, end.restored) == ("the current version is running (1 of 1 replica)", False)


def test_half_of_it_is_not() -> None:
    end = after_failure(row(), PRIOR, [replica(1), replica(2, state=EXITED)], is_same_version=False)
    assert (end.sentence, end.restored) == ("the previous version is running (1 of 2 replicas)", False)


def test_one_that_was_down_before_need_not_run() -> None:
    prior = frozenset({replica(1).container_id})
    end = after_failure(row(), prior, [replica(1), replica(2, state=EXITED)], is_same_version=False)
    assert (end.sentence, end.restored) == ("the previous version is running (1 of 2 replicas)", True)


def test_where_nothing_runs_it_says_why() -> None:
    down = [replica(1, state=EXITED, exit_code=7), replica(2, state=ContainerState.CREATED)]
    for known, prior, seen, why in (
        (None, frozenset(), [], "the service has no earlier version"),
        (row(stopped=True), frozenset(), down, "the service was stopped before"),
        (row(), PRIOR, [], "the containers of the previous version are gone"),
        (row(), PRIOR, down, f"{down[0].name} is exited with code 7, {down[1].name} is created"),
    ):
        end = after_failure(known, prior, seen, is_same_version=False)
        assert (end.sentence, end.restored) == (f"nothing is running: {why}", False)


def test_what_is_left_of_the_failed_version_is_counted() -> None:
    left = replica(3, deployment_id="dep_new")
    end = after_failure(row(), PRIOR, [replica(1), replica(2), left], is_same_version=False)
    assert end.sentence == "the previous version is running (2 of 2 replicas); 1 of the failed version still runs"
    end = after_failure(row(), PRIOR, [left], is_same_version=False)
    assert end.sentence == "the previous version is not running; 1 of the failed version still runs"
    assert running([replica(1), left], DeploymentId("dep_new")) == 1
