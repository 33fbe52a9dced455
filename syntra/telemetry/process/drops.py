"""Announces what the full buffer has dropped: a log line for each loss, and a problem while it is recent."""

from __future__ import annotations

import logging

from syntra.telemetry.buffer.stats import BufferStats
from syntra.telemetry.signals import Signal

log = logging.getLogger(__name__)

RECENT_SECS = 300.0
_LOG_SECS = 60.0


class Drops:
    """Follows the buffer's counters of dropped items."""

    def __init__(self) -> None:
        self._known: dict[Signal, int] = {}
        self._last_at: float | None = None
        self._logged_at: float | None = None
        self._unlogged: dict[str, int] = {}
        self.sentence = ""
        """What was dropped last, and what to do about it."""

    def look(self, now: float, stats: BufferStats) -> None:
        """Compare with the last look; call it about once a second."""
        for signal, found in stats.signals.items():
            more = found.dropped_items - self._known.get(signal, 0)
            self._known[signal] = found.dropped_items
            if more > 0:
                self._unlogged[signal.value] = self._unlogged.get(signal.value, 0) + more
                self._last_at = now
        if self._unlogged and (self._logged_at is None or now - self._logged_at >= _LOG_SECS):
            shown = ", ".join(f"{count} {name}" for name, count in self._unlogged.items())
            self.sentence = (
                f"telemetry was dropped, the oldest first: {shown}; the buffer was full: "
                "check that a destination takes it, or raise telemetry.buffer_max_mb"
            )
            log.warning("telemetry was dropped because the buffer is full", extra={"items": dict(self._unlogged)})
            self._logged_at, self._unlogged = now, {}

    def is_recent(self, now: float) -> bool:
        """Whether something was dropped in the last five minutes."""
        return self._last_at is not None and now - self._last_at < RECENT_SECS
