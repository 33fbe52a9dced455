"""Which volumes the replicas of a deployment mount, by their names on the engine. Pure.

Named volumes of a spec belong to its project, so their names begin with it. A service from before that rule keeps the
volume that it uses under the bare name; `external` asks for the bare name.

The paths that an image declares as volumes get one named volume for each replica's number. Without one the engine makes
an anonymous volume for each container (Engine API, "Create a container", Volumes), and the next container would begin
with an empty one. A mount above such a path does not cover it: the engine still makes the volume.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field

from syntra.model.container import Container, ContainerState
from syntra.model.ids import ServiceId
from syntra.model.spec import ImageVolumes, ServiceSpec, VolumeMount
from syntra.model.volume import Mount, Volume
from syntra.runtime.containers.steps import EnsureVolume
from syntra.utils.frozen import frozen

MAX_NAME = 200
"""The engine keeps a volume in a folder of its name, and a file name has 255 bytes at most."""

UNKNOWN_IMAGE_VOLUMES = "the volumes that the image declares are known once the image is here"

_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
_PLAIN_PATH = re.compile(r"(/[A-Za-z0-9-]+)+")
_DIGEST_CHARS = 10


@frozen
class ReplicaVolumes:
    """The volumes of a deployment's replicas.

    `names`: the spec's names of its volumes and whether they are external, to the engine's. `image_paths`: where
    replicas have image volumes; None while the image is not here. `adopted`: by replica index and path, an anonymous
    volume that a container of an earlier version of the agent has there. `missing`: external volumes that do not exist.
    `shared`: one sentence for each volume that another service writes to as well.
    """

    spec: ServiceSpec
    names: Mapping[tuple[str, bool], str]
    image_paths: tuple[str, ...] | None = ()
    adopted: Mapping[tuple[int, str], str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    @property
    def own_mounts(self) -> tuple[Mount, ...]:
        """What the spec mounts in every replica."""
        return tuple(
            Mount(
                source=volume.host_path or self._name(volume),
                target=volume.container_path,
                read_only=volume.read_only,
                is_bind=volume.host_path is not None,
            )
            for volume in self.spec.volumes
        )

    def mounts(self, index: int) -> tuple[Mount, ...]:
        """Everything that the replica of this index mounts."""
        image = (Mount(source=name, target=path) for path, name in self.image_volumes(index).items())
        return (*self.own_mounts, *image)

    def image_volumes(self, index: int) -> dict[str, str]:
        """The paths of a replica's image volumes, to their names."""
        return {
            path: self.adopted.get((index, path)) or image_volume_name(self.spec, path, index)
            for path in self.image_paths or ()
        }

    def shared_with(self, index: int, other: Container) -> str | None:
        """The path of an image volume of the replica `index` that another container writes to; None without one."""
        found = (path for path, name in self.image_volumes(index).items() if name in other.writable_mounts)
        return next(found, None)

    def ensured(self, indexes: Iterable[int]) -> list[EnsureVolume]:
        """The steps that make the volumes of these replicas exist, in order of their names."""
        spec = self.spec
        steps = {
            self._name(volume): EnsureVolume(
                name=self._name(volume), project=spec.project_name, is_external=volume.external
            )
            for volume in spec.volumes
            if volume.host_path is None
        }
        for index in indexes:
            for name in self.image_volumes(index).values():
                steps[name] = EnsureVolume(name=name, project=spec.project_name, service_id=spec.service_id)
        return [steps[name] for name in sorted(steps)]

    def _name(self, volume: VolumeMount) -> str:
        return self.names[volume.name, volume.external]


def as_written(spec: ServiceSpec) -> ReplicaVolumes:
    """The spec's volumes by the names that it gives, without image volumes."""
    return ReplicaVolumes(spec=spec, names={(volume.name, volume.external): volume.name for volume in spec.volumes})


def candidates(spec: ServiceSpec) -> frozenset[str]:
    """Every name on the engine that one of the spec's volumes may have."""
    return frozenset(
        name
        for volume in spec.volumes
        if volume.host_path is None
        for name in (volume.name, *(() if volume.external else _own_names(spec.project_name, volume.name)))
    )


