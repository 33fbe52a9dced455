"""Pods as replicas. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from syntra.model.fields import Json
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.status import ReplicaStatus
from syntra.runtime.kubernetes.names import CONTAINER, DEPLOYMENT_ID, KIND, SERVICE_ID
from syntra.runtime.kubernetes.objects import (
    Object,
    condition,
    integer,
    is_true,
    items,
    label,
    mapping,
    seconds,
    text,
    value,
)
from syntra.runtime.kubernetes.objects import name as name_of
from syntra.utils.frozen import frozen

# Waiting reasons of a container that the kubelet starts again by itself.
_RESTARTING = frozenset({"CrashLoopBackOff", "RunContainerError"})
_BROKEN = frozenset(
    {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"}
)


@frozen
class PodReplica:
    """A pod of a service, as last observed. `is_ready` is its condition Ready: it receives requests.

    `reason` says why it does not run, in the kubelet's words. `last_exit_code` and `last_oom_killed` are of its
    container's run before the current one.
    """

    container_id: ContainerId
    name: str
    namespace: str
    service_id: ServiceId
    deployment_id: DeploymentId
    index: int
    phase: str
    created_ns: int
    address: str | None = None
    image: str = ""
    node: str = ""
    started_ns: int | None = None
    restart_count: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    last_exit_code: int | None = None
    last_oom_killed: bool = False
    is_running: bool = False
    is_ready: bool = False
    is_leaving: bool = False
    reason: str = ""
    message: str = ""
    has_probe: bool = False
    is_starting: bool = False
    """Its startup probe has not passed yet, or it was never ready."""

    @property
    def addresses(self) -> Mapping[str, str]:
        """Where it answers, by network; a pod has one."""
        return {"pod": self.address} if self.address else {}

    @property
    def is_up(self) -> bool:
        return not self.is_leaving and self.phase in ("Running", "Pending") and self.reason not in _BROKEN

    @property
    def status(self) -> ReplicaStatus:
        if self.is_running:
            return ReplicaStatus.RUNNING
        if self.reason in _BROKEN or self.phase == "Failed":
            return ReplicaStatus.ERROR
        if self.reason in _RESTARTING or (self.phase == "Running" and self.restart_count):
            return ReplicaStatus.RESTARTING
        return ReplicaStatus.STOPPED

    @property
    def state_name(self) -> str:
        return "Terminating" if self.is_leaving else self.reason or self.phase

    @property
    def place(self) -> str:
        return self.node


class Indexes:
    """The numbers of the pods of each deployment, from 1. A pod keeps its number; a new one gets the first free one."""

    def __init__(self) -> None:
        self._known: dict[ContainerId, tuple[DeploymentId, int]] = {}

    def of(self, container_id: ContainerId) -> int:
        """The number of a pod; 0 when it has none."""
        return self._known[container_id][1] if container_id in self._known else 0

    def assign(self, pods: Iterable[tuple[ContainerId, DeploymentId]]) -> Mapping[ContainerId, int]:
        """The number of each pod. `pods` are all that exist, oldest first; the others are forgotten."""
        present = list(pods)
        kept = {pod: self._known[pod] for pod, of in present if pod in self._known and self._known[pod][0] == of}
        used: dict[DeploymentId, set[int]] = {}
        for of, index in kept.values():
            used.setdefault(of, set()).add(index)
        for pod, of in present:
            if pod not in kept:
                taken = used.setdefault(of, set())
                index = next(number for number in range(1, len(taken) + 2) if number not in taken)
                taken.add(index)
                kept[pod] = (of, index)
        self._known = kept
        return {pod: index for pod, (_, index) in kept.items()}


def volume_secrets(owner: Object) -> set[str]:
    """The Secrets that the volumes of a pod template mount."""
    return {text(one, "secret", "secretName") for one in items(owner, "spec", "template", "spec", "volumes")}


def pod_id(namespace: str, name: str) -> ContainerId:
    """How a pod is named to the agent: `namespace/name`, as kubectl shows it."""
    return ContainerId(f"{namespace}/{name}")


def split_id(container_id: ContainerId) -> tuple[str, str]:
    """Namespace and name of a pod; the name is empty when the id is of no pod."""
    namespace, _, name = container_id.partition("/")
    return namespace, name


def replicas(pods: Sequence[Object], indexes: Indexes) -> list[PodReplica]:
    """The replicas among pods, by service, deployment and number. `pods` must be all of the agent's."""
    known = sorted((pod for pod in pods if _is_replica(pod)), key=lambda pod: (_created(pod), name_of(pod)))
    numbers = indexes.assign((_id(pod), _deployment_id(pod)) for pod in known if not _is_leaving(pod))
    found = [_replica(pod, numbers.get(_id(pod), 0)) for pod in known]
    return sorted(found, key=lambda replica: (replica.service_id, replica.created_ns, replica.index))


