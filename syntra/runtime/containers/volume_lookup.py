"""Looks up the volumes of a deployment's replicas on the engine, and makes them exist."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from syntra.model.container import Container
from syntra.model.spec import Deployment, ImageVolumes
from syntra.runtime.containers.engine import Images, Volumes
from syntra.runtime.containers.steps import EnsureVolume
from syntra.runtime.containers.volumes import ReplicaVolumes, candidates, resolve
from syntra.runtime.errors import StepFailed


class VolumeSource(Images, Volumes, Protocol):
    """The engine's capabilities that this needs."""


async def replica_volumes(
    engine: VolumeSource, deployment: Deployment, replicas: Sequence[Container]
) -> ReplicaVolumes:
    """The volumes for replicas of a deployment; `replicas` are the service's containers."""
    spec = deployment.spec
    names = candidates(spec)
    existing = await engine.find_volumes(names) if names else []
    keeps = spec.image_volumes is ImageVolumes.KEEP
    declared = await engine.image_volumes(deployment) if keeps else frozenset[str]()
    return resolve(spec, existing, declared=declared, replicas=replicas)


async def ensure_volume(engine: Volumes, step: EnsureVolume) -> None:
    """Create the volume when it is missing. Raises StepFailed for an external one that is missing."""
    if not step.is_external:
        await engine.ensure_volume(step.name, project=step.project, service_id=step.service_id)
    elif not await engine.find_volumes(frozenset({step.name})):
        raise StepFailed("VOLUME_NOT_FOUND", missing_volume(step.name))


def missing_volume(name: str) -> str:
    """The sentence for an external volume that does not exist."""
    return f"cannot use volume {name}: it does not exist; create it, or drop `external` for a volume of the project"
