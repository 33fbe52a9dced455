"""The newest lines of several logs, in order, within bounds that no log can break. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from syntra.model.status import LogLine

# What one subscription may make the agent hold.
MAX_CHARS = 16 * 1024 * 1024


class NewestLines:
    """Keeps the last `count` lines by their time, and no more than `chars` characters of them."""

    def __init__(self, count: int, chars: int = MAX_CHARS) -> None:
        self._count = count
        self._chars = chars
        self._held = 0
        self._given = 0
        self._heap: list[tuple[str, int, LogLine]] = []
        self.cut: LogLine | None = None
        """The newest line that had to go because all of them together were too long."""

    def add(self, line: LogLine) -> None:
        """Take a line, of any log; those of one moment keep the order in which they are added."""
        heapq.heappush(self._heap, (line.timestamp, self._given, line))
        self._given += 1
        self._held += len(line.message)
        while len(self._heap) > self._count or (self._held > self._chars and len(self._heap) > 1):
            too_many = len(self._heap) > self._count
            _, _, oldest = heapq.heappop(self._heap)
            self._held -= len(oldest.message)
            if not too_many:
                self.cut = oldest

    def taken(self) -> Iterator[LogLine]:
        """The lines, oldest first; they are held no longer."""
        while self._heap:
            _, _, line = heapq.heappop(self._heap)
            yield line
