"""Volumes as an engine has them: what exists, who mounts it, and what a replica is to mount."""

from __future__ import annotations

from collections.abc import Sequence

from syntra.model.ids import ContainerId, ServiceId
from syntra.utils.frozen import frozen


@frozen
class VolumeUser:
    """A container that mounts a volume, in any state. Without our labels it has no service and no project."""

    container_id: ContainerId
    service_id: ServiceId | None
    service_name: str
    project: str
    is_writer: bool


@frozen
class Volume:
    """A volume that exists. `is_managed`: created for a service; `project` is empty when its labels name none."""

    name: str
    is_managed: bool
    project: str
    users: tuple[VolumeUser, ...]


@frozen
class Mount:
    """What a replica mounts: `source` is a volume's name on the engine, or a path on the host when `is_bind`."""

    source: str
    target: str
    read_only: bool = False
    is_bind: bool = False


Mounts = Sequence[Mount] | None
"""Everything that a container mounts; None: what its spec says, by the names that it gives."""
