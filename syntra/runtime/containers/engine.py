"""The interface of a container engine: primitives of one or a few calls each. Docker implements it; Podman can.

All methods raise the errors of `runtime.runtime`, RuntimeUnavailable and StepFailed, and are safe to cancel. Consumers
declare which of these protocols they need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from syntra.model.container import Container
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.image import ResolvedImage
from syntra.model.network import ProjectNetwork
from syntra.model.spec import Deployment, RegistryAuth
from syntra.model.volume import Mounts, Volume
from syntra.runtime.copies import Copies
from syntra.runtime.runtime import Availability, Exec, Exits, Failures, Logs, Retention, Survey, Usage, Watched

# Called with 0–100 and a sentence while an image is pulled.
PullProgress = Callable[[int, str], None]


class Containers(Protocol):
    """Lists and inspects the agent's containers."""

    async def observe(self, service_id: ServiceId | None = None) -> Sequence[Container]:
        """Every container of the agent, or of one service, in any state."""

    async def inspect(self, container_id: ContainerId) -> Container | None:
        """One container; None when it does not exist."""


class Lifecycle(Protocol):
    """Creates, starts, stops and removes containers."""

    async def create(self, deployment: Deployment, index: int, mounts: Mounts = None) -> tuple[ContainerId, str]:
        """Create a replica without starting it; return id and name. Adopts the container of an earlier, lost call.

        `mounts` is everything that it mounts; None: what the spec says, by the names that it gives. Refused with
        IMAGE_NOT_FOUND when the deployment's image does not exist here, or its pin holds another one.
        """

    async def start(self, container_id: ContainerId) -> None:
        """Start a container and set its restart policy; no error when it already runs.

        StepFailed with NETWORK_GONE when its network was removed: it can never start again. So does `restart`.
        """

    async def stop(self, container_id: ContainerId, grace_secs: float) -> None:
        """Restart policy off, then SIGTERM, `grace_secs`, SIGKILL; no error when it is stopped or removed."""

    async def restart(self, container_id: ContainerId, grace_secs: float) -> None:
        """Restart a container, or start it when it is stopped."""

    async def keep_failed(self, container_id: ContainerId) -> None:
        """Keep the container of a failed deployment: stopped, never started again, and only in `failed` from then on.

        Repeating it has no effect; no error if it is gone.
        """

    async def remove(self, container_id: ContainerId) -> None:
        """Remove a container and wait until its name is free; no error if it is gone.

        Its anonymous volumes stay, unless it never started or its spec discards them.
        """


class Images(Protocol):
    """Images of deployments, pinned so that a prune cannot remove a rollback's image."""

    async def has_image(self, deployment: Deployment) -> bool:
        """Whether the image of the deployment exists here under its pin, and is the one it was resolved to."""

    async def image_volumes(self, deployment: Deployment) -> frozenset[str] | None:
        """The paths that the deployment's image declares as volumes; None while that image is not here.

        Before the image is resolved, the local image of its name counts.
        """

    async def obtain_image(
        self,
        deployment: Deployment,
        auth: RegistryAuth | None,
        progress: PullProgress,
        *,
        resolve: bool = True,
        deadline: float | None = None,
    ) -> str:
        """Pull and pin; return a sentence when a local image was used instead of the registry's, else "".

        A resolved image is brought back as it was, never by its tag. With `resolve` false this also holds for one that
        was never recorded: it comes from a replica of the deployment, or not at all (IMAGE_NOT_FOUND).

        A registry that limits pulls is asked again until `deadline`, in the event loop's time; None: not again.
        """

    async def resolved_image(self, deployment: Deployment) -> ResolvedImage | None:
        """Which image is pinned for the deployment; None when none is."""


class Releases(Protocol):
    """Release commands: one container per deployment, which is no replica."""

    async def run_release(self, deployment: Deployment, limit_secs: float, mounts: Mounts = None) -> None:
        """Run the release command to its end. One that runs already, or has run for this deployment, is not run again.

        Raises StepFailed: RELEASE_FAILED when it exits non-zero or is not done in time, IMAGE_NOT_FOUND as `create`.
        """

    async def remove_releases(self, service_id: ServiceId, grace_secs: float) -> None:
        """Remove what release commands of the service have left; one that still runs is stopped first."""


class Networks(Protocol):
    """The networks of projects."""

    async def ensure_network(self, project: str) -> None:
        """Create the project's network when it is missing."""

    async def release_network(self, project: str) -> None:
        """Remove the project's network when no container of the project exists; address pools are finite."""

    async def networks(self, projects: frozenset[str]) -> list[ProjectNetwork]:
        """The existing networks of these projects, sorted by project."""


class Volumes(Protocol):
    """Named volumes. They are never removed."""

    async def find_volumes(self, names: frozenset[str]) -> list[Volume]:
        """Those of these volumes that exist, with the containers that mount them, sorted by name."""

    async def ensure_volume(self, name: str, *, project: str = "", service_id: ServiceId | None = None) -> None:
        """Create a named volume for a project when it is missing. Refuses one that is another project's."""


class Obstacles(Protocol):
    """What can be seen before it is tried."""

    async def obstacles(self, deployment: Deployment) -> list[str]:
        """Why the deployment would fail as things are now, one sentence each; what cannot be known is left out."""


class Connections(Protocol):
    """Open connections of containers."""

    async def open_connections(self, container: Container, port: int) -> int | None:
        """How many connections from outside are open at a container's port; None when that is unknown."""


class ContainerEngine(
    Containers,
    Lifecycle,
    Images,
    Releases,
    Networks,
    Volumes,
    Obstacles,
    Connections,
    Availability,
    Survey,
    Failures,
    Logs,
    Exec,
    Copies,
    Usage,
    Retention,
    Exits,
    Watched,
    Protocol,
):
    """A complete container engine."""
