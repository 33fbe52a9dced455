"""Items as payloads of `telemetry_batch`, each small enough for one frame of the connection. Pure."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from syntra.telemetry.shipping.frame_limits import Entry, Limits, Oversized, chunks, escaped
from syntra.utils.frozen import frozen

LISTS = ("errors", "traces", "logs", "metrics", "health_checks")
"""The lists of TelemetryData, in the order of the contract."""


@frozen
class Payload:
    """One `telemetry_batch`: what to send, and how many items are in it."""

    payload: Mapping[str, Any]
    items: int


def batches(
    data: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    agent_id: str,
    new_id: Callable[[], str],
    compress: Callable[[bytes], bytes] | None = None,
    limits: Limits | None = None,
) -> Iterator[Payload | Oversized]:
    """Split TelemetryData into payloads, in order, as few as the limits allow. `new_id` makes their batch ids.

    `compress` makes one zstd frame of bytes; without it the data is not compressed. An item that fits into no frame
    comes out as Oversized and is dropped.
    """
    limits = limits or Limits()
    entries = ((name, item) for name in LISTS for item in data.get(name, ()))
    for chunk in (
        chunks(entries, limits, escaped) if compress is None else chunks(entries, limits.packed(), orjson.dumps)
    ):
        if isinstance(chunk, Oversized):
            yield chunk
            continue
        payload = {
            "batch_id": new_id(),
            "agent_id": agent_id,
            "compression": "none" if compress is None else "zstd",
            "data": _lists(chunk) if compress is None else base64.b64encode(compress(_joined(chunk))).decode(),
        }
        yield Payload(payload=payload, items=len(chunk))


def _lists(chunk: Sequence[Entry]) -> dict[str, list[Mapping[str, Any]]]:
    return {name: [entry.item for entry in chunk if entry.name == name] for name in LISTS}


def _joined(chunk: Sequence[Entry]) -> bytes:
    lists = (b",".join([entry.encoded for entry in chunk if entry.name == name]) for name in LISTS)
    return b"{%b}" % b",".join(
        b'"%b":[%b]' % (name.encode(), joined) for name, joined in zip(LISTS, lists, strict=True)
    )
