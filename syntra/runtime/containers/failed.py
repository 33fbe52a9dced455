"""What a rollback keeps of the failed version: the container whose failure ended the operation. Pure.

Which one it is was decided, and journaled, when the operation failed. So a plan that is made again after a kill keeps
the same one: it finds it among the replicas, or among the failed containers once it is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from syntra.model.container import Container
from syntra.model.ids import ContainerId
from syntra.runtime.containers.index_by_index import ref_of
from syntra.runtime.containers.steps import KeepFailed
from syntra.runtime.runtime import Ref, Step


def kept(at_fault: ContainerId | None, new: Sequence[Container]) -> tuple[list[KeepFailed], list[Container]]:
    """The step that keeps the replica at fault, if it is one of `new`; and the others, which are removed."""
    found = [replica for replica in new if replica.container_id == at_fault]
    rest = [replica for replica in new if replica.container_id != at_fault]
    return [KeepFailed(replica=ref_of(replica)) for replica in found], rest


def kept_release(
    at_fault: ContainerId | None, observed: Sequence[Container], failed: Sequence[Container]
) -> list[KeepFailed]:
    """The step that keeps the container of the release command, when it is at fault: it is no replica."""
    known = {replica.container_id for replica in (*observed, *failed)}
    if at_fault is None or at_fault in known:
        return []
    return [KeepFailed(replica=Ref(name="the release command's container", index=1, container_id=at_fault))]


def replaced(steps: Sequence[Step], at_fault: ContainerId | None, failed: Sequence[Container]) -> list[Container]:
    """What earlier failed deployments have left, when these steps keep another, or one is kept already; else none."""
    is_kept = at_fault in {container.container_id for container in failed}
    if not is_kept and not any(isinstance(step, KeepFailed) for step in steps):
        return []
    return [container for container in failed if container.container_id != at_fault]
