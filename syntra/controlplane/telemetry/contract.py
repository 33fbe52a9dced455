"""The contract's `telemetry_batch`: its TelemetryData becomes a batch. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping

from syntra.connection.codec import MAX_VALUES, count_values
from syntra.controlplane.telemetry import lines
from syntra.controlplane.telemetry.binary import LONGEST_ID
from syntra.controlplane.telemetry.blocks import Batch, Block, Form, Kind
from syntra.controlplane.telemetry.compression import compressed, decompressed
from syntra.model.errors import InvalidField
from syntra.model.fields import Fields


def batch_id(payload: Mapping[str, object]) -> str:
    """The id of a batch; "" when it has none."""
    return (Fields(payload).optional_text("batch_id") or "")[:LONGEST_ID]


def batch(payload: Mapping[str, object], limit: int, received_ns: int) -> Batch:
    """Check a payload and index its items, of at most `limit` bytes when decompressed. Raises InvalidField."""
    data = _data(payload, limit)
    blocks = []
    for kind in Kind:
        items = data.get(kind.value)
        if items is None or items == []:
            continue
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise InvalidField(f"data.{kind.value}", "is not a list of objects")
        raw = lines.encoded(items)
        contents = lines.index(kind, raw, received_ns)
        blocks.append(Block(kind=kind, form=Form.LINES, contents=contents, raw_bytes=len(raw), data=compressed(raw)))
    return Batch(batch_id=batch_id(payload), blocks=tuple(blocks))


def _data(payload: Mapping[str, object], limit: int) -> Mapping[str, object]:
    data = payload.get("data")
    match payload.get("compression"):
        case "zstd":
            data = _parsed(data, limit)
        case "none" | None:
            pass
        case _:
            raise InvalidField("compression", "is neither zstd nor none")
    if not isinstance(data, dict):
        raise InvalidField("data", "is not an object")
    return data


def _parsed(data: object, limit: int) -> object:
    if not isinstance(data, str):
        raise InvalidField("data", "is not base64")
    try:
        text = decompressed(base64.b64decode(data, validate=True), limit).decode()
    except (binascii.Error, ValueError) as exc:
        raise InvalidField("data", "is not base64 of compressed UTF-8") from exc
    if count_values(text, MAX_VALUES) > MAX_VALUES:
        raise InvalidField("data", f"has more than {MAX_VALUES} values")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InvalidField("data", "is not JSON") from exc
