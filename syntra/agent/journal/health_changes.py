"""Overrides of health checks: one per service, until the next deploy or the service's removal."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence

from syntra.agent.journal.answered import put_answered
from syntra.agent.journal.database import JournalAccess
from syntra.agent.journal.outbox import Outbox
from syntra.model.fields import Fields, Json
from syntra.model.health_change import HealthChange, parse_health_change, render_health_change
from syntra.model.ids import RequestId, ServiceId


class HealthChanges:
    """The rows. Every method is one transaction."""

    def __init__(self, database: JournalAccess, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox

    async def all(self) -> dict[ServiceId, HealthChange]:
        """Every override in effect."""

        def read(connection: sqlite3.Connection) -> dict[ServiceId, HealthChange]:
            rows = connection.execute("SELECT service_id, change FROM health_changes").fetchall()
            return {ServiceId(row[0]): self._opened(row[0], row[1]) for row in rows}

        return await self._database.transact(read)

    async def of(self, service_id: ServiceId) -> HealthChange | None:
        """The override in effect for a service."""

        def read(connection: sqlite3.Connection) -> HealthChange | None:
            row = connection.execute("SELECT change FROM health_changes WHERE service_id = ?", (service_id,)).fetchone()
            return self._opened(service_id, row[0]) if row else None

        return await self._database.transact(read)

    async def put(
        self,
        service_id: ServiceId,
        change: HealthChange,
        *,
        request_id: RequestId,
        origin: str,
        response: Mapping[str, Json],
        messages: Sequence[str],
    ) -> None:
        """Store an override together with its command and the response."""

        def write(connection: sqlite3.Connection) -> None:
            put_answered(
                connection,
                self._database,
                request_id=request_id,
                kind="configure_health_check",
                service_id=service_id,
                origin=origin,
                response=response,
            )
            sealed = self._database.seal(json.dumps(render_health_change(change)).encode(), f"health/{service_id}")
            connection.execute("INSERT OR REPLACE INTO health_changes VALUES (?, ?)", (service_id, sealed))
            self._outbox.put(connection, messages)

        await self._database.transact(write)
        self._outbox.announce()

    def _opened(self, service_id: str, sealed: bytes) -> HealthChange:
        return parse_health_change(Fields(json.loads(self._database.unseal(sealed, f"health/{service_id}"))))


def drop_for_deploy(connection: sqlite3.Connection, service_id: ServiceId, request_id: RequestId) -> None:
    """Delete the override, in the transaction that commits a deploy. Other operations keep it."""
    connection.execute(
        "DELETE FROM health_changes WHERE service_id = ? "
        "AND EXISTS (SELECT 1 FROM commands WHERE request_id = ? AND kind = 'deploy')",
        (service_id, request_id),
    )
