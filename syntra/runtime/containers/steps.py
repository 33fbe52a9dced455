"""The steps of a plan for containers: each has a text for people, and the contract's phase for machines."""

from __future__ import annotations

from typing import ClassVar

from syntra.model.ids import ServiceId
from syntra.model.status import DeployState, Phase
from syntra.runtime.runtime import Commit, ForgetService, Hold, Ref
from syntra.utils.frozen import frozen


@frozen
class ObtainImage:
    """Pull the image and pin it with the agent's tag, so that a prune cannot remove a rollback's image."""

    image: str
    phase: ClassVar = Phase.PULL_IMAGE
    state: ClassVar = DeployState.PULLING

    def __str__(self) -> str:
        return f"pull {self.image} and pin it"


@frozen
class EnsureNetwork:
    """Create the project's network when it is missing."""

    project: str
    phase: ClassVar = Phase.CONFIGURE_NETWORK
    state: ClassVar = DeployState.CREATING

    def __str__(self) -> str:
        return f"ensure the network of project {self.project}"


@frozen
class EnsureVolume:
    """Create a named volume when it is missing; an external one must exist. `service_id`: whose image volume it is."""

    name: str
    project: str = ""
    service_id: ServiceId | None = None
    is_external: bool = False
    phase: ClassVar = Phase.CREATE_CONTAINER
    state: ClassVar = DeployState.CREATING

    def __str__(self) -> str:
        return f"expect volume {self.name}" if self.is_external else f"ensure volume {self.name}"


@frozen
class RunRelease:
    """Run the release command once, from the new image, before anything of the new version starts."""

    command: str
    phase: ClassVar = Phase.START_CONTAINER
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return f"run the release command: {self.command}"


@frozen
class RemoveRelease:
    """Remove the container that ran the release command; one that still runs is stopped first."""

    phase: ClassVar = Phase.CLEANUP
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return "remove the container of the release command"


@frozen
class CreateReplica:
    """Create the container of one replica, without starting it."""

    index: int
    phase: ClassVar = Phase.CREATE_CONTAINER
    state: ClassVar = DeployState.CREATING

    def __str__(self) -> str:
        return f"create replica {self.index}"


@frozen
class StartReplica:
    """Start a replica; no effect when it already runs."""

    replica: Ref
    phase: ClassVar = Phase.START_CONTAINER
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return f"start {self.replica.name}"


@frozen
class RestartReplica:
    """Restart a running replica, or start a stopped one."""

    replica: Ref
    phase: ClassVar = Phase.START_CONTAINER
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return f"restart {self.replica.name}"


@frozen
class AwaitHealthy:
    """Wait until all these replicas are healthy; they are watched at the same time."""

    replicas: tuple[Ref, ...]
    phase: ClassVar = Phase.HEALTH_CHECK
    state: ClassVar = DeployState.HEALTH_CHECKING

    def __str__(self) -> str:
        return f"wait until {_names(self.replicas)} {'is' if len(self.replicas) == 1 else 'are'} healthy"


@frozen
class StopReplicas:
    """Stop replicas: restart policy off, SIGTERM, grace, SIGKILL. They can be started again."""

    replicas: tuple[Ref, ...]
    phase: ClassVar = Phase.STOP_OLD
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return f"stop {_names(self.replicas)}"


@frozen
class RemoveReplicas:
    """Remove stopped containers; their volumes stay."""

    replicas: tuple[Ref, ...]
    phase: ClassVar = Phase.CLEANUP
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return f"remove {_names(self.replicas)}"


@frozen
class KeepFailed:
    """Keep the container whose failure ended the operation, for inspection. It is never started again."""

    replica: Ref
    phase: ClassVar = Phase.CLEANUP
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return f"keep {self.replica.name} as it failed"


@frozen
class Publish:
    """Make the proxy send requests to healthy replicas, and wait until it does."""

    replicas: tuple[Ref, ...]
    phase: ClassVar = Phase.CONFIGURE_NETWORK
    state: ClassVar = DeployState.HEALTH_CHECKING

    def __str__(self) -> str:
        return f"route requests to {_names(self.replicas)}"


@frozen
class Withdraw:
    """Make the proxy stop sending requests to replicas, wait until it does, and until none are open."""

    replicas: tuple[Ref, ...]
    phase: ClassVar = Phase.CONFIGURE_NETWORK
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return f"drain {_names(self.replicas)}"


@frozen
class Shift:
    """Make the proxy send this percentage of the service's requests to the replicas, and wait until it does."""

    replicas: tuple[Ref, ...]
    percent: int
    phase: ClassVar = Phase.CONFIGURE_NETWORK
    state: ClassVar = DeployState.HEALTH_CHECKING

    def __str__(self) -> str:
        return f"send {self.percent} % of the requests to {_names(self.replicas)}"


ContainerStep = (
    ObtainImage
    | EnsureNetwork
    | EnsureVolume
    | RunRelease
    | RemoveRelease
    | CreateReplica
    | StartReplica
    | RestartReplica
    | AwaitHealthy
    | Commit
    | StopReplicas
    | RemoveReplicas
    | KeepFailed
    | ForgetService
    | Publish
    | Withdraw
    | Shift
    | Hold
)


def _names(replicas: tuple[Ref, ...]) -> str:
    return ", ".join(replica.name for replica in replicas)
