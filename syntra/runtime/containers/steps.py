"""The steps of a plan for containers: what each does, in words for people and in the contract's phases for machines."""

from __future__ import annotations

from typing import ClassVar

from syntra.model.status import DeployState, Phase
from syntra.runtime.runtime import Commit, ForgetService, Hold, Ref
from syntra.utils.frozen import frozen


@frozen
class ObtainImage:
    """Pull the image and pin it by a tag of ours, so that pruning cannot take a rollback away."""

    image: str
    phase: ClassVar = Phase.PULL_IMAGE
    state: ClassVar = DeployState.PULLING

    def __str__(self) -> str:
        return f"pull {self.image} and pin it"


@frozen
class EnsureNetwork:
    """Make the project's network when it is not there."""

    project: str
    phase: ClassVar = Phase.CONFIGURE_NETWORK
    state: ClassVar = DeployState.CREATING

    def __str__(self) -> str:
        return f"ensure the network of project {self.project}"


@frozen
class EnsureVolume:
    """Make a named volume when it is not there."""

    name: str
    phase: ClassVar = Phase.CREATE_CONTAINER
    state: ClassVar = DeployState.CREATING

    def __str__(self) -> str:
        return f"ensure volume {self.name}"


@frozen
class CreateReplica:
    """Create the container of one replica, not started."""

    index: int
    phase: ClassVar = Phase.CREATE_CONTAINER
    state: ClassVar = DeployState.CREATING

    def __str__(self) -> str:
        return f"create replica {self.index}"


@frozen
class StartReplica:
    """Start a replica; one that runs already is left alone."""

    replica: Ref
    phase: ClassVar = Phase.START_CONTAINER
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return f"start {self.replica.name}"


@frozen
class RestartReplica:
    """Restart a running replica, or start one that is not."""

    replica: Ref
    phase: ClassVar = Phase.START_CONTAINER
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return f"restart {self.replica.name}"


@frozen
class AwaitHealthy:
    """Wait until the replicas have proven themselves; all are watched at once."""

    replicas: tuple[Ref, ...]
    phase: ClassVar = Phase.HEALTH_CHECK
    state: ClassVar = DeployState.HEALTH_CHECKING

    def __str__(self) -> str:
        return f"wait until {_names(self.replicas)} {'is' if len(self.replicas) == 1 else 'are'} healthy"


@frozen
class StopReplicas:
    """Take replicas out of service: restart policy off, SIGTERM, grace, SIGKILL. They can be started again."""

    replicas: tuple[Ref, ...]
    phase: ClassVar = Phase.STOP_OLD
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return f"stop {_names(self.replicas)}"


@frozen
class RemoveReplicas:
    """Remove containers that serve nothing any more, with their anonymous volumes."""

    replicas: tuple[Ref, ...]
    phase: ClassVar = Phase.CLEANUP
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return f"remove {_names(self.replicas)}"


@frozen
class Publish:
    """Have the proxy send requests to replicas that are proven, and see that it does."""

    replicas: tuple[Ref, ...]
    phase: ClassVar = Phase.CONFIGURE_NETWORK
    state: ClassVar = DeployState.HEALTH_CHECKING

    def __str__(self) -> str:
        return f"route requests to {_names(self.replicas)}"


@frozen
class Withdraw:
    """Have the proxy send no more requests to replicas, see that it does not, and wait until they have none open."""

    replicas: tuple[Ref, ...]
    phase: ClassVar = Phase.CONFIGURE_NETWORK
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return f"drain {_names(self.replicas)}"


@frozen
class Shift:
    """Have the proxy send this percentage of the service's requests to the replicas, and see that it does."""

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
    | CreateReplica
    | StartReplica
    | RestartReplica
    | AwaitHealthy
    | Commit
    | StopReplicas
    | RemoveReplicas
    | ForgetService
    | Publish
    | Withdraw
    | Shift
    | Hold
)


def _names(replicas: tuple[Ref, ...]) -> str:
    return ", ".join(replica.name for replica in replicas)
