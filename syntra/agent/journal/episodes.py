"""Open alerts, so that a restarted agent does not announce them twice and does announce their end."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Sequence

from syntra.agent.journal.database import JournalAccess, JournalError
from syntra.agent.journal.outbox import Outbox
from syntra.health.episodes import AlertKind, Episode, Severity, Subject
from syntra.model.ids import ServiceId

log = logging.getLogger(__name__)


class EpisodeStore:
    """The rows; encrypted, since a container's last log lines may hold secrets."""

    def __init__(self, database: JournalAccess, outbox: Outbox) -> None:
        # Alerts about a full disk must work on a full disk.
        self._database = database.without_disk()
        self._outbox = outbox

    async def load(self) -> list[Episode]:
        """The open alerts, oldest first. An unreadable one is dropped: its condition is announced again."""

        def read(connection: sqlite3.Connection) -> list[Episode]:
            rows = connection.execute("SELECT kind, key, episode FROM episodes").fetchall()
            episodes = [episode for row in rows if (episode := self._opened(connection, *row)) is not None]
            return sorted(episodes, key=lambda episode: episode.began)

        return await self._database.transact(read)

    async def save(self, before: Iterable[Episode], after: Iterable[Episode], messages: Sequence[str]) -> None:
        """Write the changes and the messages about them in one transaction."""

        def write(connection: sqlite3.Connection) -> None:
            self.write(connection, before, after)
            self._outbox.put(connection, messages)

        await self._database.transact(write)
        self._outbox.announce()

    def write(self, connection: sqlite3.Connection, before: Iterable[Episode], after: Iterable[Episode]) -> None:
        """Write the changes in the caller's transaction."""
        old = {(episode.kind, episode.subject.key): episode for episode in before}
        new = {(episode.kind, episode.subject.key): episode for episode in after}
        for kind, key in old.keys() - new.keys():
            connection.execute("DELETE FROM episodes WHERE kind = ? AND key = ?", (kind.value, key))
        for (kind, key), episode in new.items():
            if old.get((kind, key)) != episode:
                sealed = self._database.seal(json.dumps(_rendered(episode)).encode(), f"episode/{kind.value}/{key}")
                connection.execute("INSERT OR REPLACE INTO episodes VALUES (?, ?, ?)", (kind.value, key, sealed))

    def _opened(self, connection: sqlite3.Connection, kind: str, key: str, sealed: bytes) -> Episode | None:
        try:
            return _parsed(kind, key, json.loads(self._database.unseal(sealed, f"episode/{kind}/{key}")))
        except (JournalError, KeyError, ValueError, TypeError) as broken:
            log.error("open alert is unreadable and was dropped", extra={"key": key, "reason": str(broken)})
            connection.execute("DELETE FROM episodes WHERE kind = ? AND key = ?", (kind, key))
            return None


def _rendered(episode: Episode) -> dict[str, object]:
    return {
        "name": episode.subject.name,
        "service_id": episode.subject.service_id,
        "severity": episode.severity.value,
        "began": episode.began,
        "times": episode.times,
        "good_since": episode.good_since,
        "metadata": dict(episode.metadata),
    }


def _parsed(kind: str, key: str, stored: dict[str, object]) -> Episode:
    service_id, began, times, since = (stored[name] for name in ("service_id", "began", "times", "good_since"))
    metadata = stored["metadata"]
    if not isinstance(began, float) or not isinstance(times, int) or not isinstance(metadata, dict):
        raise ValueError("its fields have other types")
    return Episode(
        kind=AlertKind(kind),
        subject=Subject(
            key=key, name=str(stored["name"]), service_id=ServiceId(service_id) if isinstance(service_id, str) else None
        ),
        severity=Severity(stored["severity"]),
        began=began,
        times=times,
        good_since=since if isinstance(since, float) else None,
        metadata={name: tuple(value) if isinstance(value, list) else value for name, value in metadata.items()},
    )
