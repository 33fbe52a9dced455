"""Whether a rollout is done, has failed, or needs more time. Pure.

Done is what `kubectl rollout status` calls done (kubectl, polymorphichelpers/rollout_status.go). Failed is decided by
the pods of the new ReplicaSet, in seconds, and not only by the progress deadline, which starts again at each progress.
"""

from __future__ import annotations

from collections.abc import Sequence

from syntra.runtime.kubernetes import names
from syntra.runtime.kubernetes.objects import (
    Object,
    annotation,
    condition,
    integer,
    items,
    label,
    name,
    seconds,
    text,
    texts,
    value,
)
from syntra.runtime.kubernetes.pod_events import of_object, one_line, told
from syntra.runtime.kubernetes.pod_trouble import Trouble, explain, is_running_unready, trouble, unhealthy, words_of
from syntra.utils.frozen import frozen

REFUSED_PODS_SECS = 10.0
"""A quota or a webhook may refuse pods for so long."""

_HASH = "pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"
_MAX_DETAILS = 4000


@frozen
class Waiting:
    """More time may help; `text` says how far it is."""

    text: str


@frozen
class Done:
    """All replicas are of the deployment, and available; no other is left."""


@frozen
class Failed:
    """More time does not help. `pod` is the pod whose log may explain it, or empty. `details`: exits and events."""

    code: str
    sentence: str
    pod: str
    details: str


Verdict = Waiting | Done | Failed


def judge(
    workload: Object,
    replica_sets: Sequence[Object],
    pods: Sequence[Object],
    events: Sequence[Object],
    *,
    now: float,
    since: float,
    deployment_id: str,
) -> Verdict:
    """Judge the rollout of a deployment, which began at `since`; times in epoch seconds.

    `replica_sets`, `pods` and `events` may be more than the workload's own, but are of its namespace.
    """
    if _deployment_id(workload) != deployment_id:
        return Waiting(text="the cluster has not taken the deployment yet")
    if integer(workload, "metadata", "generation") > integer(workload, "status", "observedGeneration"):
        return Waiting(text="the cluster has not begun with the deployment yet")
    newest = _newest(workload, replica_sets)
    own = _pods_of(newest, pods) if newest else []
    own_events = {name(pod): of_object(events, pod) for pod in own}
    troubles = [
        (pod, found) for pod in own if (found := trouble(pod, own_events[name(pod)], now=now, since=since)) is not None
    ]
    for pod, found in troubles:
        if found.is_final:
            return _failed(found, pod, own_events[name(pod)])
    # The counts may be older than a pod that crashed since.
    if _is_done(workload) and not troubles:
        return Done()
    refused = _refused_pods(workload, newest, events, now=now, since=since)
    if refused is not None:
        return refused
    progressing = condition(workload, "Progressing")
    if text(progressing, "reason") == "ProgressDeadlineExceeded":
        return _exceeded(workload, own, troubles, own_events)
    return Waiting(text=_progress(workload, own, troubles))


def _deployment_id(obj: Object) -> str:
    """A template's annotation: a ReplicaSet copies its own annotations from the Deployment at each rollback."""
    return texts(obj, "spec", "template", "metadata", "annotations").get(names.DEPLOYMENT_ID, "")


def _wanted(workload: Object) -> int:
    return integer(workload, "spec", "replicas", default=1)


def _is_done(workload: Object) -> bool:
    updated = integer(workload, "status", "updatedReplicas")
    return (
        text(condition(workload, "Progressing"), "reason") != "ProgressDeadlineExceeded"
        and updated >= _wanted(workload)
        and integer(workload, "status", "replicas") <= updated
        and integer(workload, "status", "availableReplicas") >= updated
    )


def _newest(workload: Object, replica_sets: Sequence[Object]) -> Object | None:
    """The ReplicaSet with the workload's template. A restart makes another one for the same deployment."""
    own = [one for one in replica_sets if _is_owned(one, workload) and _deployment_id(one) == _deployment_id(workload)]
    restarted = _restarted_at(workload)
    same = [one for one in own if _restarted_at(one) == restarted]
    return max(same, key=_revision, default=None)


