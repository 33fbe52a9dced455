"""Replaces replicas that have volumes of their own: one stops, then its replacement starts on its volumes. Pure.

All others keep running meanwhile, so a service of several replicas stays up with one fewer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from syntra.model.container import Container
from syntra.runtime.containers.steps import AwaitHealthy, StartReplica, StopReplicas
from syntra.runtime.containers.volumes import ReplicaVolumes
from syntra.runtime.runtime import Commit, Ref, Step


def replaced_by_index(
    volumes: ReplicaVolumes, starts: Sequence[tuple[Ref, Sequence[Step]]], retire: Sequence[Container]
) -> Iterable[Step]:
    """The steps up to the commit, and the stop of what is left of `retire`.

    `starts`: every new replica with the steps that start it, none when it runs; the last of them starts it.
    """
    waiting = list(retire)

    def needs_a_stop(start: tuple[Ref, Sequence[Step]]) -> bool:
        return bool(start[1] and _holders(volumes, start[0].index, retire))

    # First what needs no old replica to stop: with one old replica of three new ones, two serve before it stops.
    for ref, start in sorted(starts, key=lambda start: (needs_a_stop(start), start[0].index)):
        yield from start[:-1]
        if start and (holders := _holders(volumes, ref.index, waiting)):
            yield _stop(holders)
            waiting = [replica for replica in waiting if replica not in holders]
        yield from start[-1:]
        yield AwaitHealthy(replicas=(ref,))
    yield Commit()
    if waiting:
        yield _stop(waiting)


def restored_by_index(volumes: ReplicaVolumes, down: Sequence[Container], new: Sequence[Container]) -> Iterable[Step]:
    """The steps that start the replicas in `down` again, each after those of `new` that have its volumes."""
    waiting = list(new)
    for replica in down:
        holders = [other for other in waiting if _has_volume_of(volumes, other, replica)]
        if holders:
            yield _stop(holders)
            waiting = [other for other in waiting if other not in holders]
        yield StartReplica(replica=ref_of(replica))
        yield AwaitHealthy(replicas=(ref_of(replica),))
    if waiting:
        yield _stop(waiting)


def ref_of(replica: Container) -> Ref:
    """An existing replica in a plan."""
    return Ref(name=replica.name, index=replica.index, container_id=replica.container_id)


def _holders(volumes: ReplicaVolumes, index: int, replicas: Iterable[Container]) -> list[Container]:
    """The replicas that write to an image volume of the new replica `index`."""
    return [replica for replica in replicas if volumes.shared_with(index, replica) is not None]


def _has_volume_of(volumes: ReplicaVolumes, new: Container, old: Container) -> bool:
    names = set(volumes.image_volumes(new.index).values())
    return bool(names & new.writable_mounts & old.writable_mounts)


def _stop(replicas: Sequence[Container]) -> StopReplicas:
    in_order = sorted(replicas, key=lambda replica: (replica.index, replica.created_ns))
    return StopReplicas(replicas=tuple(ref_of(replica) for replica in in_order))
