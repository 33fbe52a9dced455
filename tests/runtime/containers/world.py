"""A world of containers in which plans are carried out: what an engine would do with each step, and would refuse."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from syntra.model.container import Container, ContainerState
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.spec import ServiceSpec
from syntra.runtime.containers.planner import Goal
from syntra.runtime.containers.steps import (
    AwaitHealthy,
    CreateReplica,
    EnsureNetwork,
    EnsureVolume,
    KeepFailed,
    ObtainImage,
    RemoveReplicas,
    RestartReplica,
    Shift,
    StartReplica,
    StopReplicas,
)
from syntra.runtime.runtime import Commit, ForgetService, Hold, Plan, Ref, Step

HASH = "hash-of-the-goal"
GOING = (ContainerState.REMOVING, ContainerState.DEAD)


def replica(
    number: int = 1,
    *,
    deployment_id: str = "dep_old",
    state: ContainerState = ContainerState.RUNNING,
    index: int | None = None,
    **changes: Any,
) -> Container:
    """The container `c<number>`, by default the one of that index, running since its number."""
    index = number if index is None else index
    base = Container(
        container_id=ContainerId(f"c{number}"),
        name=f"{deployment_id}-{index}",
        service_id=ServiceId("svc_123"),
        deployment_id=DeploymentId(deployment_id),
        index=index,
        spec_hash=HASH,
        state=state,
        created_ns=number,
        started_ns=None if state is ContainerState.CREATED else number,
    )
    return dataclasses.replace(base, **changes)


def wants(spec: ServiceSpec) -> dict[str, Any]:
    """What a container of the spec holds while it is up."""
    return {
        "host_ports": frozenset() if spec.host_port is None else frozenset({spec.host_port}),
        "writable_mounts": frozenset(v.host_path or v.name for v in spec.volumes if not v.read_only),
    }


def effects(plan: Plan) -> list[Step]:
    """The plan with each engine call on its own: an agent may be killed between any two of them."""
    found: list[Step] = []
    for step in plan.steps:
        if isinstance(step, StopReplicas | RemoveReplicas):
            found += [dataclasses.replace(step, replicas=(named,)) for named in step.replicas]
        else:
            found.append(step)
    return found


class World:
    """Containers of one service. Asserts what every plan must keep to; the tests assert the rest.

    `proven` are the containers that are up and have been healthy since they were started: what is up at the beginning
    is, and what a plan has awaited. `backwards` reverses the order in which they are observed.
    """

    def __init__(
        self, replicas: Iterable[Container], *, exclusive_mounts: bool = False, backwards: bool = False
    ) -> None:
        self.replicas = {replica.container_id: replica for replica in replicas}
        self.prior = frozenset(r.container_id for r in self.replicas.values() if r.is_up)
        self.proven = set(self.prior)
        # What failed deployments have left, and what this one is to leave.
        self.failed: dict[ContainerId, Container] = {}
        self.at_fault: ContainerId | None = None
        self.kept_down: set[ContainerId] = set()
        self.pinned = self.networked = self.committed = self.forgotten = False
        self.volumes: set[str] = set()
        # A canary's share in percent, and how many of its steps are over.
        self.share = self.stage = 0
        self.clock = 1000
        self._exclusive_mounts = exclusive_mounts
        self._backwards = backwards
        self._created: dict[int, ContainerId] = {}

    def goal(self, goal: Goal) -> Goal:
        """The goal as the executor completes it from what is there."""
        return dataclasses.replace(
            goal,
            prior=self.prior,
            pinned=self.pinned,
            stage=self.stage,
            at_fault=self.at_fault,
            failed=tuple(self.failed.values()),
        )

    def observed(self) -> list[Container]:
        """Also the beginning of a new plan: names by index are those of one plan only."""
        self._created.clear()
        return sorted(self.replicas.values(), key=lambda replica: replica.created_ns, reverse=self._backwards)

    def up(self) -> set[ContainerId]:
        return {replica.container_id for replica in self.replicas.values() if replica.is_up}

    def serving(self) -> int:
        return len(self.proven)

    def perform(self, step: Step, goal: Goal | None = None) -> None:
        """Do what the step says; AssertionError where an engine would refuse it."""
        self.clock += 1
        match step:
            case ObtainImage():
                self.pinned = True
            case EnsureNetwork():
                self.networked = True
            case EnsureVolume(name=name):
                self.volumes.add(name)
            case CreateReplica(index=index):
                assert goal is not None
                self._create(index, goal)
            case StartReplica(replica=ref):
                self._start(self._resolve(ref))
            case RestartReplica(replica=ref):
                self._bring_up(self._resolve(ref))
            case AwaitHealthy(replicas=refs):
                ids = {self._resolve(ref) for ref in refs}
                assert ids <= self.up(), "what is not up cannot become healthy"
                self.proven |= ids
            case StopReplicas(replicas=replicas):
                for ref in replicas:
                    self._stop(self._resolve(ref))
            case RemoveReplicas(replicas=replicas):
                for container_id in map(self._resolve, replicas):
                    if self.failed.pop(container_id, None) is None:
                        assert not self.replicas[container_id].is_up, "a running container cannot be removed"
                        del self.replicas[container_id]
            case KeepFailed(replica=ref):
                kept = self.replicas.pop(self._resolve(ref))
                assert not kept.is_up, "what is kept has been stopped"
                self.failed[kept.container_id] = kept
            case Shift(replicas=refs, percent=percent):
                assert {self._resolve(ref) for ref in refs} <= self.proven, "requests go to what is proven"
                assert percent >= self.share, "a share does not shrink"
                self.share = percent
            case Hold(number=number, replicas=refs, percent=percent):
                assert {self._resolve(ref) for ref in refs} <= self.proven
                assert percent == self.share, "what is held has its share"
                assert number > self.stage, "what was held is not held again"
                self.stage = number
            case Commit():
                self.committed = True
            case ForgetService():
                self.forgotten = True

    def _resolve(self, ref: Ref) -> ContainerId:
        return self._created[ref.index] if ref.container_id is None else ref.container_id

    def _create(self, index: int, goal: Goal) -> None:
        spec = goal.deployment.spec
        assert (self.pinned or goal.pinned) and self.networked, "a container needs its image and its network"
        assert index not in self._created, "one plan gives an index once"
        mounts = goal.volumes.mounts(index)
        assert {mount.source for mount in mounts if not mount.is_bind} <= self.volumes
        created = replica(
            self.clock,
            deployment_id=goal.deployment.deployment_id,
            state=ContainerState.CREATED,
            index=index,
            spec_hash=goal.spec_hash,
            host_ports=wants(spec)["host_ports"],
            writable_mounts=frozenset(mount.source for mount in mounts if not mount.read_only),
        )
        self.replicas[created.container_id] = created
        self._created[index] = created.container_id

    def _start(self, container_id: ContainerId) -> None:
        if not self.replicas[container_id].is_up:
            self._bring_up(container_id)

    def _bring_up(self, container_id: ContainerId) -> None:
        starting = self.replicas[container_id]
        assert starting.state not in GOING, "what is being removed cannot be started"
        for other in self.replicas.values():
            if other.is_up and other.container_id != container_id:
                assert not starting.host_ports & other.host_ports, "two containers cannot hold one host port"
                if self._exclusive_mounts and other.deployment_id != starting.deployment_id:
                    assert not starting.writable_mounts & other.writable_mounts, "a volume has two writers"
        self.kept_down.discard(container_id)
        self.proven.discard(container_id)
        self.replicas[container_id] = dataclasses.replace(starting, state=ContainerState.RUNNING, started_ns=self.clock)

    def _stop(self, container_id: ContainerId) -> None:
        stopping = self.replicas[container_id]
        assert stopping.state not in GOING, "the restart policy of what is being removed cannot be changed"
        self.kept_down.add(container_id)
        self.proven.discard(container_id)
        if stopping.is_up:
            self.replicas[container_id] = dataclasses.replace(stopping, state=ContainerState.EXITED)


def texts(steps: Sequence[Step]) -> list[str]:
    return [str(step) for step in steps]
