"""Creates a replica of a deployment with everything that it needs; also again, where its network was removed.

A container whose network was removed can never start: the engine remembers the network's id. It is recreated rather
than connected to the new network, because a container's resolver is decided at create and the new network may have
another gateway.
"""

from __future__ import annotations

from typing import Protocol

from syntra.model.container import Container
from syntra.model.ids import ContainerId
from syntra.model.spec import Deployment, ServiceSpec
from syntra.runtime.containers.engine import Containers, Images, Lifecycle, Networks, Volumes
from syntra.runtime.containers.volume_lookup import ensure_volume, replica_volumes
from syntra.runtime.errors import StepFailed


class RecreatingEngine(Lifecycle, Images, Networks, Volumes, Containers, Protocol):
    """The engine's capabilities that creating a replica needs."""


class Preparation(Protocol):
    """Prepares a project's network for its first container."""

    async def prepare(self, spec: ServiceSpec) -> None:
        """The network of the service's project exists."""


async def create_replica(
    engine: RecreatingEngine, traffic: Preparation, deployment: Deployment, index: int, *, remove: ContainerId | None
) -> ContainerId:
    """Create and start a replica, with its network and volumes. The image must be here.

    `remove` is a container in its place; it goes once everything else exists, and its volumes stay.
    """
    # Before the removal: a container that is down may be what shows which volumes are its replica's.
    existing = await engine.observe(deployment.spec.service_id)
    volumes = await replica_volumes(engine, deployment, existing)
    if volumes.image_paths is None:
        raise StepFailed("IMAGE_NOT_FOUND", f"cannot create a replica: image {deployment.spec.image} is gone")
    await engine.ensure_network(deployment.spec.project_name)
    await traffic.prepare(deployment.spec)
    for step in volumes.ensured([index]):
        await ensure_volume(engine, step)
    if remove is not None:
        await engine.remove(remove)
    container_id, _ = await engine.create(deployment, index, volumes.mounts(index))
    await engine.start(container_id)
    return container_id


async def recreate(
    engine: RecreatingEngine, traffic: Preparation, replica: Container, deployment: Deployment
) -> ContainerId:
    """Replace a container by a new one of the same index. `deployment` is the one it was created from."""
    if not await engine.has_image(deployment):
        await engine.obtain_image(deployment, None, _no_progress, resolve=False)
    return await create_replica(engine, traffic, deployment, replica.index, remove=replica.container_id)


def _no_progress(percent: int, text: str) -> None:
    """Ignore the progress of a pull."""
