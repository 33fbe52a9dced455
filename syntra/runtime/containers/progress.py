"""How far a step of a plan for containers is, in a few words for people. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from syntra.model.container import Container
from syntra.model.ids import ContainerId
from syntra.runtime.runtime import Desired


def healthy(
    desired: Desired,
    observed: Sequence[Container],
    created: Sequence[ContainerId],
    awaited: Sequence[ContainerId],
    passed: Callable[[ContainerId], bool | None],
) -> str:
    """`2/3 healthy`: the replicas of the whole operation, not only of this step.

    `passed` says whether a replica became healthy since it was awaited last; None when it never was.
    """
    done = {container_id for container_id in awaited if passed(container_id)}
    if desired.is_rolling_back or desired.deployment is None:
        return f"{len(done)}/{len(awaited)} healthy"
    done |= {container_id for container_id in created if passed(container_id)}
    # A replica that ran before and is not awaited stays as it is.
    done |= {
        replica.container_id
        for replica in observed
        if replica.deployment_id == desired.deployment.deployment_id
        and replica.is_running
        and replica.container_id not in awaited
        and passed(replica.container_id) is not False
    }
    total = max(desired.replicas, len(awaited))
    return f"{min(len(done), total)}/{total} healthy"


def open_connections(count: int | None) -> str:
    """`3 open connections`; empty when there are none, or when they cannot be counted."""
    return f"{count} open connection{'' if count == 1 else 's'}" if count else ""
