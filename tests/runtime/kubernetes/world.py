"""A service in a cluster that has no cluster: it performs the steps of plans, and insists on what no step may do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from syntra.model.command import Deploy, Operation, Pace, Restart, Rollback, Scale, Stop
from syntra.model.ids import ContainerId, DeploymentId, RequestId, ServiceId
from syntra.model.spec import Deployment, Strategy
from syntra.runtime.kubernetes.names import Slot, service_name
from syntra.runtime.kubernetes.observed import ObservedService, Revision, Workload
from syntra.runtime.kubernetes.planner import steps_to
from syntra.runtime.kubernetes.pods import PodReplica
from syntra.runtime.kubernetes.steps import (
    ApplyRoutes,
    ApplyService,
    ApplySupports,
    ApplyWorkload,
    AwaitRollout,
    AwaitStopped,
    DeleteObjects,
    KeepRevision,
    Preflight,
    Prune,
    ScaleSlot,
    ShiftRequests,
    SwitchSlot,
)
from syntra.runtime.runtime import Commit, Desired, ForgetService, Hold, Plan, Step
from tests.model.samples import deployment

REQUEST = RequestId("r1")
SERVICE = ServiceId("svc")
DELAY = 7.0


def version(number: int, strategy: Strategy = Strategy.ROLLING, **spec: Any) -> Deployment:
    """A deployment of the one service."""
    made = deployment(f"d{number}", **{"service_id": SERVICE, "port": 8080, "domains": ("a.example",), **spec})
    return dataclasses.replace(made, strategy=strategy)


def deploying(target: Deployment, replicas: int = 2) -> Desired:
    return wanting(Deploy(request_id=REQUEST, deployment=target, auth=None), target, replicas)


def scaling(target: Deployment, replicas: int) -> Desired:
    scale = Scale(request_id=REQUEST, service_id=SERVICE, replicas=replicas, pace=Pace.IMMEDIATE)
    return wanting(scale, target, replicas)


def restarting(target: Deployment, replicas: int = 2) -> Desired:
    return wanting(Restart(request_id=REQUEST, service_id=SERVICE, grace_secs=None), target, replicas)


def returning(target: Deployment, replicas: int = 2) -> Desired:
    return wanting(Rollback(request_id=REQUEST, service_id=SERVICE, target=None), target, replicas)


def stopping(target: Deployment, *, remove: bool) -> Desired:
    return wanting(Stop(request_id=REQUEST, service_id=SERVICE, grace_secs=1.0, remove=remove), target, 0)


def wanting(command: Operation, target: Deployment, replicas: int) -> Desired:
    return Desired(command=command, deployment=target, replicas=replicas, begun_at=1000.0)


@dataclasses.dataclass
class World:
    """What the cluster has. `requests` are the slots that get requests, with their shares in percent."""

    workloads: dict[Slot, Workload] = dataclasses.field(default_factory=dict)
    active: Slot | None = None
    requests: dict[Slot, int] = dataclasses.field(default_factory=dict)
    rolled_out: set[Slot] = dataclasses.field(default_factory=set)
    has_routes: bool = False
    has_secret: bool = False
    revisions: list[Revision] = dataclasses.field(default_factory=list)
    previous: Deployment | None = None
    is_checked: bool = False
    is_forgotten: bool = False
    clock: float = 2000.0
    gets_no_ready: DeploymentId | None = None
    """The deployment whose pods never get ready."""

    def copy(self) -> World:
        return dataclasses.replace(
            self,
            workloads=dict(self.workloads),
            requests=dict(self.requests),
            rolled_out=set(self.rolled_out),
            revisions=list(self.revisions),
        )

    def observed(self) -> ObservedService:
        objects = {
            "Deployment": frozenset(one.name for one in self.workloads.values()),
            "Service": frozenset({"api"} if self.active is not None else ()),
            "Secret": frozenset({"api-env"} if self.has_secret else ()),
            "Ingress": frozenset({"api"} if self.has_routes else ()),
        }
        return ObservedService(
            replicas=[*self.pods()],
            workloads=dict(self.workloads),
            active=self.active or next(iter(self.workloads), None),
            namespace="syntra-shop",
            objects=objects,
            revisions=tuple(self.revisions),
            previous=self.previous,
            is_checked=self.is_checked,
        )

    def pods(self) -> Iterable[PodReplica]:
        for slot, workload in self.workloads.items():
            for index in range(1, workload.replicas + 1):
                yield PodReplica(
                    container_id=ContainerId(f"shop/{slot.value}-{index}"),
                    name=f"{slot.value}-{index}",
                    namespace="shop",
                    service_id=SERVICE,
                    deployment_id=workload.deployment_id,
                    index=index,
                    phase="Running",
                    created_ns=0,
                    is_running=True,
                )

    def plan(self, desired: Desired) -> Plan:
        return steps_to(desired, self.observed(), scale_down_delay=DELAY)

    def carry_out(self, desired: Desired, *, at_most: int = 1000) -> tuple[Desired, list[Step]]:
        """Perform the plan; the desired state as the journal has it then, and the steps."""
        done = []
        for step in self.plan(desired).steps[:at_most]:
            desired = self.perform(step, desired)
            done.append(step)
        return desired, done

    def restarted(self) -> World:
        """After a kill of the agent: what only its memory had is gone."""
        fresh = self.copy()
        fresh.is_checked = False
        return fresh

    def perform(self, step: Step, desired: Desired) -> Desired:
        match step:
            case Preflight():
                assert not self.is_checked
                self.is_checked = True
            case ApplySupports():
                self.has_secret = True
            case ApplyService(slot=slot):
                self._point_to(slot)
            case ApplyWorkload(slot=slot, name=name, replicas=replicas, is_restart=is_restart):
                self._apply(slot, name, replicas, desired, is_restart=is_restart)
            case AwaitRollout(slot=slot):
                assert self.workloads[slot].deployment_id != self.gets_no_ready, "this rollout fails"
                self.rolled_out.add(slot)
            case ShiftRequests(slot=slot, percent=percent):
                self._serve({slot: percent, slot.other: 100 - percent})
            case SwitchSlot(slot=slot):
                before = self.active
                self._point_to(slot)
                if before is slot.other and slot.other in self.workloads:
                    self._change(slot.other, replaced_at=self.clock)
            case ApplyRoutes():
                self.has_routes = True
                assert self.active is not None
                self._serve({self.active: 100})
            case ScaleSlot(slot=slot, replicas=replicas, delay_secs=delay):
                self._scale(slot, replicas, delay, desired)
            case KeepRevision(revision=number):
                assert desired.deployment is not None and desired.is_committed
                assert all(kept.number < number for kept in self.revisions)
                self.revisions.append(
                    Revision(number=number, name=f"rev-{number}", deployment_id=desired.deployment.deployment_id)
                )
            case DeleteObjects(objects=objects):
                self._delete(objects, desired)
            case Prune(slot=slot, keeps_other=keeps_other):
                assert desired.is_committed or desired.is_rolling_back
                if not keeps_other:
                    self.workloads.pop(slot.other, None)
            case Commit():
                assert not desired.is_committed, "committed twice"
                return dataclasses.replace(desired, is_committed=True)
            case Hold(number=number):
                return dataclasses.replace(desired, stage=number)
            case AwaitStopped():
                assert not any(one.replicas for one in self.workloads.values())
            case ForgetService():
                self.is_forgotten = True
            case _:
                raise AssertionError(f"no step of a cluster: {step}")
        return desired

    def _apply(self, slot: Slot, name: str, replicas: int, desired: Desired, *, is_restart: bool) -> None:
        target = desired.deployment
        if desired.is_rolling_back and self.previous is not None:
            target = self.previous
        assert target is not None and self.has_secret, "pods need their Secret first"
        assert name == (service_name(target.spec) if slot is Slot.BLUE else f"{service_name(target.spec)}-green")
        self.workloads[slot] = Workload(
            slot=slot,
            name=name,
            deployment_id=target.deployment_id,
            replicas=replicas,
            restarted_at=desired.begun_at if is_restart else 0.0,
        )
        # A rolling Deployment keeps its old pods until new ones are ready, so its requests are answered.

    def _point_to(self, slot: Slot) -> None:
        self.active = slot
        if self.workloads or self.rolled_out:
            self._serve({slot: 100})

    def _serve(self, shares: dict[Slot, int]) -> None:
        for slot, percent in shares.items():
            is_first = not self.rolled_out
            assert not percent or slot in self.rolled_out or is_first, f"requests go to {slot}, which is not rolled out"
        self.requests = {slot: percent for slot, percent in shares.items() if percent}

    def _scale(self, slot: Slot, replicas: int, delay: float, desired: Desired) -> None:
        is_end = replicas == 0 and isinstance(desired.command, Deploy | Rollback)
        if is_end and not desired.is_rolling_back:
            assert desired.is_committed, "old pods end before the commit"
            assert self.requests.get(slot, 0) == 0, "old pods end while they have requests"
            assert delay == DELAY, "nodes learn of the switch with a delay"
        self._change(slot, replicas=replicas)

    def _delete(self, objects: Iterable[tuple[str, str]], desired: Desired) -> None:
        for kind, name in objects:
            match kind:
                case "Deployment":
                    [slot] = [slot for slot, one in self.workloads.items() if one.name == name]
                    is_last = desired.is_rolling_back and self.previous is not None
                    assert not is_last or self.requests.get(slot, 0) == 0, "deleted while it has requests"
                    del self.workloads[slot]
                    self.rolled_out.discard(slot)
                case "Service":
                    self.active, self.requests = None, {}
                case "Secret":
                    self.has_secret = False
                case "Ingress":
                    self.has_routes = False

    def _change(self, slot: Slot, *, replicas: int | None = None, replaced_at: float | None = None) -> None:
        was = self.workloads[slot]
        self.workloads[slot] = Workload(
            slot=slot,
            name=was.name,
            deployment_id=was.deployment_id,
            replicas=was.replicas if replicas is None else replicas,
            restarted_at=was.restarted_at,
            replaced_at=was.replaced_at if replaced_at is None else replaced_at,
        )
