"""Resumes reading a log: from which time to read, and which records were already read. Pure.

The engine's `since` is inclusive, so resuming at the last timestamp repeats the records with that timestamp.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from syntra.runtime.docker.records import LogRecord, Stream

MAX_SEEN = 1024
"""Limit for the remembered records of one timestamp; timestamps have nanoseconds, so there are few."""

_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


def since_parameter(timestamp: str) -> str:
    """Convert an RFC 3339 timestamp for the engine's `since` and `until`: seconds and nanoseconds since the epoch.

    Raises ValueError for anything else.
    """
    match = _TIMESTAMP.fullmatch(timestamp)
    if match is None:
        raise ValueError(f"cannot read timestamp {timestamp!r}: it is not RFC 3339; give the one of a log record")
    whole = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    return f"{int(whole.timestamp())}.{(match[2] or '').ljust(9, '0')}"


def fixed_width(timestamp: str) -> str:
    """The timestamp with nine fraction digits, so that timestamps of one zone compare as text."""
    match = _TIMESTAMP.fullmatch(timestamp)
    return timestamp if match is None else f"{match[1]}.{(match[2] or '').ljust(9, '0')}{match[3]}"


class LogResume:
    """Remembers how far a log was read, per stream, and drops records that are read twice.

    `last_timestamp` and `seen` come from a stored checkpoint: `seen` are the messages already read with exactly that
    timestamp. Without `seen`, everything up to and including `last_timestamp` is dropped.
    """

    def __init__(self, last_timestamp: str | None = None, seen: Iterable[str] | None = None) -> None:
        last = fixed_width(last_timestamp) if last_timestamp else ""
        self._last = dict.fromkeys(Stream, last)
        self._seen: dict[Stream, set[str] | None] = {stream: None if seen is None else set(seen) for stream in Stream}
        self._replaying = dict.fromkeys(Stream, bool(last))
        self._held: str | None = None
        self._from: str | None = None

    @property
    def last_timestamp(self) -> str | None:
        """The latest timestamp read, for a checkpoint."""
        return max(self._last.values()) or None

    @property
    def since(self) -> str | None:
        """Where to resume; None for the beginning. Earlier than the last record if a line was incomplete."""
        if self._from is not None:
            return self._from
        last = self.last_timestamp
        return min(last, self._held) if last is not None and self._held is not None else last

    @property
    def is_coarse(self) -> bool:
        """Whether the engine tells only whole seconds: then a record does not tell where in its second it is."""
        last = self.last_timestamp
        return last is not None and fixed_width(last).partition(".")[2].startswith("000000000")

    def continue_after(self, finished_at: str) -> None:
        """All up to this time, the end of a run, was read; what comes now is new, whatever it looks like."""
        self.hold(None)
        self._from = finished_at
        self._replaying = dict.fromkeys(Stream, False)

    def hold(self, pending_since: str | None) -> None:
        """Reading stopped inside a line that began at this time; None when it did not."""
        self._held = pending_since
        self._replaying = {stream: bool(last) for stream, last in self._last.items()}

    def admit(self, record: LogRecord) -> bool:
        """Whether the record is new; it then counts as read."""
        stream, timestamp = record.stream, record.timestamp
        self._from = None
        last = self._last[stream]
        if self._replaying[stream]:
            if timestamp < last:
                return False
            if timestamp == last:
                seen = self._seen[stream]
                if seen is None or record.message in seen:
                    return False
            else:
                self._replaying[stream] = False
        self._remember(stream, timestamp, record.message)
        return True

    def _remember(self, stream: Stream, timestamp: str, message: str) -> None:
        seen = self._seen[stream]
        if timestamp > self._last[stream] or seen is None:
            seen = set()
            self._seen[stream] = seen
            self._last[stream] = max(timestamp, self._last[stream])
        if len(seen) < MAX_SEEN:
            seen.add(message)
