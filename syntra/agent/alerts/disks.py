"""Alerts when the agent's or the engine's file system is nearly full."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path

from syntra.agent.alerts.ledger import AlertLedger
from syntra.health.episodes import AlertEvent, AlertKind, Episodes, Subject
from syntra.runtime.errors import RuntimeFailure
from syntra.runtime.runtime import Availability
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

log = logging.getLogger(__name__)

RECHECK_SECS = 60.0
# A network file system may never answer.
ANSWER_SECS = 10.0


@frozen
class Usage:
    """`device` identifies the file system; `percent` is 0 to 100, of the space open to unprivileged users."""

    device: int
    percent: float


def usage_of(path: Path) -> Usage:
    """Usage from statvfs, computed as df does. Blocks while the file system does. Raises OSError."""
    device = os.stat(path).st_dev
    figures = os.statvfs(path)
    used = figures.f_blocks - figures.f_bfree
    whole = used + figures.f_bavail
    return Usage(device=device, percent=100.0 * used / whole if whole else 0.0)


class DiskWatch:
    """Watches `data_dir` and the engine's root directory; one alert when both are on one file system."""

    def __init__(
        self,
        ledger: AlertLedger,
        runtime: Availability,
        data_dir: Path,
        *,
        filled: asyncio.Event | None = None,
        usage: Callable[[Path], Usage] = usage_of,
    ) -> None:
        """While `filled` is set, the journal cannot be written; setting it starts a check."""
        self._filled = filled or asyncio.Event()
        self._ledger = ledger
        self._runtime = runtime
        self._data_dir = data_dir
        self._usage = usage
        self._root: Path | None = None
        # Paths whose thread is still blocked: another thread would block too.
        self._pending: set[Path] = set()

    async def run(self) -> None:
        """Check every minute, and when a disk fills up, until cancelled."""
        while True:
            was_filled = self._filled.is_set()
            try:
                await self.check()
            except AgentError as failed:
                log.error("cannot check the disks", extra={"reason": str(failed)})
            if was_filled:
                await asyncio.sleep(RECHECK_SECS)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(RECHECK_SECS):
                    await self._filled.wait()

    async def check(self) -> None:
        """Check once. Raises the journal's errors."""
        await self._find_root()
        found: dict[int, tuple[Path, float]] = {}
        unknown: set[Subject] = set()
        for path in (self._data_dir, *([self._root] if self._root is not None else [])):
            if (usage := await self._ask(path)) is not None:
                found.setdefault(usage.device, (path, usage.percent))
            else:
                unknown.add(_subject(path))
        percents = {_subject(path): percent for path, percent in found.values()}
        await self._ledger.record(lambda episodes, now: self._events(episodes, now, percents, unknown))

    def _events(
        self, episodes: Episodes, now: float, percents: Mapping[Subject, float], unknown: AbstractSet[Subject]
    ) -> list[AlertEvent]:
        events: list[AlertEvent] = []
        for subject, percent in percents.items():
            events += episodes.resource(now, subject, percent)
        if self._root is None:
            # Alerts about the engine's disk stay open until the engine says where its root directory is.
            return events
        # Close the alert of a path that is now on the same file system as another: that path's alert covers it.
        watched = {subject.key for subject in (*percents, *unknown)}
        for episode in episodes.opened:
            is_disk = episode.kind is AlertKind.RESOURCE_CRITICAL and episode.subject.key.startswith("disk:")
            if is_disk and episode.subject.key not in watched:
                events += episodes.forget(now, episode.subject.key, "it is not used any more", (episode.kind,))
        return events

    async def _find_root(self) -> None:
        if self._root is not None:
            return
        try:
            root_dir = (await self._runtime.info()).root_dir
        except RuntimeFailure as later:
            log.debug("the engine's disk is not known", extra={"reason": str(later)})
            return
        self._root = Path(root_dir) if root_dir else self._data_dir

    async def _ask(self, path: Path) -> Usage | None:
        if path in self._pending:
            return None
        self._pending.add(path)
        try:
            async with asyncio.timeout(ANSWER_SECS):
                return await asyncio.to_thread(self._measured, path)
        except (OSError, TimeoutError) as unseen:
            log.debug("disk is not known", extra={"path": str(path), "reason": str(unseen)})
            return None

    def _measured(self, path: Path) -> Usage:
        try:
            return self._usage(path)
        finally:
            self._pending.discard(path)


def _subject(path: Path) -> Subject:
    return Subject(key=f"disk:{path}", name=f"the disk of {path}")
