"""What is seen to run at the end of an operation, in words for its report. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from syntra.agent.journal.rows import ServiceRow
from syntra.model.ids import ContainerId, DeploymentId
from syntra.model.status import Replica, ReplicaStatus
from syntra.utils.frozen import frozen

_SHOWN = 3


@frozen
class ObservedEnd:
    """The end of an operation that failed. `restored`: the earlier version runs as it did before."""

    sentence: str
    restored: bool


def running(replicas: Sequence[Replica], deployment_id: DeploymentId) -> int:
    """How many replicas of a deployment run."""
    return sum(_runs(replica) for replica in replicas if replica.deployment_id == deployment_id)


def after_failure(
    row: ServiceRow | None, prior: AbstractSet[ContainerId], replicas: Sequence[Replica], *, is_same_version: bool
) -> ObservedEnd:
    """What runs after a failed operation and its rollback.

    `row` is the service's desired state, `prior` what ran when the operation began. `is_same_version`: a scale or
    restart, which has no earlier version to return to.
    """
    current = row.deployment_id if row is not None else None
    earlier = [r for r in replicas if r.container_id in prior or r.deployment_id == current]
    up = [replica for replica in earlier if _runs(replica)]
    stray = sum(_runs(replica) for replica in replicas if replica not in earlier)
    wanted = len(prior) if row is None or row.stopped else row.replicas
    if up:
        which = "current" if is_same_version else "previous"
        total = max(wanted, len(up))
        of = f"{len(up)} of {total} replica{'' if total == 1 else 's'}"
        sentence = f"the {which} version is running ({of})"
    elif stray:
        sentence = "the previous version is not running"
    else:
        sentence = f"nothing is running: {_why_nothing(row, prior, earlier)}"
    if stray:
        sentence += f"; {stray} of the failed version still run" + ("s" if stray == 1 else "")
    # What was restarting before may do so again; at least one must be seen to run.
    still_up = sum(replica.is_up for replica in earlier)
    return ObservedEnd(sentence=sentence, restored=bool(prior and up) and still_up >= min(wanted, len(prior)))


def _why_nothing(row: ServiceRow | None, prior: AbstractSet[ContainerId], earlier: Sequence[Replica]) -> str:
    if row is not None and row.stopped:
        return "the service was stopped before"
    if row is None and not prior:
        return "the service has no earlier version"
    if not earlier:
        return "the containers of the previous version are gone"
    return ", ".join(_state(replica) for replica in earlier[:_SHOWN])


def _state(replica: Replica) -> str:
    code = f" with code {replica.exit_code}" if replica.exit_code is not None else ""
    return f"{replica.name} is {replica.state_name}{code}"


def _runs(replica: Replica) -> bool:
    return replica.status is ReplicaStatus.RUNNING
