"""The control plane as a destination: makes its frames, and hands them to the agent, which has the connection.

A control plane that names `binary_telemetry` gets the ring's zstd blocks untouched. Others get `telemetry_batch` of the
contract, and the hub its own shape. With `telemetry_ack` a batch is done when the control plane says so; without, when
the connection has taken it. The id of a batch is made from its content, so that one that is sent twice has one id.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import zstandard

from syntra.model.fields import Json
from syntra.telemetry.shipping import contract, hub
from syntra.telemetry.shipping.blocks import joined
from syntra.telemetry.shipping.contract_batches import Payload, batches
from syntra.telemetry.shipping.destination import Batch, Sent, later, refused, taken
from syntra.telemetry.shipping.frame_limits import Limits, Oversized
from syntra.telemetry.signals import Signal
from syntra.telemetry.wire import telemetry_pb2 as wire

CONNECT_SECS = 20.0
"""How long a batch waits for a connection."""
ANSWER_SECS = 40.0
"""How long a batch may take from here to its acknowledgement; the agent gives up on the socket after 30 s."""
JSON_FRAME_BYTES = 4 * 1024 * 1024
"""The same for JSON, in which one item may take 3 MB."""
FRAME_BYTES = 768 * 1024
"""The most data in one frame: a larger one would hold up a heartbeat on a slow line."""

_SIGNALS = {
    Signal.TRACES: wire.SIGNAL_TRACES,
    Signal.METRICS: wire.SIGNAL_METRICS,
    Signal.LOGS: wire.SIGNAL_LOGS,
    Signal.PROFILES: wire.SIGNAL_PROFILES,
    Signal.ERRORS: wire.SIGNAL_ERRORS,
}

SendMessage = Callable[[str, Mapping[str, Json], bytes], Awaitable[None]]
Frame = tuple[str, bool, bytes]
"""Batch id, whether it is binary, and the frame's bytes."""


