"""Why no requests can be sent to a replica. Pure."""

from __future__ import annotations

from syntra.model.container import Container
from syntra.model.ids import ContainerId
from syntra.runtime.errors import StepFailed


def unreachable(container_id: ContainerId, replica: Container | None) -> StepFailed:
    """Why no requests can be sent to a replica that has no address."""
    if replica is None:
        code, about, why = "CONTAINER_NOT_FOUND", container_id[:12], "it was removed outside the agent; deploy again"
    elif replica.is_running:
        code, about, why = "ROUTE_FAILED", replica.name, "it has no address on its network; connect it, or deploy again"
    else:
        ended = "it does not stay up" if replica.exit_code is None else f"it exited with code {replica.exit_code}"
        code, about, why = "CONTAINER_CRASHED", replica.name, f"{ended} right after its start; see its log"
    return StepFailed(code, f"cannot route requests to {about}: {why}", container_id=container_id)
