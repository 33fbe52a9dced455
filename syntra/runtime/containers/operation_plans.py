"""Chooses the plan for an operation, from its command and its phase. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from syntra.model.command import Deploy, Restart, Rollback, Scale, Stop
from syntra.model.container import Container
from syntra.model.spec import Strategy
from syntra.model.spec_payload import fingerprint
from syntra.runtime.containers import planner
from syntra.runtime.containers.volumes import ReplicaVolumes
from syntra.runtime.runtime import Desired, Plan
from syntra.utils.frozen import frozen


@frozen
class ObservedContainers:
    """The observed containers. `has_image`: the deployment's image exists here, pinned. `volumes`: of its replicas."""

    replicas: Sequence[Container]
    has_image: bool
    unrouted: str = ""
    """Why the deployment's domains reach no service, as a note; empty when they do."""
    volumes: ReplicaVolumes | None = None
    failed: Sequence[Container] = ()
    """What failed deployments have left."""


def steps_to(desired: Desired, observed: ObservedContainers) -> Plan:
    """The plan from the observed to the desired state."""
    replicas = observed.replicas
    if desired.is_rolling_back:
        if isinstance(desired.command, Scale):
            return planner.roll_back_scale(_goal(desired, observed), replicas)
        return planner.roll_back(_goal(desired, observed), replicas, restore=_restores(desired))
    match desired.command:
        case Stop(remove=remove):
            spec = desired.deployment.spec if desired.deployment else None
            return planner.stop(replicas, remove=remove, spec=spec, failed=observed.failed)
        case Restart():
            # Replicas of earlier deployments stay stopped.
            current = desired.deployment.deployment_id if desired.deployment else None
            chosen = [replica for replica in replicas if replica.is_up or replica.deployment_id == current]
            goal = _goal(desired, observed) if desired.deployment else None
            return planner.restart(chosen, begun_ns=int(desired.begun_at * 1e9), goal=goal)
        case Scale(pace=pace):
            goal = _goal(desired, observed)
            return planner.scale(goal, replicas, pace=pace, committed=desired.is_committed)
        case Deploy() | Rollback():
            return planner.deploy(_goal(desired, observed), replicas, committed=desired.is_committed)


def _goal(desired: Desired, observed: ObservedContainers) -> planner.Goal:
    deployment = desired.deployment
    assert deployment is not None, "cannot happen because the deployer resolves it first"
    if deployment.strategy is Strategy.CANARY and not isinstance(desired.command, Deploy):
        # A rollback must be fast, and a scale has no versions to compare.
        deployment = dataclasses.replace(deployment, strategy=Strategy.BLUE_GREEN)
    return planner.Goal(
        deployment=deployment,
        spec_hash=fingerprint(deployment.spec),
        replicas=desired.replicas,
        prior=desired.prior,
        pinned=observed.has_image,
        stage=desired.stage,
        # A rollback returns to a version whose command has run.
        releases=isinstance(desired.command, Deploy),
        found=observed.volumes,
        at_fault=desired.at_fault,
        failed=tuple(observed.failed),
    )


def _restores(desired: Desired) -> bool:
    deployment = desired.deployment
    return deployment is None or deployment.rollback_on_failure or deployment.strategy is not Strategy.INSTANT
