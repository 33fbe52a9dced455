"""What the containers alone tell of the desired state."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import pytest

from syntra.agent.reconciler.rebuild import desired_from
from syntra.model.container import ContainerState
from syntra.model.ids import ServiceId
from syntra.runtime.runtime import Surveyed
from tests.model.samples import deployment
from tests.runtime.containers.world import replica

EXITED = ContainerState.EXITED


def seen(
    number: int, of: str = "dep_1", *, service: str = "svc_123", readable: bool = True, **changes: Any
) -> Surveyed:
    """Container `number` of a deployment; `readable` says whether its labels tell the spec."""
    return Surveyed(
        replica=replica(number, deployment_id=of, service_id=ServiceId(service), **changes),
        deployment=deployment(of, service_id=service) if readable else None,
    )


def rows(observed: Sequence[Surveyed]) -> list[tuple[str, str, int, bool]]:
    return [(r.service_id, r.deployment_id, r.replicas, r.stopped) for r in desired_from(observed)[1]]


def test_nothing_tells_of_nothing() -> None:
    assert desired_from([]) == ([], [])


def test_what_runs_is_what_is_wanted() -> None:
    before = time.time()
    deployments, found = desired_from([seen(1), seen(2), seen(3, state=EXITED)])
    assert deployments == [deployment("dep_1")]
    (row,) = found
    assert (row.service_id, row.deployment_id, row.replicas, row.stopped) == ("svc_123", "dep_1", 2, False)
    assert before <= row.at <= time.time()


def test_a_service_of_which_nothing_runs_was_stopped_and_keeps_its_count() -> None:
    assert rows([seen(1, state=EXITED), seen(2, state=ContainerState.CREATED)]) == [("svc_123", "dep_1", 2, True)]


def test_of_two_deployments_the_one_that_serves_more_is_current() -> None:
    # A kill in the middle of a rolling deploy.
    observed = [seen(1, "dep_old"), seen(2, "dep_old"), seen(3, "dep_new"), seen(4, "dep_new", state=EXITED)]
    assert rows(observed) == [("svc_123", "dep_old", 2, False)]
    assert rows(observed[::-1]) == [("svc_123", "dep_old", 2, False)]


@pytest.mark.parametrize("state", [ContainerState.RUNNING, EXITED])
def test_among_equals_the_newest_is_current(state: ContainerState) -> None:
    observed = [seen(2, "dep_new", state=state), seen(1, "dep_old", state=state)]
    for order in (observed, observed[::-1]):
        assert [row[1] for row in rows(order)] == ["dep_new"]


def test_every_readable_deployment_is_kept_for_a_rollback_in_the_order_they_were_made() -> None:
    observed = [
        seen(4, "dep_failed", state=EXITED),
        seen(3, "dep_current"),
        seen(2, "dep_before", state=EXITED),
        seen(1, "dep_oldest", state=EXITED),
    ]
    for order in (observed, observed[::-1]):
        deployments, _ = desired_from(order)
        kept = [found.deployment_id for found in deployments]
        assert kept == ["dep_oldest", "dep_before", "dep_failed", "dep_current"]


def test_services_are_told_apart() -> None:
    observed = [seen(1, service="web"), seen(2, service="api"), seen(3, service="web")]
    assert rows(observed) == [("api", "dep_1", 1, False), ("web", "dep_1", 2, False)]


def test_one_readable_container_tells_for_its_deployment() -> None:
    deployments, found = desired_from([seen(1, readable=False), seen(2)])
    assert deployments == [deployment("dep_1")]
    assert found[0].replicas == 2


def test_containers_that_tell_no_spec_are_left_alone_and_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        deployments, found = desired_from([seen(1, "dep_odd", readable=False), seen(2, "dep_odd", readable=False)])
        assert (deployments, found) == ([], [])
        assert rows([seen(1, "dep_odd", readable=False), seen(2, "dep_1")]) == [("svc_123", "dep_1", 1, False)]
    told = [(r.getMessage(), getattr(r, "deployment_id", None)) for r in caplog.records]
    assert told == [("containers without a readable spec are ignored", "dep_odd")] * 2
