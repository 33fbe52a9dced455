"""Encodes envelopes to text and decodes them. Pure; no frame can crash the decoder.

The decoder treats every frame as hostile. It refuses five kinds of JSON that would break code further inside: too many
values (a megabyte of `[],` becomes 25 MB of lists and a second of work), deep nesting (recursion overflows), NaN and
Infinity (not JSON), integers of thousands of digits, and lone surrogates (no database, file or socket can store them).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from syntra.connection.errors import MalformedFrame, UnencodableMessage
from syntra.utils.frozen import frozen

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""The largest frame, in bytes, that the agent and the control plane send and accept.

A deploy with a thousand variables is about 100 KiB.
"""

MAX_VALUES = 200_000
"""The most JSON values in one frame. A log message with 10,000 lines, the largest of the contract, has 40,000."""

MAX_DEPTH = 64
"""The deepest nesting accepted. The deepest message of the contract has seven levels."""

MAX_NAME_CHARS = 256
"""The longest `id` and `type`. Ids are usually UUIDs; both are logged and stored as keys."""


@frozen
class Envelope:
    """One message of the contract. `id` and `timestamp` (ISO 8601 UTC) are "" when the peer sent none."""

    id: str
    type: str
    timestamp: str
    payload: Mapping[str, Any]


def encode(envelope: Envelope) -> str:
    """Encode an envelope as a text frame of pure ASCII JSON.

    ASCII, because an escaped lone surrogate (from a log line, for example) survives and a raw one does not. NaN and
    infinities become null: one unmeasurable figure must not cost the whole message.
    Raises UnencodableMessage for anything else that JSON cannot hold.
    """
    document = {
        "id": envelope.id,
        "type": envelope.type,
        "timestamp": envelope.timestamp,
        "payload": envelope.payload if isinstance(envelope.payload, dict) else dict(envelope.payload),
    }
    try:
        try:
            return json.dumps(document, separators=(",", ":"), allow_nan=False)
        except ValueError:
            return json.dumps(_finite(document), separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        reason = "it is nested too deeply or contains itself" if isinstance(exc, RecursionError) else str(exc)
        raise UnencodableMessage(f"cannot encode the {envelope.type} message: {reason}") from exc


def decode(frame: str | bytes, *, max_bytes: int = MAX_FRAME_BYTES, max_values: int = MAX_VALUES) -> Envelope:
    """Decode a frame. Text and binary frames are treated alike, as UTF-8 JSON.

    Ignores unknown fields. A missing payload becomes {}, a missing id "" (commands carry `payload.request_id`), and a
    numeric id becomes text. `max_values` limits `count_values`. Raises MalformedFrame, and no other exception.
    """
    text = _text(frame, max_bytes)
    if count_values(text, max_values) > max_values:
        raise MalformedFrame(f"more than {max_values} values")
    try:
        document = json.loads(text, parse_constant=_refuse_constant, parse_float=_parse_float)
        _check_unicode(text, document)
    except RecursionError as exc:
        raise MalformedFrame("nested too deeply") from exc
    except json.JSONDecodeError as exc:
        raise MalformedFrame(f"not JSON: {exc.msg} at character {exc.pos}") from exc
    except ValueError as exc:  # the interpreter's limit on integer digits
        raise MalformedFrame("a number has too many digits") from exc
    _check_depth(text, document)
    if not isinstance(document, dict):
        raise MalformedFrame("not a JSON object")
    payload = document.get("payload")
    if payload is None:
        payload = {}
    if not isinstance(payload, dict):
        raise MalformedFrame("payload is not an object")
    timestamp = document.get("timestamp")
    return Envelope(
        id=_id(document.get("id")),
        type=_type(document.get("type")),
        timestamp=timestamp if isinstance(timestamp, str) else "",
        payload=payload,
    )


def count_values(text: str, enough: int) -> int:
    """Count the values in JSON text without parsing it: each container counts as its members, an empty one as 1.

    The result may differ from the count, but is above `enough` exactly if the count is. Takes about 0.1 s for 16 MiB;
    the parser would take seconds and 30 times the memory.
    """
    # Each comma and each opening bracket outside of strings is one value. Those inside only make the count too high.
    bound = _structure(text)
    if bound <= enough:
        return bound
    # Escapes first, so that each remaining quote begins or ends a string.
    bare = text.replace("\\\\", "").replace('\\"', "") if "\\" in text else text
    # Two strings (a member's name and its value) per value at most. More would make the split below expensive.
    quotes = bare.count('"')
    if quotes > 4 * (enough + 1):
        return quotes // 4
    return _structure("".join(bare.split('"')[::2]))


def _structure(text: str) -> int:
    return text.count(",") + text.count("[") + text.count("{")


def _text(frame: str | bytes, max_bytes: int) -> str:
    if isinstance(frame, str):
        try:
            size = len(frame) if frame.isascii() or len(frame) > max_bytes else len(frame.encode())
        except UnicodeEncodeError as exc:
            raise MalformedFrame("not valid Unicode") from exc
    else:
        size = len(frame)
    if size > max_bytes:
        raise MalformedFrame(f"larger than {max_bytes} bytes")
    if isinstance(frame, str):
        return frame
    try:
        return frame.decode()
    except UnicodeDecodeError as exc:
        raise MalformedFrame(f"not UTF-8 at byte {exc.start}") from exc


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedFrame(f"{name} is not JSON")


def _parse_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise MalformedFrame("a number is out of range")
    return value


def _check_unicode(text: str, document: object) -> None:
    # Only an escape can hide a lone surrogate: `_text` has checked the raw text. Most frames have no such escape.
    if "\\ud" not in text and "\\uD" not in text:
        return
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError as exc:
        raise MalformedFrame("a string holds half of a surrogate pair") from exc


def _check_depth(text: str, document: object) -> None:
    # The count of opening brackets bounds the depth, so ordinary frames never pay for the walk.
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    level: list[object] = [document]
    for _ in range(MAX_DEPTH):
        deeper: list[object] = []
        for value in level:
            children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
            deeper.extend(child for child in children if isinstance(child, (dict, list)))
        if not deeper:
            return
        level = deeper
    raise MalformedFrame("nested too deeply")


def _id(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise MalformedFrame("id is neither text nor a number")
    if len(value) > MAX_NAME_CHARS:
        raise MalformedFrame(f"id is longer than {MAX_NAME_CHARS} characters")
    return value


def _type(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise MalformedFrame("type is missing" if value is None else "type is not text")
    if len(value) > MAX_NAME_CHARS:
        raise MalformedFrame(f"type is longer than {MAX_NAME_CHARS} characters")
    return value


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
