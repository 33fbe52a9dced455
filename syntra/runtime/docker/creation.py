"""Creates containers, and the networks that they need."""

from __future__ import annotations

import dataclasses
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from syntra.model.fields import Json
from syntra.model.ids import ContainerId
from syntra.model.spec import Deployment, ServiceSpec
from syntra.model.volume import Mounts
from syntra.runtime.docker import body
from syntra.runtime.docker.containers import Containers
from syntra.runtime.docker.errors import NotFound
from syntra.runtime.docker.identity import Identity
from syntra.runtime.docker.looks import Looks
from syntra.runtime.docker.naming import Naming
from syntra.runtime.docker.networks import Networks
from syntra.runtime.docker.pins import Pins
from syntra.runtime.docker.records import NetworkDetails
from syntra.runtime.docker.system import System
from syntra.runtime.docker.telemetry_env import OtlpPorts
from syntra.runtime.errors import StepFailed
from syntra.utils.frozen import frozen
from syntra.utils.keyed_lock import KeyedLock

RouteLabels = Callable[[ServiceSpec, Mapping[str, str]], Mapping[str, str]]


@frozen
class AgentSettings:
    """What the agent adds to every container: its name, its OTLP ports, and labels for a proxy that reads them.

    `route_labels` gets the service's spec and its image's labels, which the container inherits. Raises StepFailed.
    """

    owner: str
    otlp_ports: OtlpPorts | None
    route_labels: RouteLabels


class Creation:
    """Each container is created from its deployment's pinned image and no other. Raises the client's errors, and
    StepFailed (IMAGE_NOT_FOUND) when that image does not exist here."""

    def __init__(
        self,
        settings: AgentSettings,
        *,
        containers: Containers,
        networks: Networks,
        pins: Pins,
        naming: Naming,
        looks: Looks,
        identity: Identity,
        system: System,
    ) -> None:
        self._settings = settings
        self._containers = containers
        self._networks = networks
        self._pins = pins
        self._naming = naming
        self._looks = looks
        self._identity = identity
        self._system = system
        self.logging_driver: str | None = None
        """The engine's default log driver; None: asked when it is needed."""
        # Per project, the number of containers being created in its network: such a network is not removed.
        self._creating: Counter[str] = Counter()
        self._releasing = KeyedLock()

    async def create(self, deployment: Deployment, index: int, mounts: Mounts) -> tuple[ContainerId, str]:
        """Create a replica; return id and name."""
        name = body.container_name(deployment.spec.service_id, deployment.deployment_id, index)
        wanted = body.create_body(deployment, index, await self._context(deployment, mounts))
        return await self._create(deployment, name, wanted)

    async def create_release(self, deployment: Deployment, mounts: Mounts) -> ContainerId:
        """Create the container that runs the release command."""
        name = body.release_name(deployment.spec.service_id, deployment.deployment_id)
        wanted = body.release_body(deployment, await self._context(deployment, mounts, is_routed=False))
        container_id, _ = await self._create(deployment, name, wanted)
        return container_id

    @asynccontextmanager
    async def in_project(self, project: str) -> AsyncIterator[None]:
        """The project's network is not removed meanwhile."""
        async with self._releasing.holding(project):
            self._creating[project] += 1
        try:
            yield
        finally:
            self._creating[project] -= 1

    async def ensure_network(self, project: str) -> NetworkDetails:
        """The project's network, created when missing."""
        return await self._networks.ensure(body.network_name(project), {body.MANAGED: "true", body.PROJECT: project})

    async def release_network(self, project: str) -> None:
        """Remove the project's network unless a container needs it."""
        async with self._releasing.holding(project):
            name = body.network_name(project)
            if self._creating[project] or await self._looks.wants_network(project, name):
                return
            network = await self._networks.inspect(name)
            if network is not None and network.labels.get(body.MANAGED) == "true":
                await self._networks.remove(network.id)

    async def _create(self, deployment: Deployment, name: str, wanted: dict[str, Json]) -> tuple[ContainerId, str]:
        try:
            container_id, name = await self._containers.create_free(name, wanted)
        except NotFound as gone:
            if "image" not in gone.message.lower():
                raise
            raise _image_gone(deployment) from gone
        self._identity.made(container_id)
        return container_id, name

    async def _context(
        self, deployment: Deployment, mounts: Mounts, *, is_routed: bool = True
    ) -> body.ContainerContext:
        spec = deployment.spec
        network = await self.ensure_network(spec.project_name)
        image = await self._pins.held(deployment)
        if image is None:
            raise _image_gone(deployment)
        routed = spec if is_routed else dataclasses.replace(spec, domains=())
        dns, with_aliases = await self._naming.of(deployment, network)
        return body.ContainerContext(
            owner=self._settings.owner,
            instance=secrets.token_hex(16),
            image=self._pins.of(deployment),
            stop_signal=image.stop_signal or None,
            network=network.name,
            gateway=network.gateway,
            otlp_ports=self._settings.otlp_ports,
            logging_driver=await self._driver(),
            route_labels=self._settings.route_labels(routed, image.labels),
            dns=dns,
            with_aliases=with_aliases,
            mounts=mounts,
        )

    async def _driver(self) -> str:
        if self.logging_driver is None:
            self.logging_driver = (await self._system.info()).logging_driver
        return self.logging_driver


def _image_gone(deployment: Deployment) -> StepFailed:
    image = deployment.spec.image
    return StepFailed("IMAGE_NOT_FOUND", f"cannot create a container: image {image} is gone; deploy again")
