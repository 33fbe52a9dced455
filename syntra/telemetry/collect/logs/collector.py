"""Reads the logs of all containers in a thread of its own, in turns, and keeps what it reads.

Nothing is read twice and nothing is left out: what was read is kept in one append together with how far it was read.
Files are checked a few times a second, which costs less than a watch for each of them would at full speed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from syntra.model.fields import Json
from syntra.telemetry.buffer.errors import RecordTooLarge
from syntra.telemetry.collect.logs.rate_limit import RateLimit
from syntra.telemetry.collect.logs.source import QUIET_POLL_SECS, LogSource, Tail
from syntra.telemetry.collect.logs.targets import Target
from syntra.telemetry.intake import CollectedLines
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

POLL_SECS = 0.25
"""How often files are checked when none has anything new, unless all of them are quiet."""
BLOCKED_SECS = 0.5
SAVE_SECS = 2.0
"""How long a place without records may wait for records to be kept with, while there are some."""
GROUP_ITEMS = 900
GROUP_BYTES = 512 * 1024
GROUP_MARKS = 128
BEGAN = "began"
"""The mark that says since when logs are collected, in nanoseconds since 1970."""


class Keeper(Protocol):
    """Keeps lines and marks; see `process.pipeline`."""

    def keep_lines(self, collected: Sequence[CollectedLines], marks: Mapping[str, Json]) -> None: ...


OpenTail = Callable[[Target, Json, bool], Tail]
"""From a target, its mark, and whether what is there already is left out."""


class LogCollector:
    """All containers. `update`, `drain` and `view` may be called from any thread; `run` is the thread's work."""

    def __init__(
        self,
        keeper: Keeper,
        marks: Mapping[str, Json],
        *,
        open_tail: OpenTail,
        encode_resource: Callable[[Mapping[str, str]], bytes],
        is_blocked: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`marks` are those of the ring. While `is_blocked`, nothing is read: the files keep it."""
        self._keeper = keeper
        self._marks = dict(marks)
        self._open_tail = open_tail
        self._encode_resource = encode_resource
        self._is_blocked = is_blocked
        self._clock = clock
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._targets: Mapping[str, Target] | None = None
        self._since_ns = 0
        self._drains: dict[str, list[Callable[[], None]]] = {}
        self._sources: dict[str, LogSource] = {}
        self._limits: dict[str, RateLimit] = {}
        self._unsaved: dict[str, Json] = {}
        self._saved_at = clock()
        self._stopping = False

    # From other threads

    def update(self, targets: Mapping[str, Target], since_ns: int) -> None:
        """Replace the targets. `since_ns` is when the agent that tells them started."""
        with self._lock:
            self._targets, self._since_ns = targets, since_ns
        self._wake.set()

    def drain(self, container_id: str, done: Callable[[], None]) -> None:
        """Call `done` once all that the container has written is kept; at once for one that is not known."""
        with self._lock:
            self._drains.setdefault(container_id, []).append(done)
        self._wake.set()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def stop(self) -> None:
        """End `run` soon."""
        self._stopping = True
        self._wake.set()

    def view(self) -> dict[str, Json]:
        """What `telemetry status` shows."""
        sources = list(self._sources.values())
        return {
            "containers": len(sources),
            "streamed": sum(not source.target.path for source in sources),
            "lines": sum(source.items for source in sources),
            "invalid_utf8": sum(source.tail.invalid for source in sources),
            "unreadable": sum(source.tail.unreadable for source in sources),
            "dropped_lines": sum(limit.dropped_lines for limit in self._limits.values()),
            "problem": next((source.problem for source in sources if source.problem), ""),
        }

    # In the thread

    def run(self) -> None:
        """Read until `stop`."""
        while not self._stopping:
            # First of all, so that no message that arrives meanwhile waits for the next round.
            self._wake.clear()
            try:
                pause = self._round()
            except AgentError as refused:
                log.warning("log lines are not kept for now", extra={"reason": str(refused)})
                pause = BLOCKED_SECS
            except Exception:  # the thread must survive: without it no log is read
                log.exception("cannot collect the logs of containers")
                pause = BLOCKED_SECS
            if pause:
                self._wake.wait(pause)
        for source in self._sources.values():
            source.tail.close()

    def _round(self) -> float:
        """Read once from every container; returns how long to wait for more."""
        if self._is_blocked():
            return BLOCKED_SECS
        self._apply_targets()
        with self._lock:
            drains = dict(self._drains)
        now = self._clock()
        is_busy = False
        group = _Group()
        for name, source in list(self._sources.items()):
            if not (drains or source.is_due(now)):
                continue
            records = source.read(now, is_draining=name in drains)
            group.add(source, source.admitted(records, now))
            if (mark := source.new_mark()) is not None:
                self._unsaved[name] = mark
            if source.has_more:
                is_busy = True
            elif source.is_ending and source.is_done:
                self._end(name, source)
            if group.items >= GROUP_ITEMS or group.size >= GROUP_BYTES or len(self._unsaved) >= GROUP_MARKS:
                self._keep(group)
                group = _Group()
        is_due = now - self._saved_at >= SAVE_SECS
        if group.items or (self._unsaved and (is_due or not is_busy)):
            self._keep(group)
        self._answer(drains)
        if is_busy:
            return 0.0
        return QUIET_POLL_SECS if all(source.is_quiet(now) for source in self._sources.values()) else POLL_SECS

    def _keep(self, group: _Group) -> None:
        marks, self._unsaved = self._unsaved, {}
        try:
            try:
                self._keeper.keep_lines(group.collected(self._encode_resource), marks)
            except RecordTooLarge as refused:
                log.error("log lines are lost", extra={"lines": group.items, "reason": str(refused)})
                self._keeper.keep_lines([], marks)
        except Exception:  # nothing is kept, so nothing was read: the places are those of the ring
            self._reopen()
            raise
        self._saved_at = self._clock()
        for name, mark in marks.items():
            if mark is None:
                self._marks.pop(name, None)
            else:
                self._marks[name] = mark

    def _reopen(self) -> None:
        self._unsaved = {BEGAN: self._marks[BEGAN]}
        for name, source in list(self._sources.items()):
            source.tail.close()
            self._sources[name] = self._source(source.target, is_new=False)

    def _answer(self, drains: Mapping[str, list[Callable[[], None]]]) -> None:
        for name, callers in drains.items():
            source = self._sources.get(name)
            if source is not None and not source.problem and not source.is_done:
                continue
            with self._lock:
                del self._drains[name]
            for done in callers:
                done()

    # Targets

    def _apply_targets(self) -> None:
        with self._lock:
            targets, self._targets = self._targets, None
        if targets is None:
            return
        if BEGAN not in self._marks:
            self._unsaved[BEGAN] = self._marks[BEGAN] = self._since_ns
        for name, target in targets.items():
            known = self._sources.get(name)
            if known is None:
                self._sources[name] = self._source(target, is_new=name not in self._marks)
            elif known.target.path != target.path or known.is_read_differently(target):
                known.tail.close()
                self._marks[name] = known.tail.mark()
                self._sources[name] = self._source(target, is_new=self._marks[name] is None)
            else:
                known.target = target
                known.limit = self._limit(target)
        for name, source in self._sources.items():
            source.is_ending = name not in targets
        for name in self._marks.keys() - self._sources.keys() - {BEGAN}:
            # It was removed while nothing was read.
            self._unsaved[name] = None
        services = {source.target.service for source in self._sources.values()}
        for name in self._limits.keys() - services:
            del self._limits[name]

    def _source(self, target: Target, *, is_new: bool) -> LogSource:
        began = self._marks.get(BEGAN)
        was_there = is_new and isinstance(began, int) and target.created_ns < began
        tail = self._open_tail(target, self._marks.get(target.container_id), was_there)
        return LogSource(target, tail, self._limit(target))

    def _limit(self, target: Target) -> RateLimit:
        known = self._limits.get(target.service)
        if known is None or known.rate != target.rate:
            known = self._limits[target.service] = RateLimit(target.rate, self._clock())
        return known

    def _end(self, name: str, source: LogSource) -> None:
        source.tail.close()
        del self._sources[name]
        self._unsaved[name] = None


class _Group:
    """What one append has."""

    def __init__(self) -> None:
        self._records: list[tuple[LogSource, list[bytes]]] = []
        self.items = 0
        self.size = 0

    def add(self, source: LogSource, records: list[bytes]) -> None:
        """Add records of one container."""
        if records:
            self._records.append((source, records))
            self.items += len(records)
            self.size += sum(map(len, records))

    def collected(self, encode_resource: Callable[[Mapping[str, str]], bytes]) -> list[CollectedLines]:
        """The records as requests."""
        return [source.collected(records, encode_resource) for source, records in self._records]
