"""Answers `list_deployments` and `list_events`: what ran, what failed, who asked, and what happened meanwhile."""

from __future__ import annotations

import time

from syntra.agent.journal.events import EndedDeployment
from syntra.agent.journal.journal import Journal
from syntra.model.command import Query
from syntra.model.errors import RequestError
from syntra.model.fields import Json
from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.spec import Deployment
from syntra.model.spec_payload import fingerprint
from syntra.utils.timestamps import format_secs


class History:
    """Reads the journal; never writes but what is noted already."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def deployments(self, service_id: ServiceId) -> dict[str, Json]:
        """Of one service, newest first. Raises RequestError when there is no such service."""
        kept = {row: await self._journal.deployment(service_id, row) for row in await self._journal.kept(service_id)}
        current = await self._journal.current(service_id)
        ended = await self._journal.events.ended(service_id)
        if current is None and not ended:
            raise RequestError("SERVICE_NOT_FOUND", f"cannot list the deployments of {service_id}: not found")
        running = current.deployment if current is not None else None
        shown: list[Json] = []
        seen: set[DeploymentId] = set()
        for one in ended:
            # A rollback makes an older deployment the current one again: only its last turn is that.
            is_last = one.deployment_id not in seen and one.outcome == "running"
            if one.outcome == "running":
                seen.add(one.deployment_id)
            shown.append(self._shown(one, kept.get(one.deployment_id), running if is_last else None))
        for deployment_id, deployment in kept.items():
            if deployment_id not in seen and deployment is not None:
                before = _unrecorded(service_id, deployment)
                shown.append(self._shown(before, deployment, running))
        # The default of a rollback, as `operations.targets` chooses it.
        default = next((row for row in kept if current is None or row != current.row.deployment_id), None)
        return {"service_id": service_id, "deployments": shown, "rollback_to": default}

    def _shown(self, one: EndedDeployment, kept: Deployment | None, running: Deployment | None) -> dict[str, Json]:
        return {
            **shown_end(one),
            "is_current": running is not None and running.deployment_id == one.deployment_id,
            "can_roll_back": kept is not None,
            "version": _version(kept) if kept is not None else None,
        }

    async def events(self, query: Query) -> dict[str, Json]:
        """The newest events, oldest first."""
        names = {
            current.row.service_id: current.deployment.spec.service_name
            for current in await self._journal.current_all()
            if current.deployment is not None
        }
        found = await self._journal.events.after(
            query.after, service_id=query.service_id or "", since=query.since, limit=query.limit
        )
        return {
            "events": [
                {
                    "seq": event.seq,
                    "at": format_secs(event.at),
                    "kind": event.kind,
                    "service_id": event.service_id or None,
                    "service_name": event.name or names.get(ServiceId(event.service_id)) or event.service_id or None,
                    "text": event.text,
                    "is_bad": event.is_bad,
                }
                for event in found
            ]
        }


def shown_end(one: EndedDeployment) -> dict[str, Json]:
    """How a deployment ended. Times are None for one from before they were recorded."""
    is_known = one.ended > 0
    return {
        "deployment_id": one.deployment_id,
        "kind": one.kind,
        "image": one.image,
        "asked_by": one.asked_by,
        "began": format_secs(one.began) if is_known else None,
        "seconds_ago": round(time.time() - one.ended, 1) if is_known else None,
        "took_seconds": round(one.ended - one.began, 1) if is_known else None,
        "outcome": one.outcome,
        "reason": one.reason,
    }


def _version(deployment: Deployment) -> str:
    """Equal for deployments that run the same: settings and image."""
    image = deployment.resolved.image_id if deployment.resolved else ""
    return f"{fingerprint(deployment.spec)}{image}"


def _unrecorded(service_id: ServiceId, deployment: Deployment) -> EndedDeployment:
    """A deployment from before its end was recorded."""
    return EndedDeployment(
        service_id=service_id,
        deployment_id=deployment.deployment_id,
        kind="deploy",
        image=str(deployment.spec.image),
        asked_by="",
        began=0.0,
        ended=0.0,
        outcome="running",
    )
