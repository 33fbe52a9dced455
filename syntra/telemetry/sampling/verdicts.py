"""The sampling verdicts of recent traces, so that late spans follow them. Pure.

A verdict is the threshold with which a trace was kept; 0 for a trace that is kept whole because of an error or because
it is slow. Verdicts of traces that were dropped need no memory: with `T = min(verdict, T now)` a late span of a trace
that is not remembered is judged by the threshold of now, and every span is kept with exactly the probability that its
`th` says, whether the threshold rose or fell in between.
"""

from __future__ import annotations


class Verdicts:
    """A bounded map from keys to thresholds with two generations, each for half of the window.

    A generation ends by age or when it has half of the entries. A verdict lives for half a window at least, if the
    bound permits, and for the whole window at most.
    """

    def __init__(self, max_entries: int, window_secs: float) -> None:
        self._half_entries = max(1, max_entries // 2)
        self._half_window = window_secs / 2
        self._began: float | None = None
        self._young: dict[bytes, int] = {}
        self._old: dict[bytes, int] = {}
        self.evicted = 0
        """Verdicts that the bound removed before half a window was over."""

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def age(self, now: float) -> None:
        """Begin a new generation if one is due. Call it once for each request, before the other methods."""
        if self._began is None:
            self._began = now
        passed = now - self._began
        if passed >= self._half_window:
            self._old = self._young if passed < 2 * self._half_window else {}
            self._young = {}
            self._began = now
        elif len(self._young) >= self._half_entries:
            self.evicted += len(self._old)
            self._old, self._young = self._young, {}
            self._began = now

    def put(self, key: bytes, threshold: int) -> None:
        """Remember a verdict. The lower threshold wins, because more of the trace was kept with it."""
        young = self._young
        if len(young) >= self._half_entries and key not in young:
            self.evicted += len(self._old)
            self._old, self._young = young, {}
            young = self._young
        known = self.get(key)
        young[key] = threshold if known is None else min(known, threshold)

    def get(self, key: bytes) -> int | None:
        """The verdict of a trace, or None if none is remembered."""
        known = self._young.get(key)
        return self._old.get(key) if known is None else known

    def generations(self) -> tuple[dict[bytes, int], dict[bytes, int]]:
        """The young and the old verdicts, for a loop that only reads."""
        return self._young, self._old

    def __contains__(self, key: bytes) -> bool:
        return key in self._young or key in self._old
