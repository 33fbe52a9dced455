"""The open alerts. Each change and its messages are written to the journal in one transaction.

A change is made on a copy, which replaces the original after the commit. So a change that cannot be written is not
lost: it is announced later.
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

# A crash alert is ending once the container has been up for this long.
LEAST_CALM_SECS = 90.0

Change = Callable[[Episodes, float], Sequence[AlertEvent]]


class Draft:
    """A change that is not committed yet. `episodes` is the copy to change, `now` the time of the change."""

    def __init__(self, journal: Journal, reports: Reports, opened: Sequence[Episode], now: float) -> None:
        self._journal = journal
        self._reports = reports
        self._before = tuple(opened)
        self.episodes = Episodes(opened)
        self.now = now
        self.messages: list[str] = []
        self.events: list[AlertEvent] = []

    def announce(self, events: Sequence[AlertEvent], about: Mapping[str, Json] | None = None) -> None:
        """Add a message for each event; `about` is added to their metadata."""
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
        """Write the episodes, but not the messages, in the caller's transaction."""
        self._journal.episodes.write(connection, self._before, self.episodes.opened)

    async def save(self) -> None:
        """Write episodes and messages in one transaction."""
        await self._journal.episodes.save(self._before, self.episodes.opened, self.messages)


class AlertLedger:
    """The open alerts. One instance, on the event loop only. `clock` returns seconds since the epoch."""

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
        """Open episodes, oldest first."""
        return self._episodes.opened

    def is_open(self, kind: AlertKind, key: str) -> bool:
        """Whether such an episode is open."""
        return any(episode.kind is kind and episode.subject.key == key for episode in self._episodes.opened)

    def secs_to_next(self) -> float | None:
        """Seconds until time alone may end an episode; None when it cannot."""
        next_at = self._episodes.next_at
        return None if next_at is None else max(0.0, next_at - self._now())

    async def load(self) -> None:
        """Load the episodes that an earlier run left open. Call it first."""
        opened = await self._journal.episodes.load()
        self._latest = max((e.good_since or e.began for e in opened), default=self._latest)
        self._episodes = Episodes(opened)

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[Draft]:
        """A block that changes a draft and writes it. It has no effect when the block raises. One at a time."""
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
        """Make a change in its own transaction, if there is anything to write."""
        async with self.changing() as draft:
            draft.announce(change(draft.episodes, draft.now))
            if draft.changes:
                await draft.save()

    def shown(self) -> list[dict[str, Json]]:
        """The open alerts for `status`."""
        return [
            {
                "type": episode.kind.value,
                "severity": episode.severity.value,
                "subject": episode.subject.name,
                "service_id": episode.subject.service_id,
                "since": format_secs(episode.began),
                "times": episode.times,
                "is_ending": self._is_ending(episode),
                "exit_code": episode.metadata.get("exit_code"),
                "deployment_id": episode.metadata.get("deployment_id"),
            }
            for episode in self._episodes.opened
        ]

    def _is_ending(self, episode: Episode) -> bool:
        if episode.good_since is None:
            return False
        # A container in a crash loop runs between two exits; the engine's pause between them is a minute at most.
        is_crash = episode.kind is AlertKind.CONTAINER_CRASH
        return not is_crash or self._now() - episode.good_since >= LEAST_CALM_SECS

    def _now(self) -> float:
        # When the clock is set back, continue from the latest time. Otherwise an episode could end before it began, or
        # end late, once the clock has caught up.
        now = self._clock() + self._ahead
        if now < self._latest:
            self._ahead += self._latest - now
        self._latest = max(self._latest, now)
        return self._latest
