"""Lines that the engine sends a second time in one stream. Pure.

Docker 20.10 repeats the last lines of a file of the driver `local` when it is rotated while the log is followed. They
have the times that they had. A line after the clock was set back has an earlier time, too, but one that no line had: so
a line is a repetition if as many lines with exactly its time have come before. If the last line alone comes once more,
its text must be the same as well, and its time in nanoseconds: other drivers have microseconds, and more lines in one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

KEPT_CHUNKS = 16
"""Chunks whose times are remembered, of up to some hundred lines each. The engine repeats a few dozen lines."""


class Repeats:
    """The times of one stream of one container, in nanoseconds."""

    def __init__(self) -> None:
        self._recent: deque[Sequence[int]] = deque(maxlen=KEPT_CHUNKS)
        self._latest = 0
        self._text = ""
        self._before: Counter[int] = Counter()
        # While lines come that are not later than the latest: how many with each time.
        self._again: Counter[int] | None = None

    def find(self, times: Sequence[int], texts: Sequence[str]) -> frozenset[int]:
        """The indexes of the lines in the next chunk that have come before. `texts` have their ends of line."""
        if not times:
            return frozenset()
        repeated: frozenset[int] = frozenset()
        if times[0] > self._latest and sorted(set(times)) == list(times):
            self._recent.append(times)
            self._latest, self._again = times[-1], None
        else:
            repeated = self._one_by_one(times, texts)
        self._text = texts[-1]
        return repeated

    def _one_by_one(self, times: Sequence[int], texts: Sequence[str]) -> frozenset[int]:
        repeated: set[int] = set()
        new: list[int] = []
        text = self._text
        for index, time_ns in enumerate(times):
            if time_ns > self._latest:
                self._latest, self._again = time_ns, None
            elif self._again is not None or time_ns < self._latest:
                if self._again is None:
                    self._again = Counter()
                    self._before = Counter(new)
                    for chunk in self._recent:
                        self._before.update(chunk)
                self._again[time_ns] += 1
                if self._again[time_ns] <= self._before[time_ns]:
                    repeated.add(index)
                    continue
            elif time_ns % 1000 and texts[index] == text and text.endswith("\n"):
                repeated.add(index)
                continue
            new.append(time_ns)
            text = texts[index]
        self._recent.append(new)
        return frozenset(repeated)
