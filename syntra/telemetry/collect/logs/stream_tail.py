"""Reads one container's log from the engine's stream, which the agent forwards.

Where it stands is a time for each of stdout and stderr, and how many of the lines with exactly that time are in
records: the engine sends lines from a time on, that time included. A stream that has ended or broken is asked for again
from there, so a lost connection, a restart of the engine and a restart of the agent are the same.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from syntra.model.fields import Json
from syntra.telemetry.collect.logs.line_reader import STREAMS, Line, LineReader
from syntra.telemetry.collect.logs.repeats import Repeats
from syntra.utils.timestamps import format_ns

RETRY_SECS = 1.0
IDLE_RETRY_SECS = 10.0
"""How often the log of a container that does not run is asked for."""
STREAM = "stream"
"""Begins the marks of this module."""

Spot = tuple[int, int]
"""Nanoseconds since 1970, and how many lines with this time are read."""

Tell = Callable[[str, Mapping[str, Json]], None]


class StreamTail:
    """One container's stream. `offer` and `ended` may be called from any thread, the rest from the collector's."""

    def __init__(
        self,
        container_id: str,
        reader: LineReader,
        mark: Json,
        tell: Tell,
        *,
        from_ns: int,
        clock: Callable[[], float],
        new_number: Callable[[], int],
    ) -> None:
        """`from_ns` is where a log without a mark begins: 0 for its beginning. `tell` sends the agent a message."""
        self.reader = reader
        self.invalid = 0
        self.unreadable = 0
        self.has_gap = False
        self.is_last = False
        self.is_closed = False
        self._container_id = container_id
        self._tell = tell
        self._clock = clock
        self._new_number = new_number
        self._at = _spots(mark) or dict.fromkeys(STREAMS, (from_ns, 0))
        self._read = dict(self._at)
        # While lines come again: how many with the time of the spot have come.
        self._again: dict[str, int] = {}
        self._repeats = {name: Repeats() for name in STREAMS}
        self._lock = threading.Lock()
        self._chunks: deque[Sequence[Line]] = deque()
        self._number = 0
        self._is_open = False
        self._has_begun = False
        self._ask_at = float("-inf")
        self._got_lines = False

    @property
    def is_open(self) -> bool:
        """Whether more may come of the stream that was asked for."""
        with self._lock:
            return self._is_open or bool(self._chunks)

    # From other threads

    def offer(self, number: int, lines: Sequence[Line]) -> None:
        """Take lines that the agent has read; lines of an earlier stream are ignored."""
        with self._lock:
            if number == self._number:
                self._chunks.append(lines)

    def ended(self, number: int) -> None:
        """The stream has ended."""
        with self._lock:
            if number == self._number:
                self._is_open = False

    # In the collector's thread

    def read(self) -> list[bytes] | None:
        """The records that the next lines complete, perhaps none; None when there are none now."""
        with self._lock:
            chunk = self._chunks.popleft() if self._chunks else None
            is_open = self._is_open
        if chunk is not None:
            self._got_lines = True
            self._tell("log_took", {"container_id": self._container_id, "number": self._number})
            return self._take(chunk)
        if not is_open and not self.reader.is_waiting and not (self.is_last and self._has_begun):
            self._ask()
        return None

    def flush(self, *, is_end: bool) -> list[bytes]:
        """The records of what is not complete."""
        records = self.reader.end() if is_end else self.reader.flush()
        for name in STREAMS:
            if self.reader.open_since(name) is None:
                self._at[name] = self._read[name]
        return records

    def mark(self) -> Json:
        """Where to continue after a restart, once the records of `read` are kept."""
        return [STREAM, *(list(self._at[name]) for name in STREAMS)]

    def close(self) -> None:
        """End the stream."""
        with self._lock:
            self._number = 0
            self._chunks.clear()
            self.is_closed = True
        self._tell("log_unfollow", {"container_id": self._container_id})

    def _ask(self) -> None:
        """Ask the agent for the stream, from the earlier of the two places."""
        now = self._clock()
        if self._has_begun and now < self._ask_at:
            return
        self._ask_at = now + (RETRY_SECS if self._got_lines or not self._has_begun else IDLE_RETRY_SECS)
        self._has_begun, self._got_lines = True, False
        self._again = dict.fromkeys(STREAMS, 0)
        self._read = dict(self._at)
        # What was read behind the place is to come again.
        self._repeats = {name: Repeats() for name in STREAMS}
        since = min(ns for ns, _ in self._at.values())
        with self._lock:
            self._number = number = self._new_number()
            self._is_open = True
        fields: dict[str, Json] = {"container_id": self._container_id, "number": number}
        self._tell("log_follow", {**fields, "since": format_ns(since) if since else None})

    def _take(self, chunk: Sequence[Line]) -> list[bytes]:
        times = [self.reader.time_ns(line[2]) for line in chunk]
        if self._again:
            kept = [index for index, line in enumerate(chunk) if self._is_new(line[1], times[index])]
            chunk, times = [chunk[index] for index in kept], [times[index] for index in kept]
        if repeated := self._repeated(chunk, times):
            kept = [index for index in range(len(chunk)) if index not in repeated]
            chunk, times = [chunk[index] for index in kept], [times[index] for index in kept]
        self.invalid += sum("\ufffd" in line[0] for line in chunk)
        records = self.reader.feed(chunk)
        starts = {name: self.reader.open_since(name) for name in STREAMS}
        for index, (line, time_ns) in enumerate(zip(chunk, times, strict=True)):
            name = line[1]
            if starts[name] == index:
                self._at[name] = self._read[name]
            last, count = self._read[name]
            self._read[name] = (time_ns, count + 1 if time_ns == last else 1)
        for name in STREAMS:
            if starts[name] is None:
                self._at[name] = self._read[name]
        return records

    def _repeated(self, chunk: Sequence[Line], times: Sequence[int]) -> frozenset[int]:
        """The indexes of the lines that the engine has sent in this stream before."""
        found: set[int] = set()
        for name, repeats in self._repeats.items():
            its = [index for index, line in enumerate(chunk) if line[1] == name]
            found.update(
                its[place]
                for place in repeats.find([times[index] for index in its], [chunk[index][0] for index in its])
            )
        return frozenset(found)

    def _is_new(self, name: str, time_ns: int) -> bool:
        if name not in self._again:
            return True
        last, count = self._at[name]
        if time_ns < last:
            return False
        if time_ns == last and self._again[name] < count:
            self._again[name] += 1
            return False
        del self._again[name]
        return True


def is_of_stream(mark: Json) -> bool:
    """Whether a mark is of a stream, not of a file."""
    return isinstance(mark, list) and mark[:1] == [STREAM]


def _spots(mark: Any) -> dict[str, Spot] | None:
    if not is_of_stream(mark):
        return None
    return {name: (ns, count) for name, (ns, count) in zip(STREAMS, mark[1:], strict=True)}
