"""What health checks found: the newest results, and how they are shipped to the control plane.

`telemetry_batch` messages carry them, with `health_checks` alone. Results are a stream, like log lines: those found
while nobody is connected wait, within a bound, and a batch that a breaking connection takes along is lost.
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


log = logging.getLogger(__name__)


class HealthShipping:
    """`run` it while the agent has a control plane.

    `drain` gives the results since its last call; `is_connected` whether `send` has somebody to send to now;
    `pause_secs` how long a batch is filled.
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
        """Results that a breaking connection took along."""

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
            # A batch is some kilobytes, and a fifth of them would be base64.
            "compression": "none",
            "data": {**empty, "health_checks": checks},
        }
