"""Removes replicas, and their anonymous volumes only where these hold nothing to keep."""

from __future__ import annotations

from syntra.model.spec import ImageVolumes
from syntra.runtime.docker.containers import Containers
from syntra.runtime.docker.errors import NotFound
from syntra.runtime.docker.records import ContainerDetails
from syntra.runtime.docker.replicas import deployment_of


async def remove_replica(containers: Containers, container_id: str) -> None:
    """Remove a container; no error if it is gone."""
    try:
        details = await containers.inspect(container_id)
    except NotFound:
        return
    await containers.remove(container_id, force=True, volumes=holds_nothing(details))


def holds_nothing(details: ContainerDetails) -> bool:
    """Whether the anonymous volumes of a container may go with it: it never started, or its spec discards them.

    What served may have written there, whatever state it is in now.
    """
    if details.state.status == "created":
        return True
    deployment = deployment_of(details)
    return deployment is not None and deployment.spec.image_volumes is ImageVolumes.DISCARD
