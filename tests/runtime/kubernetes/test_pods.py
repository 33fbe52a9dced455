"""Pods as replicas: what their status says, their numbers, and their ends."""

from __future__ import annotations

from typing import Any

from syntra.model.ids import ContainerId, DeploymentId
from syntra.model.status import ReplicaStatus
from syntra.runtime.kubernetes.exits import ExitTracker
from syntra.runtime.kubernetes.pods import Indexes, PodReplica, pod_id, pod_replica, replicas, split_id

MARKS = {"syntra.dev/service": "svc", "syntra.dev/deployment-id": "d1"}


def pod(name: str = "web-1", *, born: int = 10, leaves: bool = False, **about: Any) -> dict[str, Any]:
    """A pod of the agent's; `about` is the status of its container, and `phase`, `conditions`, `annotations`."""
    phase, conditions = about.pop("phase", "Running"), about.pop("conditions", [])
    metadata: dict[str, Any] = {
        "namespace": "shop",
        "name": name,
        "annotations": {**MARKS, **about.pop("annotations", {})},
        "creationTimestamp": f"2026-01-01T00:00:{born:02d}Z",
    }
    if leaves:
        metadata["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    spec = about.pop("spec", {"containers": [{"name": "service"}]})
    statuses = [{"name": "service", "restartCount": 0, **about}]
    return {
        "metadata": metadata,
        "spec": spec,
        "status": {"phase": phase, "conditions": conditions, "containerStatuses": statuses},
    }


RUNS = {"running": {"startedAt": "2026-01-01T00:00:20Z"}}
READY = [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:25Z"}]


def replica(**about: Any) -> PodReplica:
    found = pod_replica(pod(**about), Indexes())
    assert found is not None
    return found


def test_a_pod_that_serves() -> None:
    found = replica(state=RUNS, conditions=READY)
    assert (found.container_id, found.service_id, found.deployment_id) == ("shop/web-1", "svc", "d1")
    assert found.is_running and found.is_ready and found.is_up and found.status is ReplicaStatus.RUNNING
    assert found.started_ns is not None and found.started_ns - found.created_ns == 10 * 10**9


def test_a_pod_that_is_leaving_neither_runs_nor_is_ready() -> None:
    found = replica(state=RUNS, conditions=READY, leaves=True)
    assert not (found.is_running or found.is_ready or found.is_up) and found.state_name == "Terminating"


def test_why_a_pod_does_not_run() -> None:
    image = replica(phase="Pending", state={"waiting": {"reason": "ImagePullBackOff", "message": "not found"}})
    assert (image.status, image.reason, image.message, image.is_up) == (
        ReplicaStatus.ERROR,
        "ImagePullBackOff",
        "not found",
        False,
    )
    last = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    loop = replica(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=last, restartCount=2)
    assert (loop.status, loop.last_exit_code, loop.last_oom_killed) == (ReplicaStatus.RESTARTING, 137, True)
    unplaced = replica(
        phase="Pending",
        conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}],
    )
    assert (unplaced.status, unplaced.state_name, unplaced.message) == (
        ReplicaStatus.STOPPED,
        "Unschedulable",
        "0/1 nodes",
    )


def test_what_is_no_replica_is_in_no_list() -> None:
    helper = pod("release")
    helper["metadata"]["labels"] = {"syntra.dev/kind": "release"}
    stranger = pod("other")
    stranger["metadata"]["annotations"] = {}
    assert replicas([helper, stranger, pod(state=RUNS)], Indexes()) == [*replicas([pod(state=RUNS)], Indexes())]
    assert pod_replica(helper, Indexes()) is None


def test_a_number_stays_with_its_pod_and_a_new_pod_gets_the_first_free_one() -> None:
    indexes = Indexes()
    first = replicas([pod("c", born=3), pod("a", born=1), pod("b", born=2)], indexes)
    assert [(one.name, one.index) for one in first] == [("a", 1), ("b", 2), ("c", 3)]
    later = replicas([pod("c", born=3), pod("d", born=9), pod("b", born=2, leaves=True)], indexes)
    assert {one.name: one.index for one in later} == {"b": 0, "c": 3, "d": 1}
    other = pod("e", born=10, annotations={"syntra.dev/deployment-id": "d2"})
    assert {one.name: one.index for one in replicas([pod("c", born=3), other], indexes)} == {"c": 3, "e": 1}


def test_ids_are_as_kubectl_shows_them() -> None:
    assert split_id(pod_id("shop", "web-1")) == ("shop", "web-1")
    assert split_id(ContainerId("0123456789ab")) == ("0123456789ab", "")
    assert Indexes().assign([(ContainerId("x"), DeploymentId("d"))]) == {"x": 1}


def test_exits_are_restarts_and_failures_and_no_deletions() -> None:
    tracker = ExitTracker()
    assert not tracker.drain().complete, "what happened before the start is unknown"
    before = replica(state=RUNS)
    last = {"terminated": {"exitCode": 3, "reason": "Error"}}
    tracker.changed(before, replica(state=RUNS, lastState=last, restartCount=1))
    tracker.changed(before, replica(state=RUNS, lastState=last, restartCount=1, leaves=True))
    tracker.changed(before, replica(phase="Failed", state={"terminated": {"exitCode": 1, "reason": "Error"}}))
    tracker.changed(before, before)
    drained = tracker.drain()
    assert [(one.exit_code, one.oom_killed) for one in drained.ended] == [(3, False), (1, False)] and drained.complete
    assert tracker.drain().ended == ()


def test_restarts_that_were_not_seen_make_the_exits_incomplete() -> None:
    for missed in (True, False):
        tracker = ExitTracker()
        tracker.drain()
        if missed:
            last = {"terminated": {"exitCode": 3}}
            tracker.changed(replica(state=RUNS), replica(state=RUNS, lastState=last, restartCount=3))
        else:
            tracker.gap()
        assert not tracker.drain().complete
        assert tracker.drain().complete