def resolve(
    spec: ServiceSpec,
    existing: Sequence[Volume],
    *,
    declared: Iterable[str] | None,
    replicas: Sequence[Container],
) -> ReplicaVolumes:
    """The volumes for replicas of a spec. `existing` are those of `candidates` that exist; `replicas` the service's
    containers; `declared` the paths of the image's volumes, None when they are not known."""
    by_name = {volume.name: volume for volume in existing}
    named = [volume for volume in spec.volumes if volume.host_path is None]
    names = {
        (volume.name, volume.external): volume.name if volume.external else _project_volume(spec, volume.name, by_name)
        for volume in named
    }
    paths: tuple[str, ...] | None = ()
    if spec.image_volumes is ImageVolumes.KEEP:
        taken = {volume.container_path for volume in spec.volumes} | {mount.path for mount in spec.options.tmpfs}
        paths = None if declared is None else tuple(sorted({posixpath.normpath(path) for path in declared} - taken))
    written = sorted({names[volume.name, volume.external] for volume in named if not volume.read_only})
    return ReplicaVolumes(
        spec=spec,
        names=names,
        image_paths=paths,
        adopted=_anonymous(replicas, paths or ()),
        missing=tuple(sorted({v.name for v in named if v.external and v.name not in by_name})),
        shared=tuple(
            f"volume {name} is also mounted writable by {_listed(writers)}"
            for name in written
            if name in by_name and (writers := _other_writers(spec.service_id, by_name[name]))
        ),
    )


def image_volume_name(spec: ServiceSpec, path: str, index: int) -> str:
    """The name of a replica's volume at a path that the image declares: `shop_svc_db_var.lib.data_1`."""
    slug = re.sub(r"[^A-Za-z0-9-]", ".", path.removeprefix("/"))
    # Otherwise two paths, or two pairs of project and service, could have one name.
    is_plain = _PLAIN_PATH.fullmatch(path) is not None and "_" not in spec.project_name
    full = f"{spec.project_name}_{spec.service_id}_{slug}"
    return _bounded(full, (spec.project_name, spec.service_id, path), is_plain=is_plain, end=f"_{index}")


def is_anonymous(name: str) -> bool:
    """Whether the engine made a volume of this name by itself."""
    return _ANONYMOUS.fullmatch(name) is not None


def remaining(replicas: Iterable[Container], spec: ServiceSpec | None) -> tuple[str, ...]:
    """The volumes that stay when these containers are removed."""
    discards = spec is not None and spec.image_volumes is ImageVolumes.DISCARD
    names = {name for replica in replicas for name in replica.volumes.values()}
    return tuple(sorted(name for name in names if not (discards and is_anonymous(name))))


def _own_names(project: str, name: str) -> tuple[str, str]:
    """The project's name for a volume, and the one for when another project has taken that."""
    full = f"{project}_{name}"
    return _bounded(full, (project, name), is_plain=True), _bounded(full, (project, name), is_plain=False)


def _bounded(full: str, parts: tuple[str, ...], *, is_plain: bool, end: str = "") -> str:
    room = MAX_NAME - len(end)
    if is_plain and len(full) <= room:
        return full + end
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_DIGEST_CHARS]
    return f"{full[: room - _DIGEST_CHARS - 1]}-{digest}{end}"


def _project_volume(spec: ServiceSpec, name: str, existing: Mapping[str, Volume]) -> str:
    own, apart = _own_names(spec.project_name, name)
    # Volume `c` of project `a_b` and `b_c` of project `a` have one name: the labels say whose volume it is.
    is_taken = own in existing and existing[own].project not in ("", spec.project_name)
    if own in existing and not is_taken:
        return own
    if apart in existing:
        return apart
    bare = existing.get(name)
    if bare is not None and _stays_bare(spec, bare):
        return name
    return apart if is_taken else own


def _stays_bare(spec: ServiceSpec, volume: Volume) -> bool:
    """Whether a volume under the bare name is this project's, from before names had the project in them."""
    if any(user.service_id == spec.service_id for user in volume.users):
        return True
    projects = {user.project for user in volume.users} | ({volume.project} if volume.project else set())
    return projects <= {spec.project_name} and (volume.is_managed or bool(projects))


def _anonymous(replicas: Sequence[Container], paths: Sequence[str]) -> dict[tuple[int, str], str]:
    # What runs has the data, else what was made last. A container that never started has nothing.
    started = [r for r in replicas if r.started_ns is not None and r.state is not ContainerState.CREATED]
    found: dict[tuple[int, str], str] = {}
    for replica in sorted(started, key=lambda replica: (replica.is_up, replica.created_ns)):
        for path in paths:
            name = replica.volumes.get(path)
            if name is not None:
                found[replica.index, path] = name
    return {place: name for place, name in found.items() if is_anonymous(name)}


def _other_writers(service_id: ServiceId, volume: Volume) -> list[str]:
    return sorted(
        {
            f"service {user.service_name or user.service_id}" if user.service_id else "a container of another program"
            for user in volume.users
            if user.is_writer and user.service_id != service_id
        }
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