def _restarted_at(obj: Object) -> str:
    return texts(obj, "spec", "template", "metadata", "annotations").get(names.RESTARTED_AT, "")


def _revision(replica_set: Object) -> int:
    found = annotation(replica_set, _REVISION)
    return int(found) if found.isdecimal() else 0


def _is_owned(obj: Object, owner: Object) -> bool:
    uid = text(owner, "metadata", "uid")
    return any(text(one, "uid") == uid for one in items(obj, "metadata", "ownerReferences"))


def _pods_of(replica_set: Object, pods: Sequence[Object]) -> list[Object]:
    """The pods of a ReplicaSet that are not being deleted, by name."""
    template = label(replica_set, _HASH)
    own = [
        pod
        for pod in pods
        if (_is_owned(pod, replica_set) or (template and label(pod, _HASH) == template and _owner_is_unknown(pod)))
        and value(pod, "metadata", "deletionTimestamp") is None
    ]
    return sorted(own, key=name)


def _owner_is_unknown(pod: Object) -> bool:
    return not items(pod, "metadata", "ownerReferences")


def _refused_pods(
    workload: Object, newest: Object | None, events: Sequence[Object], *, now: float, since: float
) -> Failed | None:
    """A quota, a policy or a webhook refuses the pods, so that there is none to ask."""
    failure = condition(newest, "ReplicaFailure") or condition(workload, "ReplicaFailure")
    if text(failure, "status") != "True":
        return None
    if now - max(since, seconds(failure, "lastTransitionTime") or since) < REFUSED_PODS_SECS:
        return None
    message = one_line(text(failure, "message"))
    return Failed(
        code="CREATE_FAILED",
        sentence=f"cannot create pods of {name(workload)}: {message}; correct the service, or what refuses them",
        pod="",
        details=told(of_object(events, newest) if newest else []),
    )


def _failed(found: Trouble, pod: Object, events: Sequence[Object]) -> Failed:
    return Failed(code=found.code, sentence=found.sentence, pod=name(pod), details=explain(pod, events)[-_MAX_DETAILS:])


def _exceeded(
    workload: Object,
    pods: Sequence[Object],
    troubles: Sequence[tuple[Object, Trouble]],
    events: dict[str, list[Object]],
) -> Failed:
    """The progress deadline has passed; the pods say why."""
    for pod, found in troubles:
        return _failed(found, pod, events[name(pod)])
    limit = integer(workload, "spec", "progressDeadlineSeconds", default=600)
    for pod in pods:
        if is_running_unready(pod):
            return _failed(
                unhealthy(pod, events[name(pod)], f"it is not ready after {limit} s"), pod, events[name(pod)]
            )
    waiting = next((pod for pod in pods if words_of(pod)), None)
    said = f"{name(waiting)} is {words_of(waiting)}" if waiting else "the cluster does not say why"
    return Failed(
        code="START_FAILED",
        sentence=f"cannot roll out {name(workload)}: no progress for {limit} s, {said}; see the cluster's events",
        pod=name(waiting) if waiting else "",
        details=explain(waiting, events[name(waiting)])[-_MAX_DETAILS:] if waiting else "",
    )


def _progress(workload: Object, pods: Sequence[Object], troubles: Sequence[tuple[Object, Trouble]]) -> str:
    wanted = _wanted(workload)
    updated = integer(workload, "status", "updatedReplicas")
    ready = sum(text(condition(pod, "Ready"), "status") == "True" for pod in pods)
    if updated >= wanted and ready >= wanted and integer(workload, "status", "replicas") > updated:
        count = integer(workload, "status", "replicas") - updated
        return f"{ready}/{wanted} replicas are ready; {count} old {'one stops' if count == 1 else 'ones stop'}"
    found = f"{ready}/{wanted} replicas are ready"
    if troubles:
        pod, first = troubles[0]
        return f"{found}; {name(pod)}: {first.words}"
    waiting = next((pod for pod in pods if words_of(pod)), None)
    return f"{found}; {name(waiting)}: {words_of(waiting)}" if waiting else found
