"""Ships what the probes found to the control plane: `telemetry_batch` messages with `health_checks` alone.

Results are a stream, like log lines: what is found while nobody is connected waits in `HealthResults`, within its
bound, and a batch that a breaking connection takes along is lost.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence

from syntra.agent.health.results import HealthResult
from syntra.agent.messages import PeerGone
from syntra.model.fields import Json

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
