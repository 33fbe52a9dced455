"""Limits the lines and bytes a second of one service, and counts what is dropped. Pure: the caller brings the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from syntra.utils.frozen import frozen

RESUME_SECS = 1.0
"""Once it drops, it drops until the limit has room for this long: one gap a second, not one between any two lines."""


@frozen
class Rate:
    """What a service may write; 0 means without limit. The burst is that many seconds' worth at once."""

    lines_per_sec: float
    bytes_per_sec: float
    burst_secs: float = 10.0


class Gap(NamedTuple):
    """What was dropped in a row."""

    lines: int
    size: int


class RateLimit:
    """A token bucket for each of lines and bytes. Replicas of a service share one."""

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self._lines = rate.lines_per_sec * rate.burst_secs
        self._bytes = rate.bytes_per_sec * rate.burst_secs
        self._at = now
        self._gap_lines = self._gap_bytes = 0
        self.dropped_lines = 0
        self.dropped_bytes = 0

    def admit(self, records: Sequence[bytes], now: float) -> int:
        """How many of the records, from the first, may pass; the others count as dropped."""
        rate = self.rate
        elapsed, self._at = now - self._at, now
        self._lines = min(rate.lines_per_sec * rate.burst_secs, self._lines + elapsed * rate.lines_per_sec)
        self._bytes = min(rate.bytes_per_sec * rate.burst_secs, self._bytes + elapsed * rate.bytes_per_sec)
        count, size = len(records), sum(map(len, records))
        if self.is_dropping and not self._has_room(0.0):
            passed = passed_bytes = 0
        elif (not rate.lines_per_sec or count <= self._lines) and (not rate.bytes_per_sec or size <= self._bytes):
            passed, passed_bytes = count, size
        else:
            passed = passed_bytes = 0
            for record in records:
                if (rate.lines_per_sec and passed + 1 > self._lines) or (
                    rate.bytes_per_sec and passed_bytes + len(record) > self._bytes
                ):
                    break
                passed += 1
                passed_bytes += len(record)
        self._lines -= passed
        self._bytes -= passed_bytes
        return passed

    def drop(self, lines: int, size: int) -> None:
        """Count what did not pass."""
        self._gap_lines += lines
        self._gap_bytes += size
        self.dropped_lines += lines
        self.dropped_bytes += size

    @property
    def is_dropping(self) -> bool:
        """Whether a gap is open."""
        return self._gap_lines > 0

    def end_gap(self, now: float) -> Gap | None:
        """The gap, when the limit has room again; None while it has none, and without a gap."""
        if not self.is_dropping:
            return None
        if not self._has_room(now - self._at):
            return None
        gap = Gap(self._gap_lines, self._gap_bytes)
        self._gap_lines = self._gap_bytes = 0
        return gap

    def _has_room(self, elapsed: float) -> bool:
        rate = self.rate
        least = min(RESUME_SECS, rate.burst_secs)
        lines = self._lines + elapsed * rate.lines_per_sec
        size = self._bytes + elapsed * rate.bytes_per_sec
        has_lines = not rate.lines_per_sec or lines >= rate.lines_per_sec * least
        return has_lines and (not rate.bytes_per_sec or size >= rate.bytes_per_sec * least)
