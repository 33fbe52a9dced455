"""The last failed deployment of each service, for `status`, `ps` and `logs`: the container that is kept, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from syntra.agent.journal.journal import Journal
from syntra.agent.journal.rows import ServiceRow
from syntra.health.episodes import AlertKind
from syntra.model.fields import Json
from syntra.model.ids import DeploymentId, ServiceId
from syntra.runtime.runtime import Failures, Surveyed
from syntra.utils.frozen import frozen
from syntra.utils.timestamps import format_ns


@frozen
class FailedDeployment:
    """`kept` is what the runtime keeps of it; None when it failed before it had a container."""

    service_id: ServiceId
    deployment_id: DeploymentId
    service_name: str
    reason: str
    kept: Surveyed | None = None

    def shown(self) -> dict[str, Json]:
        """The value of `failed` in an entry of `list_services`."""
        replica = self.kept.replica if self.kept else None
        return {
            "deployment_id": self.deployment_id,
            "image": self._image,
            "state": "failed",
            "exit_code": replica.exit_code if replica else None,
            "reason": self.reason,
            "container_id": replica.container_id if replica else None,
            "container_name": replica.name if replica else None,
            "started_at": format_ns(replica.started_ns) if replica and replica.started_ns else None,
        }

    def listed(self) -> dict[str, Json]:
        """An entry of `list_services` for a service that has no other deployment."""
        spec = self.kept.deployment.spec if self.kept and self.kept.deployment else None
        replica = self.kept.replica if self.kept else None
        code = replica.exit_code if replica and replica.started_ns else None
        return {
            "service_id": self.service_id,
            "service_name": self.service_name,
            "project_name": spec.project_name if spec else None,
            "deployment_id": self.deployment_id,
            "image": self._image,
            "status": "failed",
            "status_detail": "" if code is None else f"exit {code}",
            "health": "unknown",
            "replicas": {"desired": 0, "running": 0},
            "restarts": replica.restart_count if replica else 0,
            "containers": [],
            "domains": [],
            "failed": self.shown(),
        }

    @property
    def _image(self) -> str | None:
        deployment = self.kept.deployment if self.kept else None
        return str(deployment.spec.image) if deployment else None


class FailedDeployments:
    """Finds them: by the containers that the runtime keeps, and by the open alerts."""

    def __init__(self, journal: Journal, runtime: Failures, alerts: Callable[[], Sequence[Mapping[str, Json]]]) -> None:
        self._journal = journal
        self._runtime = runtime
        self._alerts = alerts

    async def all(self) -> dict[ServiceId, FailedDeployment]:
        """At most one for each service. Raises RuntimeUnavailable when the runtime does not answer."""
        rows = {row.service_id: row for row in await self._journal.services()}
        found = {one.service_id: one for one in await self._of_alerts(rows)}
        for kept in await self._runtime.failed():
            replica, spec = kept.replica, kept.deployment.spec if kept.deployment else None
            known = found.get(replica.service_id)
            if known is not None and known.kept is not None and _created(known.kept) > _created(kept):
                continue
            name = spec.service_name if spec else known.service_name if known else replica.service_id
            found[replica.service_id] = FailedDeployment(
                service_id=replica.service_id,
                deployment_id=replica.deployment_id,
                service_name=name,
                reason=await self._journal.failure_of(replica.service_id, replica.deployment_id),
                kept=kept,
            )
        return found

    async def _of_alerts(self, rows: Mapping[ServiceId, ServiceRow]) -> list[FailedDeployment]:
        found = []
        for alert in self._alerts():
            if alert.get("type") != AlertKind.DEPLOYMENT_FAILED.value:
                continue
            if not alert.get("service_id") or not alert.get("deployment_id"):
                continue
            service_id, deployment_id = ServiceId(str(alert["service_id"])), DeploymentId(str(alert["deployment_id"]))
            row = rows.get(service_id)
            if row is not None and row.deployment_id == deployment_id:
                # A scale or a restart of the current deployment failed.
                continue
            found.append(
                FailedDeployment(
                    service_id=service_id,
                    deployment_id=deployment_id,
                    service_name=str(alert.get("subject") or service_id),
                    reason=await self._journal.failure_of(service_id, deployment_id),
                )
            )
        return found


def _created(kept: Surveyed) -> int:
    return kept.replica.created_ns
