"""The desired state of services: the current deployment of each, and the deployments kept for rollback."""

from __future__ import annotations

import dataclasses
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from syntra.agent.journal.database import JournalAccess, JournalError
from syntra.agent.journal.events import forget_history
from syntra.agent.journal.outbox import Outbox
from syntra.agent.journal.rows import CurrentService, ServiceRow, service_row
from syntra.model.fields import Fields, Json
from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.image import ResolvedImage
from syntra.model.spec import Deployment
from syntra.model.spec_payload import parse_deployment, render_deployment

log = logging.getLogger(__name__)

KEPT_DEPLOYMENTS = 10
"""How many deployments of a service a rollback may return to, on every runtime; a cluster keeps as many revisions."""
# Each control loop reads every deployment in every pass; decrypting one costs about as much as the rest of the pass.
UNSEALED_AT_ONCE = 1000

_CURRENT = (
    "SELECT s.*, d.spec, d.image_id, d.image_digest FROM services s LEFT JOIN deployments d "
    "ON d.service_id = s.service_id AND d.deployment_id = s.deployment_id"
)
_DEPLOYMENT = "SELECT spec, image_id, image_digest FROM deployments"


class DesiredState:
    """The rows of services and deployments. Every method is one transaction."""

    def __init__(self, database: JournalAccess, outbox: Outbox) -> None:
        self._database = database
        self.outbox = outbox
        # A cache: each deployment as last decrypted, with the encrypted bytes that it came from.
        self._unsealed: dict[tuple[ServiceId, DeploymentId], tuple[bytes, Deployment]] = {}

    async def services(self) -> list[ServiceRow]:
        """The desired state of every service."""
        return await self._database.transact(
            lambda connection: [
                service_row(row) for row in connection.execute("SELECT * FROM services ORDER BY service_id").fetchall()
            ]
        )

    async def service(self, service_id: ServiceId) -> ServiceRow | None:
        """The desired state of one service; None when it was never deployed."""

        def read(connection: sqlite3.Connection) -> ServiceRow | None:
            row = connection.execute("SELECT * FROM services WHERE service_id = ?", (service_id,)).fetchone()
            return service_row(row) if row else None

        return await self._database.transact(read)

    async def current(self, service_id: ServiceId) -> CurrentService | None:
        """The desired state of one service with its deployment; None when it was never deployed."""

        def read(connection: sqlite3.Connection) -> CurrentService | None:
            row = connection.execute(f"{_CURRENT} WHERE s.service_id = ?", (service_id,)).fetchone()
            return self._current(row) if row else None

        return await self._database.transact(read)

    async def current_all(self) -> list[CurrentService]:
        """`current` of every service, by id. A damaged deployment is None, so that the other services still work."""

        def read(connection: sqlite3.Connection) -> list[CurrentService]:
            found = []
            for row in connection.execute(f"{_CURRENT} ORDER BY s.service_id").fetchall():
                try:
                    found.append(self._current(row))
                except (JournalError, ValueError) as damaged:
                    log.error("deployment is unreadable", extra={"service_id": row[0], "reason": str(damaged)})
                    found.append(CurrentService(row=service_row(row[:5]), deployment=None))
            return found

        return await self._database.transact(read)

    async def deployment(self, service_id: ServiceId, deployment_id: DeploymentId) -> Deployment | None:
        """One deployment; None when it is not kept."""

        def read(connection: sqlite3.Connection) -> Deployment | None:
            key = service_id, deployment_id
            row = connection.execute(f"{_DEPLOYMENT} WHERE service_id = ? AND deployment_id = ?", key).fetchone()
            return self._deployment(row, service_id, deployment_id) if row else None

        return await self._database.transact(read)

    async def deployments(
        self, wanted: Collection[tuple[ServiceId, DeploymentId]]
    ) -> dict[tuple[ServiceId, DeploymentId], Deployment]:
        """Those of these deployments that are kept. A damaged one is left out, so that the others still work."""
        if not wanted:
            return {}

        def read(connection: sqlite3.Connection) -> dict[tuple[ServiceId, DeploymentId], Deployment]:
            found = {}
            for key in wanted:
                row = connection.execute(f"{_DEPLOYMENT} WHERE service_id = ? AND deployment_id = ?", key).fetchone()
                try:
                    if row is not None:
                        found[key] = self._deployment(row, *key)
                except (JournalError, ValueError) as damaged:
                    log.error("deployment is unreadable", extra={"service_id": key[0], "reason": str(damaged)})
            return found

        return await self._database.transact(read)

    async def resolved(self, service_id: ServiceId, deployment_id: DeploymentId, image: ResolvedImage) -> None:
        """Which image a kept deployment is made of."""
        await self._write(
            lambda connection: connection.execute(
                "UPDATE deployments SET image_id = ?, image_digest = ? WHERE service_id = ? AND deployment_id = ?",
                (image.image_id, image.digest, service_id, deployment_id),
            )
        )

    async def kept(self, service_id: ServiceId) -> list[DeploymentId]:
        """The deployments of a service that can be rolled back to, newest first."""
        return await self._database.transact(lambda connection: _kept(connection, service_id))

    async def kept_by_service(self) -> dict[ServiceId, frozenset[DeploymentId]]:
        """The deployments that garbage collection must spare: those kept for rollback and those in operations."""

        def read(connection: sqlite3.Connection) -> dict[ServiceId, frozenset[DeploymentId]]:
            rows = connection.execute("SELECT service_id, deployment_id FROM deployments").fetchall()
            keep: dict[ServiceId, set[DeploymentId]] = {}
            for service_id, deployment_id in rows:
                keep.setdefault(ServiceId(service_id), set()).add(DeploymentId(deployment_id))
            return {service_id: frozenset(ids) for service_id, ids in keep.items()}

        return await self._database.transact(read)

    async def rebuild(self, deployments: Sequence[Deployment], services: Sequence[ServiceRow]) -> None:
        """Add services that only the engine's labels know, and store that the labels were read."""

        def write(connection: sqlite3.Connection) -> None:
            query = "SELECT service_id FROM services UNION SELECT service_id FROM operations"
            known = {row[0] for row in connection.execute(query).fetchall()}
            for deployment in deployments:
                if deployment.spec.service_id not in known:
                    self._keep_spec(connection, deployment, succeeded=True)
            for service in services:
                if service.service_id not in known:
                    put_service(connection, service)
            self._database.mark_surveyed(connection)

        await self._write(write)

    async def trim(self, service_id: ServiceId) -> None:
        """Delete all deployments but the last that succeeded, the current one and those in operations."""

        def write(connection: sqlite3.Connection) -> None:
            keep = set(_kept(connection, service_id)[:KEPT_DEPLOYMENTS])
            busy = connection.execute("SELECT deployment_id FROM operations WHERE service_id = ?", (service_id,))
            keep.update(row[0] for row in busy.fetchall())
            current = connection.execute("SELECT deployment_id FROM services WHERE service_id = ?", (service_id,))
            keep.update(row[0] for row in current.fetchall())
            for (deployment_id,) in connection.execute(
                "SELECT deployment_id FROM deployments WHERE service_id = ?", (service_id,)
            ).fetchall():
                if deployment_id not in keep:
                    connection.execute(
                        "DELETE FROM deployments WHERE service_id = ? AND deployment_id = ?",
                        (service_id, deployment_id),
                    )

        await self._write(write)

    async def forget_service(self, service_id: ServiceId) -> None:
        """Delete the desired state and the deployments of a removed service, except those of waiting operations."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM services WHERE service_id = ?", (service_id,))
            connection.execute("DELETE FROM health_changes WHERE service_id = ?", (service_id,))
            connection.execute("DELETE FROM pauses WHERE service_id = ?", (service_id,))
            forget_history(connection, service_id)
            connection.execute(
                "DELETE FROM deployments WHERE service_id = ?1 AND deployment_id NOT IN (SELECT o.deployment_id "
                "FROM operations o JOIN commands c USING (request_id) "
                "WHERE o.service_id = ?1 AND c.kind IN ('deploy', 'rollback'))",
                (service_id,),
            )

        await self._write(write)

    async def _write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        await self._database.transact(work)
        self.outbox.announce()

    def _keep_spec(self, connection: sqlite3.Connection, deployment: Deployment, *, succeeded: bool = False) -> None:
        service_id, deployment_id = deployment.spec.service_id, deployment.deployment_id
        sealed = self._sealed(render_deployment(deployment), f"spec/{service_id}/{deployment_id}")
        image = deployment.resolved or ResolvedImage(image_id="")
        connection.execute(
            "INSERT INTO deployments (service_id, deployment_id, spec, succeeded, at, image_id, image_digest) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) "
            # Only success moves a deployment up in the order of rollback targets.
            "ON CONFLICT DO UPDATE SET spec = excluded.spec, image_id = excluded.image_id, "
            "image_digest = excluded.image_digest",
            (service_id, deployment_id, sealed, int(succeeded), time.time(), image.image_id, image.digest),
        )

    def _current(self, row: Sequence[Any]) -> CurrentService:
        service, kept = service_row(row[:5]), row[5:]
        deployment = None
        if kept[0] is not None:
            deployment = self._deployment(kept, service.service_id, service.deployment_id)
        return CurrentService(row=service, deployment=deployment)

    def _deployment(self, row: Sequence[Any], service_id: ServiceId, deployment_id: DeploymentId) -> Deployment:
        sealed, image_id, digest = row
        image = ResolvedImage(image_id=image_id, digest=digest) if image_id else None
        key = service_id, deployment_id
        known = self._unsealed.get(key)
        if known is not None and known[0] == sealed and known[1].resolved == image:
            return known[1]
        payload = self._opened(sealed, f"spec/{service_id}/{deployment_id}")
        assert payload is not None, "cannot happen because the column is NOT NULL"
        deployment = dataclasses.replace(parse_deployment(Fields(payload)), resolved=image)
        if len(self._unsealed) >= UNSEALED_AT_ONCE:
            self._unsealed.clear()
        self._unsealed[key] = sealed, deployment
        return deployment

    def _sealed(self, value: Mapping[str, Json] | None, context: str) -> bytes | None:
        return None if value is None else self._database.seal(json.dumps(value).encode(), context)

    def _opened(self, sealed: bytes | None, context: str) -> Mapping[str, Json] | None:
        if sealed is None:
            return None
        value: Mapping[str, Json] = json.loads(self._database.unseal(sealed, context))
        return value


def put_service(connection: sqlite3.Connection, service: ServiceRow) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO services VALUES (?, ?, ?, ?, ?)",
        (service.service_id, service.deployment_id, service.replicas, int(service.stopped), service.at),
    )


def _kept(connection: sqlite3.Connection, service_id: ServiceId) -> list[DeploymentId]:
    rows = connection.execute(
        "SELECT deployment_id FROM deployments WHERE service_id = ? AND succeeded = 1 ORDER BY at DESC, sequence DESC",
        (service_id,),
    ).fetchall()
    return [DeploymentId(row[0]) for row in rows]
