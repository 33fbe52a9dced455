"""Rebuilds the desired state from the engine's labels when the journal is new or was lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from syntra.agent.journal.database import Database
from syntra.agent.journal.journal import Journal
from syntra.agent.journal.rows import ServiceRow
from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.spec import Deployment
from syntra.runtime.errors import RuntimeFailure
from syntra.runtime.runtime import Survey, Surveyed

log = logging.getLogger(__name__)


async def rebuild_if_lost(database: Database, journal: Journal, runtime: Survey) -> int:
    """Add the services in the replicas' labels, once per journal. Returns their number; 0 while the runtime is away."""
    if database.is_surveyed:
        return 0
    try:
        deployments, services = desired_from(await runtime.survey())
    except RuntimeFailure as away:
        # Without an engine no container can be harmed; this runs again when the engine is back.
        log.warning("cannot look for earlier services", extra={"reason": str(away)})
        return 0
    await journal.rebuild(deployments, services)
    if services:
        log.warning("desired state was rebuilt from labels", extra={"services": len(services)})
    return len(services)


def desired_from(observed: Sequence[Surveyed]) -> tuple[list[Deployment], list[ServiceRow]]:
    """Deployments and desired state from the containers' labels. Pure except for the log and the rows' times.

    The current deployment of a service is the one with most replicas up; among equals, the newest. A kill during a
    rolling deploy leaves two, and the one with more replicas is the safer choice. The deployments of a service are
    sorted oldest first, the current one last.
    """
    by_service: dict[ServiceId, dict[DeploymentId, list[Surveyed]]] = {}
    for item in observed:
        replica = item.replica
        by_service.setdefault(replica.service_id, {}).setdefault(replica.deployment_id, []).append(item)
    deployments: list[Deployment] = []
    rows: list[ServiceRow] = []
    for service_id, groups in sorted(by_service.items()):
        known = {d: next((i.deployment for i in items if i.deployment), None) for d, items in groups.items()}
        usable = {d: deployment for d, deployment in known.items() if deployment is not None}
        for unusable in sorted(groups.keys() - usable.keys()):
            log.warning(
                "containers without a readable spec are ignored",
                extra={"service_id": service_id, "deployment_id": unusable},
            )
        if not usable:
            continue
        current = max(usable, key=lambda d: (_up(groups[d]), _newest(groups[d])))
        # In order of creation: a rollback goes to the last one before the current.
        in_order = sorted(usable, key=lambda d: (d == current, _newest(groups[d])))
        deployments += [usable[deployment_id] for deployment_id in in_order]
        up = _up(groups[current])
        rows.append(
            ServiceRow(
                service_id=service_id,
                deployment_id=current,
                replicas=up or len(groups[current]),
                stopped=up == 0,
                at=time.time(),
            )
        )
    return deployments, rows


def _newest(items: Sequence[Surveyed]) -> int:
    return max(item.replica.created_ns for item in items)


def _up(items: Sequence[Surveyed]) -> int:
    return sum(1 for item in items if item.replica.is_up)
