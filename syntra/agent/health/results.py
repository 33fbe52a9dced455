"""What the probes found, kept until somebody takes it: the newest results, in the contract's words."""

from __future__ import annotations

from collections import deque

from syntra.health.result import ProbeResult
from syntra.model.fields import Json
from syntra.model.ids import ServiceId
from syntra.utils.frozen import frozen
from syntra.utils.timestamps import format_secs

MOST_RESULTS = 1000
"""As many as one telemetry batch may have."""


@frozen
class HealthResult:
    """One probe of one replica; `at` is when it ended, in seconds since the epoch."""

    service_id: ServiceId
    at: float
    probe: ProbeResult

    def to_payload(self) -> dict[str, Json]:
        """A `health_checks` item of the contract."""
        probe = self.probe
        item: dict[str, Json] = {
            "service_id": self.service_id,
            "timestamp": format_secs(self.at),
            "is_healthy": probe.ok,
            "response_time_ms": round(probe.duration_secs * 1000, 3),
        }
        if probe.status_code is not None:
            item["status_code"] = probe.status_code
        if not probe.ok:
            item["error"] = probe.detail
        return item


class HealthResults:
    """Bounded: the oldest go first, and are counted."""

    def __init__(self, most: int = MOST_RESULTS) -> None:
        self._results: deque[HealthResult] = deque(maxlen=most)
        self.dropped = 0

    def add(self, result: HealthResult) -> None:
        """Keep a result."""
        if len(self._results) == self._results.maxlen:
            self.dropped += 1
        self._results.append(result)

    def drain(self) -> tuple[HealthResult, ...]:
        """Everything kept, oldest first; it is the caller's now."""
        taken = tuple(self._results)
        self._results.clear()
        return taken
