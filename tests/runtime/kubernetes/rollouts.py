"""Objects of a rollout as a cluster has them: a Deployment, its ReplicaSets, their pods and events."""

from __future__ import annotations

from typing import Any

from syntra.runtime.kubernetes.verdict import Verdict, judge
from syntra.utils.timestamps import format_secs

NOW = 1_800_000_000.0
SINCE = NOW - 100.0
DEPLOYMENT = "dep_2"

Objects = dict[str, Any]


def at(secs_ago: float) -> str:
    """A time before NOW, as the API has it."""
    return format_secs(NOW - secs_ago)


def template(deployment_id: str, restarted_at: str = "") -> Objects:
    annotations = {"syntra.dev/deployment-id": deployment_id}
    if restarted_at:
        annotations["syntra.dev/restarted-at"] = restarted_at
    return {"metadata": {"annotations": annotations}}


def workload(deployment_id: str = DEPLOYMENT, *, wanted: int = 2, restarted_at: str = "", **status: Any) -> Objects:
    """A Deployment whose controller has seen its newest spec; `status` replaces what says that nothing is ready."""
    return {
        "kind": "Deployment",
        "metadata": {"name": "api", "uid": "d", "generation": 2},
        "spec": {
            "replicas": wanted,
            "progressDeadlineSeconds": 300,
            "template": template(deployment_id, restarted_at),
        },
        "status": {"observedGeneration": 2, "replicas": wanted + 1, "updatedReplicas": 1, **status},
    }


def done(wanted: int = 2, **status: Any) -> Objects:
    counts = {"replicas": wanted, "updatedReplicas": wanted, "availableReplicas": wanted}
    return workload(wanted=wanted, **{**counts, **status})


def replica_set(
    uid: str = "r2", deployment_id: str = DEPLOYMENT, *, revision: int = 2, restarted_at: str = "", **status: Any
) -> Objects:
    return {
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"api-{uid}",
            "uid": uid,
            "labels": {"pod-template-hash": uid},
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
            "ownerReferences": [{"kind": "Deployment", "name": "api", "uid": "d"}],
        },
        "spec": {"template": template(deployment_id, restarted_at)},
        "status": status,
    }


def pod(
    name: str = "api-r2-x",
    *,
    of: str = "r2",
    conditions: list[Objects] | None = None,
    is_deleted: bool = False,
    born: float = 90.0,
    init: list[Objects] | None = None,
    **container: Any,
) -> Objects:
    """A pod with one container; `container` is its status."""
    metadata: Objects = {
        "name": name,
        "uid": f"uid-{name}",
        "labels": {"pod-template-hash": of},
        "ownerReferences": [{"kind": "ReplicaSet", "uid": of}],
        "creationTimestamp": at(born),
    }
    if is_deleted:
        metadata["deletionTimestamp"] = at(1)
    statuses = [{"name": "service", "image": "r.example/shop/api:2", "restartCount": 0, **container}]
    return {
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "containers": [{"name": "service", "readinessProbe": {"periodSeconds": 5, "failureThreshold": 3}}],
        },
        "status": {
            "phase": "Pending",
            "conditions": conditions or [],
            "containerStatuses": statuses if container else [],
            "initContainerStatuses": init or [],
        },
    }


def ready(name: str) -> Objects:
    running = {"running": {"startedAt": at(50)}}
    return pod(name, conditions=[{"type": "Ready", "status": "True"}], state=running, ready=True)


def waiting(reason: str, message: str = "", **around: Any) -> Objects:
    """A pod whose container waits."""
    return pod(state={"waiting": {"reason": reason, "message": message}}, **around)


def crashed(restarts: int, reason: str = "Error", exit_code: int = 3, message: str = "", **around: Any) -> Objects:
    """A pod whose container exited and is not started yet."""
    last = {"terminated": {"reason": reason, "exitCode": exit_code, "message": message}}
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
    return pod(state=state, lastState=last, restartCount=restarts, **around)


def event(
    reason: str,
    message: str = "",
    *,
    about: str = "api-r2-x",
    kind: str = "Warning",
    first: float = 50.0,
    last: float = 1.0,
    count: int = 1,
) -> Objects:
    return {
        "kind": "Event",
        "type": kind,
        "reason": reason,
        "message": message,
        "count": count,
        "firstTimestamp": at(first),
        "lastTimestamp": at(last),
        "involvedObject": {"name": about, "uid": f"uid-{about}"},
    }


def verdict(
    deployment: Objects | None = None,
    *,
    pods: list[Objects] | None = None,
    events: list[Objects] | None = None,
    replica_sets: list[Objects] | None = None,
    since: float = SINCE,
    deployment_id: str = DEPLOYMENT,
) -> Verdict:
    return judge(
        workload() if deployment is None else deployment,
        [replica_set(), replica_set("r1", "dep_1", revision=1)] if replica_sets is None else replica_sets,
        pods or [],
        events or [],
        now=NOW,
        since=since,
        deployment_id=deployment_id,
    )
