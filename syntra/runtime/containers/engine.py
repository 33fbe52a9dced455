"""What a container engine does: primitives, each one call or a few. Docker's engine satisfies it, and Podman's.

The errors are those of `runtime.runtime`: RuntimeUnavailable and StepFailed from every method, and all are safe to
cancel. Consumers declare which of these protocols they need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from syntra.model.container import Container
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.image import ResolvedImage
from syntra.model.network import ProjectNetwork
from syntra.model.spec import Deployment, RegistryAuth
from syntra.runtime.runtime import Availability, Exec, Exits, Logs, Retention, Survey, Usage, Watched

# Called with 0–100 and a sentence while an image is pulled.
PullProgress = Callable[[int, str], None]


class Containers(Protocol):
    """Looking at containers of ours."""

    async def observe(self, service_id: ServiceId | None = None) -> Sequence[Container]:
        """Every container of ours, or of one service, in any state."""

    async def inspect(self, container_id: ContainerId) -> Container | None:
        """One container; None when it is gone."""


class Lifecycle(Protocol):
    """Making, starting, stopping and removing containers."""

    async def create(self, deployment: Deployment, index: int) -> tuple[ContainerId, str]:
        """Create a replica, not started; id and name. A container that an earlier, lost call made is adopted.

        Refused with IMAGE_NOT_FOUND when the deployment's image is not here, or its pin holds another one.
        """

    async def start(self, container_id: ContainerId) -> None:
        """Start a container and see that the engine keeps it up; no error when it runs."""

    async def stop(self, container_id: ContainerId, grace_secs: float) -> None:
        """Restart policy off, then SIGTERM, `grace_secs`, SIGKILL; no error when it is down or gone."""

    async def restart(self, container_id: ContainerId, grace_secs: float) -> None:
        """Restart a container, or start it when it is down."""

    async def remove(self, container_id: ContainerId) -> None:
        """Remove a container with its anonymous volumes and wait until its name is free; no error when it is gone."""


class Images(Protocol):
    """Images of deployments, pinned so that pruning cannot take a rollback away."""

    async def has_image(self, deployment: Deployment) -> bool:
        """Whether the image of the deployment is here under its pin, and is the one it was resolved to."""

    async def obtain_image(
        self, deployment: Deployment, auth: RegistryAuth | None, progress: PullProgress, *, resolve: bool = True
    ) -> str:
        """Pull and pin; returns a sentence when a present image stood in for the registry, else an empty string.

        What is resolved already is brought back as it was, never by its tag. With `resolve` false that is so for what
        was never recorded as well: from a replica of the deployment, or not at all (IMAGE_NOT_FOUND).
        """

    async def resolved_image(self, deployment: Deployment) -> ResolvedImage | None:
        """Which image is pinned for the deployment; None when none is."""


class Networks(Protocol):
    """The networks of projects."""

    async def ensure_network(self, project: str) -> None:
        """Make the project's network when it is missing."""

    async def release_network(self, project: str) -> None:
        """Remove the project's network when no container of the project is left; address pools are finite."""

    async def networks(self, projects: frozenset[str]) -> list[ProjectNetwork]:
        """The networks of these projects, sorted by project; those that have none are left out."""


class Volumes(Protocol):
    """Named volumes."""

    async def ensure_volume(self, name: str) -> None:
        """Make a named volume when it is missing."""


class Connections(Protocol):
    """Open connections of containers."""

    async def open_connections(self, container: Container, port: int) -> int | None:
        """How many connections from outside are open at a container's port; None when that cannot be known."""


class ContainerEngine(
    Containers,
    Lifecycle,
    Images,
    Networks,
    Volumes,
    Connections,
    Availability,
    Survey,
    Logs,
    Exec,
    Usage,
    Retention,
    Exits,
    Watched,
    Protocol,
):
    """A whole container engine."""