def pod_replica(pod: Object, indexes: Indexes) -> PodReplica | None:
    """One pod as a replica, with the number that it is known by; None when it is none."""
    return _replica(pod, indexes.of(_id(pod))) if _is_replica(pod) else None


def _replica(pod: Object, index: int) -> PodReplica:
    container = _named(items(pod, "status", "containerStatuses"))
    running, ended = mapping(container, "state", "running"), mapping(container, "state", "terminated")
    last = mapping(container, "lastState", "terminated")
    is_leaving = _is_leaving(pod)
    reason, message = _why(pod, container)
    return PodReplica(
        container_id=_id(pod),
        name=name_of(pod),
        namespace=text(pod, "metadata", "namespace"),
        service_id=ServiceId(text(pod, "metadata", "annotations", SERVICE_ID)),
        deployment_id=_deployment_id(pod),
        index=index,
        phase=text(pod, "status", "phase") or "Unknown",
        created_ns=_created(pod),
        address=text(pod, "status", "podIP") or None,
        image=text(_named(items(pod, "spec", "containers")), "image"),
        node=text(pod, "spec", "nodeName"),
        started_ns=_nanoseconds(running, "startedAt"),
        restart_count=integer(container, "restartCount"),
        exit_code=_code(ended),
        oom_killed=text(ended, "reason") == "OOMKilled",
        last_exit_code=_code(last),
        last_oom_killed=text(last, "reason") == "OOMKilled",
        is_running=bool(running) and not is_leaving,
        is_ready=text(condition(pod, "Ready"), "status") == "True" and not is_leaving,
        is_leaving=is_leaving,
        reason=reason,
        message=message,
        is_starting=_is_starting(pod, container),
        has_probe="readinessProbe" in _named(items(pod, "spec", "containers")),
    )


def _why(pod: Object, container: Object) -> tuple[str, str]:
    """Why a pod does not run: reason and message."""
    scheduled = condition(pod, "PodScheduled")
    if text(scheduled, "status") == "False":
        return text(scheduled, "reason"), text(scheduled, "message")
    for state in (mapping(container, "state", "waiting"), mapping(container, "state", "terminated")):
        if state:
            return text(state, "reason"), text(state, "message")
    return text(pod, "status", "reason"), text(pod, "status", "message")


def _is_starting(pod: Object, container: Object) -> bool:
    has_startup_probe = "startupProbe" in _named(items(pod, "spec", "containers"))
    if has_startup_probe:
        return not is_true(container, "started")
    # The condition keeps the moment of its last change: until the first success it is that of the pod's start.
    changed, started = seconds(condition(pod, "Ready"), "lastTransitionTime"), seconds(pod, "status", "startTime")
    return changed is None or started is None or changed <= started + 1.0


def _named(containers: Sequence[Object]) -> Object:
    return next((one for one in containers if text(one, "name") == CONTAINER), {})


def _is_replica(pod: Object) -> bool:
    return not label(pod, KIND) and bool(text(pod, "metadata", "annotations", SERVICE_ID))


def _is_leaving(pod: Object) -> bool:
    return value(pod, "metadata", "deletionTimestamp") is not None


def _deployment_id(pod: Object) -> DeploymentId:
    return DeploymentId(text(pod, "metadata", "annotations", DEPLOYMENT_ID))


def _created(pod: Object) -> int:
    return _nanoseconds(pod, "metadata", "creationTimestamp") or 0


def _id(pod: Object) -> ContainerId:
    return pod_id(text(pod, "metadata", "namespace"), name_of(pod))


def _nanoseconds(source: Json, *path: str) -> int | None:
    stamp = seconds(source, *path)
    return None if stamp is None else int(stamp * 1e6) * 1000


def _code(source: Json) -> int | None:
    return integer(source, "exitCode") if "exitCode" in mapping(source) else None
