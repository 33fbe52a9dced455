"""Creates a replica again whose network was removed while it was down.

Such a container can never start: the engine remembers the network's id. It is recreated rather than connected to the
new network, because a container's resolver is decided at create and the new network may have another gateway.
"""

from __future__ import annotations

from typing import Protocol

from syntra.model.container import Container
from syntra.model.ids import ContainerId
from syntra.model.spec import Deployment, ServiceSpec
from syntra.runtime.containers.engine import Images, Lifecycle, Networks, Volumes


class RecreatingEngine(Lifecycle, Images, Networks, Volumes, Protocol):
    """The engine's capabilities that creating a replica needs."""


class Preparation(Protocol):
    """Prepares a project's network for its first container."""

    async def prepare(self, spec: ServiceSpec) -> None:
        """The network of the service's project exists."""


async def ensure_surroundings(engine: RecreatingEngine, traffic: Preparation, spec: ServiceSpec) -> None:
    """Create the network and the volumes of a service when they are missing."""
    await engine.ensure_network(spec.project_name)
    await traffic.prepare(spec)
    for name in sorted({volume.name for volume in spec.volumes if not volume.host_path}):
        await engine.ensure_volume(name)


async def recreate(
    engine: RecreatingEngine, traffic: Preparation, replica: Container, deployment: Deployment
) -> ContainerId:
    """Replace a container by a new one of the same index, and start it. `deployment` is the one it was created from.

    Its anonymous volumes are not removed. Nothing is removed before the image, network and volumes exist.
    """
    if not await engine.has_image(deployment):
        await engine.obtain_image(deployment, None, _no_progress, resolve=False)
    await ensure_surroundings(engine, traffic, deployment.spec)
    await engine.remove(replica.container_id, with_volumes=False)
    container_id, _ = await engine.create(deployment, replica.index)
    await engine.start(container_id)
    return container_id


def _no_progress(percent: int, text: str) -> None:
    """Ignore the progress of a pull."""
