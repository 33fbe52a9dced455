"""Why old and new replicas of a service cannot run side by side. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from syntra.model.container import Container
from syntra.runtime.containers.volumes import ReplicaVolumes


def stop_first_reason(volumes: ReplicaVolumes, old: Sequence[Container]) -> str | None:
    """What all replicas of the spec hold, and these hold now; None when they can run side by side."""
    spec = volumes.spec
    if spec.host_port is not None and any(spec.host_port in replica.host_ports for replica in old):
        return f"host port {spec.host_port} can be held by one container at a time"
    if spec.replicas <= 1:
        for mount in volumes.own_mounts:
            if not mount.read_only and any(mount.source in replica.writable_mounts for replica in old):
                return f"volume {mount.source} has a single writer"
    return None


def image_volume_reason(volumes: ReplicaVolumes, old: Sequence[Container]) -> str | None:
    """The image volume that a new replica takes over from one of these; None when none has any."""
    paths = sorted(path for replica in old if (path := volumes.shared_with(replica.index, replica)))
    if not paths:
        return None
    return (
        f"the image's volume {paths[0]} has a single writer; set image_volumes: discard if its content is not worth "
        "keeping"
    )


def note_on(reason: str, *, by_index: bool) -> str:
    """What a plan says about it. `by_index`: replicas have volumes of their own, and are replaced one after another."""
    if by_index:
        return f"each old container stops before the new one with its volume starts: {reason}"
    return f"the old container stops before the new one starts: {reason}"
