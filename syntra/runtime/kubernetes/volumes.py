"""The volumes of a service: claims for named volumes, host paths, and file systems in memory. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from syntra.model.container_options import Tmpfs
from syntra.model.spec import ServiceSpec, VolumeMount
from syntra.runtime.kubernetes import names
from syntra.runtime.kubernetes.metadata import owned
from syntra.runtime.kubernetes.objects import Object, without_empty
from syntra.runtime.kubernetes.resources import CLAIM
from syntra.utils.frozen import frozen
from syntra.utils.quantities import parse_bytes

SHM_PATH = "/dev/shm"
# An emptyDir in memory is writable by all, and has no other options.
_GIVEN_OPTIONS = frozenset({"rw", "mode=777", "mode=0777", "mode=1777", "mode=01777"})


@frozen
class PodVolumes:
    """The volumes of a pod, and their mounts in its container."""

    volumes: list[Object]
    mounts: list[Object]


def claimed(spec: ServiceSpec) -> tuple[VolumeMount, ...]:
    """The mounts of named volumes."""
    return tuple(mount for mount in spec.volumes if mount.host_path is None)


def claim_name(spec: ServiceSpec, mount: VolumeMount) -> str:
    """The name of a volume's claim: an external volume's own, else one that no other service has.

    It does not depend on the service's name, so that a renamed service keeps its data.
    """
    if mount.external:
        return mount.name
    parts = (_slug(part) for part in (spec.service_id, mount.name))
    prefix = "-".join(part for part in parts if part)
    return names.content_name(prefix or "volume", f"{spec.service_id}\0{mount.name}")


def claims(spec: ServiceSpec, labels: Mapping[str, str], *, size: int, storage_class: str) -> tuple[Object, ...]:
    """The claims that the service needs; an external volume's exists already."""
    wanted = {claim_name(spec, mount): mount for mount in claimed(spec) if not mount.external}
    return tuple(
        owned(
            CLAIM,
            name,
            spec,
            labels,
            spec=without_empty(
                (
                    ("accessModes", ["ReadWriteOnce"]),
                    ("storageClassName", storage_class),
                    ("resources", {"requests": {"storage": str(size)}}),
                )
            ),
        )
        for name in sorted(wanted)
    )


def pod_volumes(spec: ServiceSpec) -> PodVolumes:
    """Everything that a pod of the service mounts."""
    volumes: dict[str, Object] = {}
    mounts: list[Object] = []
    sources: dict[str, str] = {}
    for index, mount in enumerate(spec.volumes):
        claim = claim_name(spec, mount)
        key = f"host:{mount.host_path}" if mount.host_path is not None else f"claim:{claim}"
        # A volume that is mounted at two paths is one volume.
        name = sources.setdefault(key, f"volume-{index}")
        if mount.host_path is not None:
            volumes[name] = {"name": name, "hostPath": {"path": mount.host_path}}
        else:
            volumes[name] = {"name": name, "persistentVolumeClaim": {"claimName": claim}}
        mounts.append(_mount(name, mount.container_path, read_only=mount.read_only))
    for index, tmpfs in enumerate(spec.options.tmpfs):
        name = f"tmpfs-{index}"
        volumes[name] = _memory(name, tmpfs_bytes(tmpfs))
        mounts.append(_mount(name, tmpfs.path))
    if spec.options.shm_bytes is not None:
        volumes["shm"] = _memory("shm", spec.options.shm_bytes)
        mounts.append(_mount("shm", SHM_PATH))
    return PodVolumes(volumes=list(volumes.values()), mounts=mounts)


def tmpfs_bytes(tmpfs: Tmpfs) -> int | None:
    """The size that the options say; None without one."""
    sizes = [option.partition("=")[2] for option in _options(tmpfs) if option.startswith("size=")]
    return parse_bytes(sizes[-1]) if sizes else None


def tmpfs_problem(tmpfs: Tmpfs) -> str | None:
    """The first option that a cluster cannot keep; None when it can keep all."""
    for option in _options(tmpfs):
        key, _, text = option.partition("=")
        if option not in _GIVEN_OPTIONS and not (key == "size" and parse_bytes(text) is not None):
            return option
    return None


def _options(tmpfs: Tmpfs) -> list[str]:
    return [option for option in tmpfs.options.split(",") if option]


def _mount(name: str, path: str, *, read_only: bool = False) -> Object:
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def _memory(name: str, size: int | None) -> Object:
    limit = {"sizeLimit": str(size)} if size is not None else {}
    return {"name": name, "emptyDir": {"medium": "Memory", **limit}}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-")
