"""Carries batches from the telemetry process to the control plane, and acknowledgements back.

The telemetry process makes the frames: the control plane's language decides which (`control_plane` message). The agent
only forwards them, as streams: they never delay results or heartbeats.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Protocol

from syntra.agent.messages import PeerGone
from syntra.connection.errors import UnencodableMessage
from syntra.connection.messages import BINARY_TELEMETRY, TELEMETRY_ACK, TelemetryAck
from syntra.model.fields import Json
from syntra.telemetry.link import Message

log = logging.getLogger(__name__)

SEND_SECS = 30.0
"""How long a batch may wait for the socket before the process has to try again."""

REFUSED = "refused: "
"""Begins the error of a batch that must not be sent again; see `telemetry.process.control_plane`."""

RECHECK_SECS = 5.0
ACKS = 256
"""Acknowledgements that may wait for the process; more are lost, and their batches sent again."""


class Connection(Protocol):
    """The control plane's connection; see `agent.api.control_link`. Sending raises PeerGone."""

    @property
    def is_connected(self) -> bool: ...

    @property
    def features(self) -> frozenset[str]: ...

    @property
    def is_hub(self) -> bool: ...

    @property
    def batch_secs(self) -> float: ...

    async def stream(self, kind: str, payload: Mapping[str, Json]) -> None: ...

    async def send_binary(self, data: bytes) -> None: ...


class Process(Protocol):
    """The telemetry process; see `process.TelemetryProcess`."""

    def on(self, kind: str, handler: Callable[[Message], Awaitable[None]]) -> None: ...

    async def tell(self, kind: str, fields: Mapping[str, Json]) -> None: ...

    async def send(self, kind: str, fields: Mapping[str, Json], body: bytes = b"") -> None: ...


class BatchShipping:
    """One agent's batches. The process limits how many are under way. `run` it beside the process."""

    def __init__(self, process: Process, group: asyncio.TaskGroup) -> None:
        self._process = process
        self._group = group
        self._acks: asyncio.Queue[TelemetryAck] = asyncio.Queue(ACKS)
        self._news = asyncio.Event()
        self._connection: Connection | None = None
        process.on("batch", self._take)

    def announce(self) -> None:
        """The connection has changed; `run` sends the change to the process."""
        self._news.set()

    def acknowledged(self, ack: TelemetryAck) -> None:
        """A `telemetry_ack` of the control plane."""
        if self._acks.full():
            log.warning("an acknowledgement of telemetry is lost: too many at once")
            return
        self._acks.put_nowait(ack)
        self._news.set()

    async def run(self, connection: Connection) -> None:
        """Tell the process what changes, until cancelled."""
        self._connection = connection
        while True:
            await self._process.tell("control_plane", _state(connection))
            while not self._acks.empty():
                ack = self._acks.get_nowait()
                told: dict[str, Json] = {"batch_id": ack.batch_id, "accepted": ack.accepted, "error": ack.error}
                await self._process.send("acknowledged", told)
            # The hub may be recognised in the middle of a connection, which nothing announces.
            with suppress(TimeoutError):
                async with asyncio.timeout(RECHECK_SECS):
                    await self._news.wait()
            self._news.clear()

    async def _take(self, message: Message) -> None:
        self._group.create_task(self._ship(message), name="telemetry batch")

    async def _ship(self, message: Message) -> None:
        error = ""
        connection = self._connection
        try:
            if connection is None:
                raise PeerGone("there is no connection yet")
            async with asyncio.timeout(SEND_SECS):
                if message.fields.get("is_binary"):
                    await connection.send_binary(message.body)
                else:
                    await connection.stream("telemetry_batch", json.loads(message.body))
        except PeerGone as gone:
            error = str(gone) or "the connection is gone"
        except UnencodableMessage as oversized:
            # It can never be sent: the process must not try again.
            error = f"{REFUSED}{oversized}"
        except TimeoutError:
            error = f"the connection took nothing for {SEND_SECS:g} s"
        await self._process.send("sent", {"batch_id": message.fields.get("batch_id"), "error": error})


def _state(connection: Connection) -> dict[str, Json]:
    """The connection as the process must know it."""
    features = connection.features
    return {
        "is_connected": connection.is_connected,
        "is_binary": BINARY_TELEMETRY in features,
        "has_ack": TELEMETRY_ACK in features,
        "is_hub": connection.is_hub,
        "interval_secs": connection.batch_secs,
    }
