"""Whose turn it is: which signal a reader gets next, and whether its newest or its oldest entries. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from syntra.telemetry.buffer.intervals import Interval
from syntra.telemetry.signals import Signal

PRIORITY = (Signal.ERRORS, Signal.METRICS, Signal.LOGS, Signal.TRACES, Signal.PROFILES)
"""Who is read first. Eviction takes the reverse order."""

PATIENCE = 4
"""How many batches of other signals a signal with entries waits for at most, if it alone waits that long."""

LIVE_LAG_NS = 60 * 1_000_000_000
"""When the newest entries that a reader gets are older than this, they are a backlog too."""

FRAGMENTS = 32
"""The newest entries are put before older ones only while a position has fewer intervals than this."""


class SignalTurns:
    """Signals by priority, except that none waits for ever."""

    def __init__(self) -> None:
        self._waited: dict[Signal, int] = dict.fromkeys(PRIORITY, 0)

    def pick(self, ready: Collection[Signal]) -> Signal:
        """The signal of the next batch, of the signals that have entries, at least one."""
        longest = max((signal for signal in PRIORITY if signal in ready), key=self._waited.__getitem__)
        if self._waited[longest] < PATIENCE:
            longest = next(signal for signal in PRIORITY if signal in ready)
        for signal in PRIORITY:
            self._waited[signal] = self._waited[signal] + 1 if signal in ready and signal is not longest else 0
        return longest


class Replay:
    """Splits what one reader has not read into a backlog and the live end, and takes turns between them.

    After an outage the backlog may take minutes to ship. New entries do not wait behind it: every second batch is from
    the live end. What was written before `split` is backlog, which is read from its oldest entry.
    """

    def __init__(self, split: int) -> None:
        self.split = split
        self._backlog_next = True

    def choose(self, gaps: Sequence[Interval]) -> Interval:
        """The interval to read from, from its beginning. `gaps` are the unread intervals, ascending, at least one."""
        backlog = gaps[0][0] < self.split
        live = gaps[-1][1] >= self.split
        if backlog and live:
            self._backlog_next = not self._backlog_next
            backlog = not self._backlog_next
        if backlog:
            return gaps[0][0], min(gaps[0][1], self.split - 1)
        first, last = next(gap for gap in gaps if gap[1] >= self.split)
        return max(first, self.split), last

    def was_read(self, first: int, oldest_at_ns: int, *, now_ns: int, head: int, fragments: int) -> None:
        """Note a batch from `first`. If it came from the live end but is old, all up to `head` is backlog from now."""
        if first >= self.split and now_ns - oldest_at_ns > LIVE_LAG_NS and fragments < FRAGMENTS:
            self.split = head
