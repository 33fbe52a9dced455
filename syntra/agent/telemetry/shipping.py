"""Carries batches from the telemetry process to the control plane, and acknowledgements back.

The telemetry process makes the frames: the control plane's language decides which (`control_plane` message). The agent
only forwards them, as streams: they never delay results or heartbeats.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from syntra.agent.messages import PeerGone
from syntra.model.fields import Json
from syntra.telemetry.link import Message

log = logging.getLogger(__name__)

SEND_SECS = 30.0
"""How long a batch may wait for the socket before the process is told to try again."""

BINARY = "binary_telemetry"
ACK = "telemetry_ack"
FEATURES = (BINARY, ACK)
"""What the agent offers in its hello; in force when `hello_ack.config.features` names it."""


class Connection(Protocol):
    """The control plane's connection; see `agent.api.control_link`. Sending raises PeerGone."""

    async def stream(self, kind: str, payload: Mapping[str, Json]) -> None: ...

    async def send_binary(self, data: bytes) -> None: ...


class Process(Protocol):
    """The telemetry process; see `process.TelemetryProcess`."""

    def on(self, kind: str, handler: Callable[[Message], Awaitable[None]]) -> None: ...

    async def tell(self, kind: str, fields: Mapping[str, Json]) -> None: ...

    async def send(self, kind: str, fields: Mapping[str, Json], body: bytes = b"") -> None: ...


class BatchShipping:
    """One agent's batches. The process limits how many are under way."""

    def __init__(self, process: Process, connection: Connection, group: asyncio.TaskGroup) -> None:
        self._process = process
        self._connection = connection
        self._group = group
        process.on("batch", self._take)

    async def ready(self, *, features: frozenset[str], is_hub: bool, interval_secs: float) -> None:
        """The control plane has accepted the agent."""
        await self._tell(
            is_connected=True,
            is_binary=BINARY in features and not is_hub,
            has_ack=ACK in features and not is_hub,
            is_hub=is_hub,
            interval_secs=interval_secs,
        )

    async def lost(self) -> None:
        """The connection is gone: batches under way are sent again."""
        await self._tell(is_connected=False)

    async def acknowledged(self, payload: Mapping[str, Any]) -> None:
        """A `telemetry_ack` of the control plane."""
        batch_id, accepted, error = payload.get("batch_id"), payload.get("accepted"), payload.get("error")
        if not isinstance(batch_id, str):
            log.warning("telemetry_ack without batch_id ignored")
            return
        reason = error if isinstance(error, str) else ""
        fields: dict[str, Json] = {"batch_id": batch_id, "accepted": accepted is not False, "error": reason}
        await self._process.send("acknowledged", fields)

    async def _tell(self, **fields: Json) -> None:
        await self._process.tell("control_plane", fields)

    async def _take(self, message: Message) -> None:
        self._group.create_task(self._ship(message), name="telemetry batch")

    async def _ship(self, message: Message) -> None:
        error = ""
        try:
            async with asyncio.timeout(SEND_SECS):
                if message.fields.get("is_binary"):
                    await self._connection.send_binary(message.body)
                else:
                    await self._connection.stream("telemetry_batch", json.loads(message.body))
        except PeerGone as gone:
            error = str(gone) or "the connection is gone"
        except TimeoutError:
            error = f"the connection took nothing for {SEND_SECS:g} s"
        await self._process.send("sent", {"batch_id": message.fields.get("batch_id"), "error": error})
