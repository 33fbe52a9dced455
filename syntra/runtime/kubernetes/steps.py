"""The steps of a plan for a cluster: each has a text for people, and the contract's phase for machines."""

from __future__ import annotations

from typing import ClassVar

from syntra.model.status import DeployState, Phase
from syntra.runtime.kubernetes.names import Slot
from syntra.utils.frozen import frozen


@frozen
class Preflight:
    """Ask the API server whether it would accept all objects, before anything changes."""

    name: str
    phase: ClassVar = Phase.CREATE_CONTAINER
    state: ClassVar = DeployState.CREATING

    def __str__(self) -> str:
        return f"check the objects of {self.name} with the cluster"


@frozen
class ApplySupports:
    """Apply the namespace, secrets and volume claims that the pods need."""

    namespace: str
    phase: ClassVar = Phase.CREATE_CONTAINER
    state: ClassVar = DeployState.CREATING

    def __str__(self) -> str:
        return f"apply secrets and volumes in {self.namespace}"


@frozen
class ApplyService:
    """Apply the Services whose requests the slot answers."""

    slot: Slot
    name: str
    phase: ClassVar = Phase.CONFIGURE_NETWORK
    state: ClassVar = DeployState.CREATING

    def __str__(self) -> str:
        return f"apply Service {self.name}"


@frozen
class ApplyWorkload:
    """Apply a slot's Deployment. `is_restart`: as it is, with new pods."""

    slot: Slot
    name: str
    replicas: int
    is_restart: bool = False
    phase: ClassVar = Phase.START_CONTAINER
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        if self.is_restart:
            return f"restart the pods of Deployment {self.name}"
        return f"apply Deployment {self.name} with {self.replicas} replica{'' if self.replicas == 1 else 's'}"


@frozen
class AwaitRollout:
    """Wait until a slot's Deployment has rolled out; fail as soon as its pods tell that it will not."""

    slot: Slot
    name: str
    phase: ClassVar = Phase.HEALTH_CHECK
    state: ClassVar = DeployState.HEALTH_CHECKING

    def __str__(self) -> str:
        return f"wait until Deployment {self.name} is rolled out"


@frozen
class ShiftRequests:
    """Send this percentage of the requests to the pods of the slot."""

    slot: Slot
    percent: int
    phase: ClassVar = Phase.CONFIGURE_NETWORK
    state: ClassVar = DeployState.HEALTH_CHECKING

    def __str__(self) -> str:
        return f"send {self.percent} % of the requests to slot {self.slot.value}"


@frozen
class SwitchSlot:
    """Point the Services to a slot, and wait until their endpoints are its pods."""

    slot: Slot
    name: str
    phase: ClassVar = Phase.CONFIGURE_NETWORK
    state: ClassVar = DeployState.HEALTH_CHECKING

    def __str__(self) -> str:
        return f"switch Service {self.name} to slot {self.slot.value}"


@frozen
class ApplyRoutes:
    """Apply the objects that route the domains."""

    domains: tuple[str, ...]
    phase: ClassVar = Phase.CONFIGURE_NETWORK
    state: ClassVar = DeployState.HEALTH_CHECKING

    def __str__(self) -> str:
        return f"route {', '.join(self.domains)}"


@frozen
class ScaleSlot:
    """Set the number of a slot's replicas. `delay_secs`: only so long after the other slot took over its requests."""

    slot: Slot
    name: str
    replicas: int
    delay_secs: float = 0.0
    phase: ClassVar = Phase.STOP_OLD
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        after = f", {self.delay_secs:g} s after the switch" if self.delay_secs else ""
        return f"scale Deployment {self.name} to {self.replicas}{after}"


@frozen
class AwaitStopped:
    """Wait until no pod of the service is left."""

    phase: ClassVar = Phase.STOP_OLD
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return "wait until all pods have ended"


@frozen
class KeepRevision:
    """Keep the applied objects and the deployment in a Secret, for rollbacks and for an agent that lost its journal."""

    revision: int
    phase: ClassVar = Phase.CLEANUP
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return f"keep revision {self.revision}"


@frozen
class DeleteObjects:
    """Delete objects of the service. Each is (kind, name)."""

    objects: tuple[tuple[str, str], ...]
    phase: ClassVar = Phase.CLEANUP
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return f"delete {', '.join(f'{kind} {name}' for kind, name in self.objects)}"


@frozen
class Prune:
    """Delete the objects of the service that no version with pods needs. `keeps_other`: the other slot's Deployment."""

    slot: Slot
    keeps_other: bool
    phase: ClassVar = Phase.CLEANUP
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return "delete what no version needs any more"


@frozen
class RunRelease:
    """Run the release command once, in a pod of the new version, before anything of that starts."""

    command: str
    phase: ClassVar = Phase.START_CONTAINER
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return f"run the release command: {self.command}"


@frozen
class RemoveRelease:
    """Remove the pod that ran the release command; one that still runs ends first."""

    phase: ClassVar = Phase.CLEANUP
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return "remove the pod of the release command"
