"""What happened on this server, and how each deployment ended, for `events` and `deployments`: bounded, encrypted."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Mapping, Sequence

from syntra.agent.journal.database import JournalAccess, JournalError
from syntra.model.fields import Json
from syntra.model.ids import DeploymentId, ServiceId
from syntra.utils.frozen import frozen

log = logging.getLogger(__name__)

MOST_EVENTS = 5000
MOST_DEPLOYMENTS = 50
"""Of each service."""
MOST_WAITING = 500
MAX_CHARS = 1000


@frozen
class Event:
    """One thing that happened. `kind` is that of an operation, or health, exit, restart, proxy, connection, agent.

    `name` is the service's, empty where it is not known; `seq` counts events, 0 before one is stored.
    """

    kind: str
    text: str
    at: float
    service_id: str = ""
    name: str = ""
    is_bad: bool = False
    seq: int = 0


@frozen
class EndedDeployment:
    """How a deploy or rollback ended. `outcome` is running, failed or rolled_back; `asked_by` a person or a peer."""

    service_id: ServiceId
    deployment_id: DeploymentId
    kind: str
    image: str
    asked_by: str
    began: float
    ended: float
    outcome: str
    reason: str = ""


class EventRows:
    """The rows. `note` does not wait for the disk: noted events are stored with the next `flush`."""

    def __init__(self, database: JournalAccess) -> None:
        # What happens while the disk is full is worth the most.
        self._database = database.without_disk()
        self._waiting: deque[Event] = deque(maxlen=MOST_WAITING)
        self.dropped = 0
        """How many noted events were dropped because too many came at once."""

    def note(self, kind: str, text: str, *, service_id: str = "", name: str = "", is_bad: bool = False) -> None:
        """Remember an event of this moment. Never waits and never fails."""
        self.dropped += len(self._waiting) == MOST_WAITING
        text = text[:MAX_CHARS]
        self._waiting.append(
            Event(kind=kind, text=text, at=time.time(), service_id=service_id, name=name, is_bad=is_bad)
        )

    async def flush(self) -> None:
        """Store the noted events; if that fails, they wait for the next call."""
        if not self._waiting:
            return
        noted = list(self._waiting)
        self._waiting.clear()
        try:
            await self._database.transact(lambda connection: self.write(connection, noted))
        except JournalError as unwritable:
            log.warning("events are not stored yet", extra={"reason": str(unwritable)})
            self._waiting = deque([*noted, *self._waiting], maxlen=MOST_WAITING)

    def write(self, connection: sqlite3.Connection, events: Sequence[Event]) -> None:
        """Store events in the caller's transaction, and forget the oldest beyond MOST_EVENTS."""
        for event in events:
            value = {"kind": event.kind, "text": event.text, "name": event.name, "is_bad": event.is_bad}
            sealed = self._database.seal(json.dumps(value).encode(), f"event/{event.service_id}")
            connection.execute(
                "INSERT INTO events (at, service_id, event) VALUES (?, ?, ?)", (event.at, event.service_id, sealed)
            )
        connection.execute("DELETE FROM events WHERE seq <= (SELECT max(seq) FROM events) - ?", (MOST_EVENTS,))

    async def after(self, seq: int, *, service_id: str = "", since: float = 0.0, limit: int) -> list[Event]:
        """The newest events with a greater `seq`, at `since` (epoch seconds) or later, oldest first."""
        await self.flush()

        def read(connection: sqlite3.Connection) -> list[Event]:
            rows = connection.execute(
                "SELECT seq, at, service_id, event FROM events WHERE seq > ?1 AND at >= ?2 "
                "AND (?3 = '' OR service_id = ?3) ORDER BY seq DESC LIMIT ?4",
                (seq, since, service_id, limit),
            ).fetchall()
            return [event for row in reversed(rows) if (event := self._event(*row)) is not None]

        return await self._database.transact(read)

    def write_ended(self, connection: sqlite3.Connection, ended: EndedDeployment) -> None:
        """Store how a deployment ended, in the caller's transaction."""
        value = {
            "kind": ended.kind,
            "image": ended.image,
            "asked_by": ended.asked_by,
            "began": ended.began,
            "ended": ended.ended,
            "outcome": ended.outcome,
            "reason": ended.reason[:MAX_CHARS],
        }
        context = f"history/{ended.service_id}/{ended.deployment_id}"
        connection.execute(
            "INSERT INTO history (service_id, deployment_id, record) VALUES (?, ?, ?)",
            (ended.service_id, ended.deployment_id, self._database.seal(json.dumps(value).encode(), context)),
        )
        connection.execute(
            "DELETE FROM history WHERE service_id = ?1 AND seq NOT IN "
            "(SELECT seq FROM history WHERE service_id = ?1 ORDER BY seq DESC LIMIT ?2)",
            (ended.service_id, MOST_DEPLOYMENTS),
        )

    async def ended(self, service_id: ServiceId) -> list[EndedDeployment]:
        """How the deployments of a service ended, newest first."""

        def read(connection: sqlite3.Connection) -> list[EndedDeployment]:
            rows = connection.execute(
                "SELECT deployment_id, record FROM history WHERE service_id = ? ORDER BY seq DESC", (service_id,)
            ).fetchall()
            return [ended for row in rows if (ended := self._ended(service_id, *row)) is not None]

        return await self._database.transact(read)

    def _event(self, seq: int, at: float, service_id: str, sealed: bytes) -> Event | None:
        stored = self._opened(sealed, f"event/{service_id}")
        if stored is None:
            return None
        kind, text, name = (str(stored.get(key) or "") for key in ("kind", "text", "name"))
        is_bad = stored.get("is_bad") is True
        return Event(kind=kind, text=text, name=name, at=at, service_id=service_id, is_bad=is_bad, seq=seq)

    def _ended(self, service_id: ServiceId, deployment_id: str, sealed: bytes) -> EndedDeployment | None:
        stored = self._opened(sealed, f"history/{service_id}/{deployment_id}")
        if stored is None:
            return None
        kind, image, asked_by, outcome, reason = (
            str(stored.get(key) or "") for key in ("kind", "image", "asked_by", "outcome", "reason")
        )
        began, over = stored.get("began"), stored.get("ended")
        return EndedDeployment(
            service_id=service_id,
            deployment_id=DeploymentId(deployment_id),
            kind=kind,
            image=image,
            asked_by=asked_by,
            began=began if isinstance(began, float) else 0.0,
            ended=over if isinstance(over, float) else 0.0,
            outcome=outcome,
            reason=reason,
        )

    def _opened(self, sealed: bytes, context: str) -> Mapping[str, Json] | None:
        try:
            value = json.loads(self._database.unseal(sealed, context))
        except (JournalError, ValueError) as broken:
            log.error("event is unreadable", extra={"reason": str(broken)})
            return None
        return value if isinstance(value, dict) else None


def forget_history(connection: sqlite3.Connection, service_id: ServiceId) -> None:
    """Forget the deployments of a removed service, in the caller's transaction. Its events stay."""
    connection.execute("DELETE FROM history WHERE service_id = ?", (service_id,))
