"""Takes batches of telemetry from agents: checks and stores them, then acknowledges them.

An acknowledgement means that the batch is committed, or that it was refused and must not come again. Without one, the
agent sends it again on its next connection; the batch id then shows that it is stored already.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping

from syntra.connection.codec import Envelope, encode
from syntra.controlplane.clock import Clock
from syntra.controlplane.fleet import AgentLink
from syntra.controlplane.settings import Limits
from syntra.controlplane.store import Store
from syntra.controlplane.store_thread import StoreThread
from syntra.controlplane.telemetry import binary, contract
from syntra.controlplane.telemetry.blocks import Batch
from syntra.controlplane.telemetry.store import add_batch
from syntra.model.errors import InvalidField
from syntra.utils.timestamps import parse_ns

_log = logging.getLogger(__name__)

BINARY_TELEMETRY = "binary_telemetry"
TELEMETRY_ACK = "telemetry_ack"
FEATURES = frozenset((BINARY_TELEMETRY, TELEMETRY_ACK))

# Each needs memory for one decompressed batch.
_AT_A_TIME = 2


class TelemetryIntake:
    """For all agents. Methods raise StoreError, and WebSocketClosed when an acknowledgement cannot be sent."""

    def __init__(self, store: StoreThread, limits: Limits, clock: Clock) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock
        self._turns = asyncio.Semaphore(_AT_A_TIME)

    async def take_frame(self, link: AgentLink, frame: bytes) -> None:
        """Take a binary frame. One without a readable batch id is counted as ignored, and gets no acknowledgement."""
        limit = self._limits.telemetry_frame_bytes
        try:
            decoded = binary.envelope(frame)
        except InvalidField as exc:
            await self._refuse(link, "", exc)
            return
        await self._take(link, decoded.batch_id, len(frame), lambda at: binary.batch(decoded, limit, at))

    async def take_message(self, link: AgentLink, payload: Mapping[str, object], size: int) -> None:
        """Take the payload of a `telemetry_batch` message."""
        limit = self._limits.telemetry_batch_bytes
        try:
            batch_id = contract.batch_id(payload)
        except InvalidField as exc:
            await self._refuse(link, "", exc)
            return
        await self._take(link, batch_id, size, lambda at: contract.batch(payload, limit, at))

    async def _take(self, link: AgentLink, batch_id: str, size: int, read: Callable[[int], Batch]) -> None:
        now = self._clock()
        try:
            async with self._turns:
                batch = await asyncio.to_thread(read, parse_ns(now) or 0)
        except InvalidField as exc:
            await self._refuse(link, batch_id, exc)
            return
        if not await self._store.run(add_batch, link.server_id, batch, size, now):
            _log.info("batch is stored already", extra={"server_id": link.server_id, "batch_id": batch_id})
        await self._acknowledge(link, {"batch_id": batch_id, "accepted": True})

    async def _refuse(self, link: AgentLink, batch_id: str, reason: InvalidField) -> None:
        _log.warning("telemetry refused", extra={"server_id": link.server_id, "reason": str(reason)[:512]})
        await self._store.run(Store.count_ignored, link.server_id)
        error = {"code": reason.code, "message": str(reason)[:512]}
        await self._acknowledge(link, {"batch_id": batch_id, "accepted": False, "error": error})

    async def _acknowledge(self, link: AgentLink, payload: Mapping[str, object]) -> None:
        if TELEMETRY_ACK in link.features and payload["batch_id"]:
            envelope = Envelope(id=str(uuid.uuid4()), type=TELEMETRY_ACK, timestamp=self._clock(), payload=payload)
            await link.socket.send(encode(envelope))
