"""Open alerts and what is said of them: every change goes into the journal together with its messages.

A change is made on a copy, which becomes what is true once its transaction has ended: what could not be written has not
been announced, and will be.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from sqlite3 import Connection

from syntra.agent.journal.journal import Journal
from syntra.agent.messages import Reports
from syntra.health.episodes import AlertEvent, AlertKind, Episode, Episodes
from syntra.model.fields import Json
from syntra.utils.timestamps import format_secs

log = logging.getLogger(__name__)

Change = Callable[[Episodes, float], Sequence[AlertEvent]]


class Draft:
    """A change on its way. `episodes` is the copy to change, `now` the time of it."""

    def __init__(self, journal: Journal, reports: Reports, opened: Sequence[Episode], now: float) -> None:
        self._journal = journal
        self._reports = reports
        self._before = tuple(opened)
        self.episodes = Episodes(opened)
        self.now = now
        self.messages: list[str] = []
        self.events: list[AlertEvent] = []

    def announce(self, events: Sequence[AlertEvent], about: Mapping[str, Json] | None = None) -> None:
        """Say these; `about` goes into their metadata too."""
        self.events += events
        for event in events:
            recovered = {"recovered": True} if event.recovered else {}
            self.messages.append(
                self._reports.alert(
                    kind=event.kind.value,
                    severity=event.severity.value,
                    title=event.title,
                    message=event.message,
                    service_id=event.service_id,
                    metadata={**event.metadata, **(about or {}), **recovered},
                )
            )

    @property
    def changes(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.messages) or self.episodes.opened != self._before

    def write(self, connection: Connection) -> None:
        """Write the episodes, but not the messages, inside a transaction of the caller."""
        self._journal.episodes.write(connection, self._before, self.episodes.opened)

    async def save(self) -> None:
        """Write all of it in a transaction of its own."""
        await self._journal.episodes.save(self._before, self.episodes.opened, self.messages)


class AlertLedger:
    """One instance; everything on the event loop. `clock` is in seconds since the epoch."""

    def __init__(self, journal: Journal, reports: Reports, clock: Callable[[], float] = time.time) -> None:
        self._journal = journal
        self._reports = reports
        self._clock = clock
        self._latest = 0.0
        self._ahead = 0.0
        self._episodes = Episodes()
        self._lock = asyncio.Lock()

    @property
    def opened(self) -> tuple[Episode, ...]:
        """What is not over, oldest first."""
        return self._episodes.opened

    def is_open(self, kind: AlertKind, key: str) -> bool:
        """Whether there is such an episode."""
        return any(episode.kind is kind and episode.subject.key == key for episode in self._episodes.opened)

    def secs_to_next(self) -> float | None:
        """How long until time alone may end an episode; None when it will not."""
        next_at = self._episodes.next_at
        return None if next_at is None else max(0.0, next_at - self._now())

    async def load(self) -> None:
        """Take up what an earlier run left open. Before anything else."""
        opened = await self._journal.episodes.load()
        self._latest = max((e.good_since or e.began for e in opened), default=self._latest)
        self._episodes = Episodes(opened)

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[Draft]:
        """A change that the block writes; it has not happened when the block raises. One at a time."""
        async with self._lock:
            draft = Draft(self._journal, self._reports, self._episodes.opened, self._now())
            yield draft
            self._episodes = draft.episodes
            for event in draft.events:
                log.log(
                    logging.INFO if event.recovered else logging.WARNING,
                    "alert is over" if event.recovered else "alert",
                    extra={"kind": event.kind.value, "title": event.title, "reason": event.message},
                )

    async def record(self, change: Change) -> None:
        """Make a change in a transaction of its own, if there is anything to write."""
        async with self.changing() as draft:
            draft.announce(change(draft.episodes, draft.now))
            if draft.changes:
                await draft.save()

    def shown(self) -> list[dict[str, Json]]:
        """Open alerts for people."""
        return [
            {
                "type": episode.kind.value,
                "severity": episode.severity.value,
                "subject": episode.subject.name,
                "service_id": episode.subject.service_id,
                "since": format_secs(episode.began),
                "times": episode.times,
                "is_ending": episode.good_since is not None,
            }
            for episode in self._episodes.opened
        ]

    def _now(self) -> float:
        # A clock that was set back must not make an episode older than its beginning, and must not hold up its end
        # until it has caught up either: time goes on from where it was.
        now = self._clock() + self._ahead
        if now < self._latest:
            self._ahead += self._latest - now
        self._latest = max(self._latest, now)
        return self._latest
