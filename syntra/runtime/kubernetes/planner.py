"""Plans for services in a cluster. Pure.

A plan is computed from what is there, never from past actions: planning again after any of its steps gives the rest.
Rolling and instant deploys change the Deployment of the active slot. Blue-green and canary deploys fill the other slot,
and switch to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from syntra.model.command import Deploy, Restart, Rollback, Scale, Stop
from syntra.model.spec import Deployment, Strategy
from syntra.runtime.kubernetes.names import Slot, namespace, service_name, workload_name
from syntra.runtime.kubernetes.observed import ObservedService
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
    RemoveRelease,
    RunRelease,
    ScaleSlot,
    ShiftRequests,
    SwitchSlot,
)
from syntra.runtime.runtime import Commit, Desired, ForgetService, Hold, Plan, Ref, Step

SCALE_DOWN_DELAY_SECS = 30.0
"""How long the old slot stays after a switch: nodes learn of new endpoints with a delay (Argo Rollouts' default)."""
KEPT_REVISIONS = 10

# Objects of these kinds go with a service, in this order: first what sends requests. Claims stay, as volumes do.
DELETED_KINDS = (
    "HTTPRoute",
    "IngressRoute",
    "TraefikService",
    "Middleware",
    "Ingress",
    "HorizontalPodAutoscaler",
    "Service",
    "Deployment",
    "Secret",
)


def steps_to(desired: Desired, observed: ObservedService, *, scale_down_delay: float = SCALE_DOWN_DELAY_SECS) -> Plan:
    """The plan from the observed to the desired state."""
    command = desired.command
    if desired.is_rolling_back:
        return Plan(steps=tuple(_roll_back(desired, observed)))
    match command:
        case Stop(remove=remove):
            return Plan(steps=tuple(_stop(observed, is_committed=desired.is_committed, remove=remove)))
        case Scale():
            return Plan(steps=(*_scale(desired, observed), *_retire(desired, observed, scale_down_delay)))
        case Restart():
            return Plan(steps=(*_restart(desired, observed), *_retire(desired, observed, scale_down_delay)))
        case Deploy() | Rollback():
            return _deploy(desired, observed, scale_down_delay)


def target_slot(desired: Desired, observed: ObservedService) -> Slot:
    """The slot that the target of an operation has, or gets."""
    deployment = _deployment(desired)
    filled = observed.slot_with(deployment.deployment_id)
    if filled is not None:
        return filled
    active = observed.active or Slot.BLUE
    workload = observed.workloads.get(active)
    runs = workload is not None and workload.replicas > 0
    return active.other if runs and isinstance(desired.command, Deploy | Rollback) and _is_beside(desired) else active


def _deploy(desired: Desired, observed: ObservedService, scale_down_delay: float) -> Plan:
    deployment = _deployment(desired)
    slot = target_slot(desired, observed)
    steps: list[Step] = []
    if not desired.is_committed:
        steps += _new_version(desired, observed, slot)
        steps.append(Commit())
    steps += _retire(desired, observed, scale_down_delay)
    if not any(kept.deployment_id == deployment.deployment_id for kept in observed.revisions[-1:]):
        newest = observed.revisions[-1].number if observed.revisions else 0
        steps.append(KeepRevision(revision=newest + 1))
    if deployment.spec.release_command:
        steps.append(RemoveRelease())
    steps.append(Prune(slot=slot, keeps_other=_is_beside(desired)))
    return Plan(steps=tuple(steps), notes=tuple(_notes(desired, observed, slot)))


def _notes(desired: Desired, observed: ObservedService, slot: Slot) -> Iterator[str]:
    deployment = _deployment(desired)
    if desired.is_committed:
        return
    rival = observed.workloads.get(slot.other)
    if _strategy(desired) is Strategy.CANARY and (rival is None or not rival.replicas):
        yield "no earlier version is running to compare the canary with: all replicas start at once"
    if deployment.spec.port is None and deployment.strategy in (Strategy.BLUE_GREEN, Strategy.CANARY):
        yield f"strategy {deployment.strategy.value} is rolling here: without a port there are no requests to switch"


def _new_version(desired: Desired, observed: ObservedService, slot: Slot) -> Iterator[Step]:
    deployment = _deployment(desired)
    spec, name = deployment.spec, workload_name(deployment.spec, slot)
    is_beside = observed.active is slot.other and slot.other in observed.workloads
    if not observed.is_checked:
        yield Preflight(name=service_name(spec))
    yield ApplySupports(namespace=namespace(spec.project_name))
    # A rollback returns to a version whose command has run, and a version that has a Deployment has run it too.
    is_new = observed.slot_with(deployment.deployment_id) is None
    if spec.release_command and isinstance(desired.command, Deploy) and is_new:
        yield RunRelease(command=" ".join(spec.release_command))
    if not is_beside and spec.port is not None:
        yield ApplyService(slot=slot, name=service_name(spec))
    yield ApplyWorkload(slot=slot, name=name, replicas=desired.replicas)
    yield AwaitRollout(slot=slot, name=name)
    if is_beside:
        if _strategy(desired) is Strategy.CANARY:
            yield from _canary(desired, deployment, slot)
        yield SwitchSlot(slot=slot, name=service_name(spec))
    if spec.domains:
        yield ApplyRoutes(domains=spec.domains)


def _canary(desired: Desired, deployment: Deployment, slot: Slot) -> Iterator[Step]:
    """The shares before the last, which the switch gives."""
    name = workload_name(deployment.spec, slot)
    refs = tuple(Ref(name=f"{name} #{index}", index=index) for index in range(1, desired.replicas + 1))
    for number, step in enumerate(deployment.canary.steps, start=1):
        if number <= desired.stage:
            continue
        if step.percent < 100 or step.hold_secs:
            yield ShiftRequests(slot=slot, percent=step.percent)
        if step.hold_secs:
            yield Hold(number=number, replicas=refs, percent=step.percent, secs=step.hold_secs)


def _retire(desired: Desired, observed: ObservedService, scale_down_delay: float) -> Iterator[Step]:
    """End the pods of the slot that has no requests any more."""
    slot = target_slot(desired, observed)
    old = observed.workloads.get(slot.other)
    if old is not None and old.replicas > 0:
        # Also after a kill between the switch and its mark.
        yield ScaleSlot(slot=slot.other, name=old.name, replicas=0, delay_secs=scale_down_delay)


def _scale(desired: Desired, observed: ObservedService) -> Iterator[Step]:
    slot = target_slot(desired, observed)
    workload = observed.workloads.get(slot)
    name = workload_name(_deployment(desired).spec, slot)
    if desired.is_committed:
        return
    if workload is None:
        yield ApplySupports(namespace=namespace(_deployment(desired).spec.project_name))
        yield ApplyWorkload(slot=slot, name=name, replicas=desired.replicas)
    elif workload.replicas != desired.replicas:
        yield ScaleSlot(slot=slot, name=name, replicas=desired.replicas)
    yield AwaitRollout(slot=slot, name=name)
    yield Commit()


def _restart(desired: Desired, observed: ObservedService) -> Iterator[Step]:
    slot = target_slot(desired, observed)
    workload = observed.workloads.get(slot)
    name = workload_name(_deployment(desired).spec, slot)
    if desired.is_committed:
        return
    if workload is None or workload.restarted_at < math.floor(desired.begun_at):
        if workload is None:
            yield ApplySupports(namespace=namespace(_deployment(desired).spec.project_name))
        yield ApplyWorkload(slot=slot, name=name, replicas=desired.replicas, is_restart=workload is not None)
    yield AwaitRollout(slot=slot, name=name)
    yield Commit()


def _stop(observed: ObservedService, *, is_committed: bool, remove: bool) -> Iterator[Step]:
    if not is_committed:
        yield Commit()
    for workload in observed.workloads.values():
        if workload.replicas > 0:
            yield ScaleSlot(slot=workload.slot, name=workload.name, replicas=0)
    if observed.replicas or observed.workloads:
        yield AwaitStopped()
    if remove:
        if everything := _everything(observed):
            yield DeleteObjects(objects=everything)
        yield ForgetService()


def _roll_back(desired: Desired, observed: ObservedService) -> Iterable[Step]:
    """Return to the version before; what it had is still there, unless the failed one has replaced it."""
    if isinstance(desired.command, Scale):
        return _roll_back_scale(desired, observed)
    return _roll_back_version(desired, observed)


def _roll_back_scale(desired: Desired, observed: ObservedService) -> Iterator[Step]:
    workload = observed.workloads.get(target_slot(desired, observed))
    if workload is not None and workload.replicas != len(desired.prior):
        yield ScaleSlot(slot=workload.slot, name=workload.name, replicas=len(desired.prior))
        yield AwaitRollout(slot=workload.slot, name=workload.name)


def _roll_back_version(desired: Desired, observed: ObservedService) -> Iterator[Step]:
    deployment, previous = _deployment(desired), observed.previous
    failed = observed.slot_with(deployment.deployment_id)
    if deployment.spec.release_command:
        yield RemoveRelease()
    if previous is not None and previous.deployment_id != deployment.deployment_id:
        kept = observed.slot_with(previous.deployment_id)
        slot = kept or failed or observed.active or Slot.BLUE
        name, replicas = workload_name(previous.spec, slot), len(desired.prior)
        if kept is None:
            yield ApplySupports(namespace=namespace(previous.spec.project_name))
            yield ApplyWorkload(slot=slot, name=name, replicas=replicas)
        elif observed.workloads[kept].replicas != replicas:
            yield ScaleSlot(slot=kept, name=name, replicas=replicas)
        if replicas:
            yield AwaitRollout(slot=slot, name=name)
        if previous.spec.port is not None:
            yield SwitchSlot(slot=slot, name=service_name(previous.spec))
        if previous.spec.domains:
            yield ApplyRoutes(domains=previous.spec.domains)
        leftover = observed.workloads.get(slot.other)
        if leftover is not None and leftover.deployment_id == deployment.deployment_id:
            yield DeleteObjects(objects=(("Deployment", leftover.name),))
        # The failed version's secrets, and what routed a share of the requests to it.
        yield Prune(slot=slot, keeps_other=True)
        return
    if previous is None and (everything := _everything(observed)):
        yield DeleteObjects(objects=everything)


def _everything(observed: ObservedService) -> tuple[tuple[str, str], ...]:
    return tuple((kind, name) for kind in DELETED_KINDS for name in sorted(observed.objects.get(kind, ())))


def _is_beside(desired: Desired) -> bool:
    """Whether the strategy runs the new version in a slot of its own."""
    return _strategy(desired) in (Strategy.BLUE_GREEN, Strategy.CANARY)


def _strategy(desired: Desired) -> Strategy:
    deployment = _deployment(desired)
    if deployment.spec.port is None and deployment.strategy is not Strategy.INSTANT:
        return Strategy.ROLLING
    if deployment.strategy is Strategy.CANARY and not isinstance(desired.command, Deploy):
        # A rollback must be fast.
        return Strategy.BLUE_GREEN
    return deployment.strategy


def _deployment(desired: Desired) -> Deployment:
    assert desired.deployment is not None, "cannot happen because the deployer resolves it first"
    return desired.deployment
