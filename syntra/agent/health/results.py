"""Results of health checks: keeps the newest, and ships them to the control plane.

`telemetry_batch` messages carry them, with `health_checks` only. Results are a stream, like log lines: without a
connection they wait, within a bound, and a batch in flight when a connection breaks is lost.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from syntra.agent.messages import PeerGone
from syntra.health.result import ProbeResult
from syntra.model.fields import Json
from syntra.model.ids import ServiceId
from syntra.utils.frozen import frozen
from syntra.utils.timestamps import format_secs

MOST_RESULTS = 1000
"""The limit of one telemetry batch."""


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
    """A bounded buffer: when it is full, the oldest are dropped and counted."""

    def __init__(self, most: int = MOST_RESULTS) -> None:
        self._results: deque[HealthResult] = deque(maxlen=most)
        self.dropped = 0

    def add(self, result: HealthResult) -> None:
        """Add a result."""
        if len(self._results) == self._results.maxlen:
            self.dropped += 1
        self._results.append(result)

    def drain(self) -> tuple[HealthResult, ...]:
        """Remove and return all results, oldest first."""
        taken = tuple(self._results)
        self._results.clear()
        return taken


log = logging.getLogger(__name__)


class HealthShipping:
    """Ships results; `run` it when the agent has a control plane.

    `drain` returns the results since its last call; `is_connected` says whether `send` has a connection now;
    `pause_secs` is the time between two batches.
    """

    def __init__(
        self,
        agent_id: str,
        *,
        drain: Callable[[], Sequence[HealthResult]],
        is_connected: Callable[[], bool],
        send: Callable[[str, Mapping[str, Json]], Awaitable[None]],
        pause_secs: Callable[[], float],
    ) -> None:
        self._agent_id = agent_id
        self._drain = drain
        self._is_connected = is_connected
        self._send = send
        self._pause_secs = pause_secs
        self.lost = 0
        """Results that were lost when a connection broke."""

    async def run(self) -> None:
        """Ship until cancelled."""
        while True:
            await asyncio.sleep(self._pause_secs())
            if self._is_connected():
                await self._ship()

    async def _ship(self) -> None:
        results = self._drain()
        if not results:
            return
        try:
            await self._send("telemetry_batch", self._batch(results))
        except PeerGone as gone:
            self.lost += len(results)
            log.debug("results of health checks are lost", extra={"count": len(results), "reason": str(gone)})

    def _batch(self, results: Sequence[HealthResult]) -> dict[str, Json]:
        checks: list[Json] = [result.to_payload() for result in results]
        empty: dict[str, Json] = {"errors": [], "traces": [], "logs": [], "metrics": []}
        return {
            "batch_id": f"bat_{uuid.uuid4().hex}",
            "agent_id": self._agent_id,
            # A batch is only a few kilobytes: compression, which needs base64, would save little.
            "compression": "none",
            "data": {**empty, "health_checks": checks},
        }
