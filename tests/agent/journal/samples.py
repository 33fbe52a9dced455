"""Commands in a journal: accepted, and brought to their end."""

from __future__ import annotations

from typing import Any

from syntra.agent.journal.rows import Remembered, ServiceRow
from syntra.model.ids import DeploymentId, RequestId, ServiceId
from syntra.model.spec import Deployment
from tests.agent.journal.opened import Opened
from tests.agent.samples import deploy_payload, deployment

WEB = ServiceId("web")


async def accept(journal: Opened, request_id: str, of: Deployment | None = None, **changes: Any) -> None:
    """Accept an operation of the control plane: a deploy of `of`, with `changes` of what is kept."""
    of = of or deployment()
    arguments: dict[str, Any] = {
        "kind": "deploy",
        "service_id": of.spec.service_id,
        "origin": "control-plane",
        "payload": deploy_payload(),
        "response": {"success": True},
        "deployment": of,
        "is_operation": True,
        "messages": ["accepted"],
        **changes,
    }
    await journal.journal.accept(RequestId(request_id), **arguments)


async def committed(journal: Opened, request_id: str, of: Deployment, *, replicas: int = 1) -> None:
    """A deployment that was accepted, begun, committed and reported."""
    await accept(journal, request_id, of)
    await journal.journal.begin(RequestId(request_id), frozenset(), [])
    found = row(of.deployment_id, of.spec.service_id, replicas=replicas)
    await journal.journal.commit(RequestId(request_id), found)
    await journal.journal.finish(RequestId(request_id), response=None, report={"status": "running"}, messages=[])


async def found(journal: Opened, request_id: str) -> Remembered:
    """What is remembered of a command."""
    remembered = await journal.journal.find(RequestId(request_id))
    assert remembered is not None
    return remembered


def row(deployment_id: str, service_id: ServiceId = WEB, *, replicas: int = 1, stopped: bool = False) -> ServiceRow:
    return ServiceRow(
        service_id=service_id, deployment_id=DeploymentId(deployment_id), replicas=replicas, stopped=stopped, at=5.0
    )
