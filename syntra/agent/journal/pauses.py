"""Which services are paused for maintenance: one row for each, until it is resumed or removed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence

from syntra.agent.journal.answered import put_answered
from syntra.agent.journal.database import JournalAccess
from syntra.agent.journal.outbox import Outbox
from syntra.model.fields import Json
from syntra.model.ids import RequestId, ServiceId
from syntra.utils.frozen import frozen


@frozen
class Pause:
    """Since when (epoch seconds), why, and who asked; the last two may be empty."""

    at: float
    reason: str = ""
    by: str = ""


class PauseRows:
    """The rows. Every method is one transaction."""

    def __init__(self, database: JournalAccess, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox

    async def all(self) -> dict[ServiceId, Pause]:
        """Every paused service."""

        def read(connection: sqlite3.Connection) -> dict[ServiceId, Pause]:
            rows = connection.execute("SELECT service_id, pause FROM pauses").fetchall()
            return {ServiceId(row[0]): self._opened(row[0], row[1]) for row in rows}

        return await self._database.transact(read)

    async def of(self, service_id: ServiceId) -> Pause | None:
        """The pause of a service; None when it is not paused."""

        def read(connection: sqlite3.Connection) -> Pause | None:
            row = connection.execute("SELECT pause FROM pauses WHERE service_id = ?", (service_id,)).fetchone()
            return self._opened(service_id, row[0]) if row else None

        return await self._database.transact(read)

    async def put(
        self,
        service_id: ServiceId,
        pause: Pause | None,
        *,
        request_id: RequestId,
        kind: str,
        origin: str,
        response: Mapping[str, Json],
        messages: Sequence[str],
    ) -> None:
        """Store a pause, or with None its end, together with its command and the response."""

        def write(connection: sqlite3.Connection) -> None:
            put_answered(
                connection,
                self._database,
                request_id=request_id,
                kind=kind,
                service_id=service_id,
                origin=origin,
                response=response,
            )
            if pause is None:
                connection.execute("DELETE FROM pauses WHERE service_id = ?", (service_id,))
            else:
                value = {"at": pause.at, "reason": pause.reason, "by": pause.by}
                sealed = self._database.seal(json.dumps(value).encode(), f"pause/{service_id}")
                connection.execute("INSERT OR REPLACE INTO pauses VALUES (?, ?)", (service_id, sealed))
            self._outbox.put(connection, messages)

        await self._database.transact(write)
        self._outbox.announce()

    def _opened(self, service_id: str, sealed: bytes) -> Pause:
        value = json.loads(self._database.unseal(sealed, f"pause/{service_id}"))
        return Pause(at=float(value["at"]), reason=str(value["reason"]), by=str(value["by"]))