class ControlPlane:
    """The destination; `update`, `sent` and `acknowledged` take the agent's messages."""

    name = "the control plane"

    def __init__(self, agent_id: str, server_id: str, send: SendMessage) -> None:
        self._agent_id = agent_id
        self._server_id = server_id
        self._send = send
        self._is_binary = False
        self._has_ack = False
        self._is_hub = False
        self._is_connected = False
        self._is_finishing = False
        # Set while a batch has no reason to wait for a connection.
        self._settled = asyncio.Event()
        # Equal batches have one id, so several may wait for one answer.
        self._waiting: dict[str, list[asyncio.Future[str]]] = {}
        self.interval_secs: float | None = None
        """The batch interval that the control plane asks for."""

    @property
    def is_connected(self) -> bool:
        """Whether the control plane has accepted the agent."""
        return self._is_connected

    def update(self, fields: Mapping[str, Any]) -> None:
        """Take a `control_plane` message: connected with these features, or not connected."""
        self._is_connected = fields["is_connected"]
        if not self._is_connected:
            if not self._is_finishing:
                self._settled.clear()
            for batch_id in self._waiting:
                self._answer(batch_id, "the connection was lost")
            return
        self._is_binary, self._has_ack, self._is_hub = fields["is_binary"], fields["has_ack"], fields["is_hub"]
        self.interval_secs = fields["interval_secs"]
        self._settled.set()

    def finish(self) -> None:
        """Wait for no connection any more: the ring keeps what is left."""
        self._is_finishing = True
        self._settled.set()

    def sent(self, fields: Mapping[str, Any]) -> None:
        """Take a `sent` message: the connection has a frame, or why not."""
        if fields["error"] or not self._has_ack:
            self._answer(fields["batch_id"], fields["error"])

    def acknowledged(self, fields: Mapping[str, Any]) -> None:
        """Take an `acknowledged` message: the control plane has stored a batch, or refuses it for good."""
        refusal = fields["error"] or "refused without a reason"
        self._answer(fields["batch_id"], "" if fields["accepted"] else f"{_REFUSED}{refusal}")

    async def send(self, batch: Batch) -> Sent:
        """See `Destination.send`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_SECS):
                await self._settled.wait()
        if not self._is_connected:
            return later(batch, "the agent is not connected to it")
        if not self._has_place(batch.signal):
            return Sent(unwanted=batch.items)
        frames, oversized = await asyncio.to_thread(self._frames, batch)
        size = 0
        for frame in frames:
            error = await self._deliver(frame)
            size += len(frame[2])
            if error.startswith(_REFUSED):
                return refused(batch, error.removeprefix(_REFUSED), wire_bytes=size)
            if error:
                return later(batch, error, wire_bytes=size)
        reason = f"{oversized} of {batch.items} items are too large for a frame" if oversized else ""
        return taken(batch, rejected=oversized, reason=reason, wire_bytes=size)

    async def aclose(self) -> None:
        """See `Destination.aclose`: the agent closes the connection."""

    async def _deliver(self, frame: Frame) -> str:
        batch_id, is_binary, body = frame
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(batch_id, [])
        waiting.append(answer)
        try:
            async with asyncio.timeout(ANSWER_SECS):
                await self._send("batch", {"batch_id": batch_id, "is_binary": is_binary}, body)
                return await answer
        except TimeoutError:
            return f"no acknowledgement within {ANSWER_SECS:g} s"
        except OSError:
            return "the agent is gone"
        finally:
            waiting.remove(answer)
            if not waiting:
                del self._waiting[batch_id]

    def _answer(self, batch_id: str, error: str) -> None:
        for answer in self._waiting.get(batch_id, ()):
            if not answer.done():
                answer.set_result(error)

    def _has_place(self, signal: Signal) -> bool:
        """Whether the control plane's language has a place for it."""
        return self._is_binary or signal in (_HUB_SIGNALS if self._is_hub else _LISTS.keys())

    def _frames(self, batch: Batch) -> tuple[list[Frame], int]:
        """The batch's frames, and how many items fit into none."""
        if self._is_binary:
            return list(self._binary(batch)), 0
        made = list(self._payloads(batch))
        payloads = [one.payload for one in made if isinstance(one, Payload)]
        frames = [(str(one["batch_id"]), False, json.dumps(one).encode()) for one in payloads]
        return frames, len(made) - len(payloads)

    def _binary(self, batch: Batch) -> Iterator[Frame]:
        for blocks in _grouped(batch.blocks):
            data = b"".join(blocks)
            batch_id = _batch_id(batch.signal, data)
            frame = wire.TelemetryFrame(
                batch_id=batch_id,
                agent_id=self._agent_id,
                signal=_SIGNALS[batch.signal],
                items=batch.items if len(blocks) == len(batch.blocks) else 0,
                compression=wire.COMPRESSION_ZSTD,
                data=data,
            )
            yield batch_id, True, frame.SerializeToString()

    def _payloads(self, batch: Batch) -> Iterator[Payload | Oversized]:
        ids = (f"{_batch_id(batch.signal, b''.join(batch.blocks))}_{number}" for number in itertools.count())
        found = contract.items(batch.signal, joined(batch))
        if self._is_hub:
            return hub.payloads(
                logs=found if batch.signal is Signal.LOGS else (),
                errors=found if batch.signal is Signal.ERRORS else (),
                server=None,
                containers=(),
                server_id=self._server_id,
                agent_id=self._agent_id,
                container_ids={},
                new_id=ids.__next__,
            )
        data = {_LISTS[batch.signal]: found}
        compress = zstandard.ZstdCompressor().compress
        limits = Limits(max_bytes=JSON_FRAME_BYTES)
        return batches(data, agent_id=self._agent_id, new_id=ids.__next__, compress=compress, limits=limits)


_LISTS = {Signal.TRACES: "traces", Signal.METRICS: "metrics", Signal.LOGS: "logs", Signal.ERRORS: "errors"}
"""The contract's lists."""
_HUB_SIGNALS = frozenset((Signal.LOGS, Signal.ERRORS))
_REFUSED = "refused: "


def _batch_id(signal: Signal, data: bytes) -> str:
    return f"bat_{hashlib.sha256(signal.value.encode() + data).hexdigest()[:32]}"


def _grouped(blocks: tuple[bytes, ...]) -> Iterator[list[bytes]]:
    """The blocks in groups of at most FRAME_BYTES, or of one block."""
    group: list[bytes] = []
    size = 0
    for block in blocks:
        if group and size + len(block) > FRAME_BYTES:
            yield group
            group, size = [], 0
        group.append(block)
        size += len(block)
    if group:
        yield group
