"""Items of a record for `syntra-agent telemetry tail`: one line for people, or one JSON object. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from syntra.telemetry.shipping import contract
from syntra.telemetry.signals import Signal
from syntra.utils.timestamps import format_ns

Item = dict[str, Any]

MAX_TEXT_CHARS = 300
"""The longest message on a line; a longer one is cut and ends with `…`."""

_TIME = slice(11, 23)
"""Hours to milliseconds of an ISO timestamp."""

_SIGNAL_WIDTH = 7
_SERVICE_WIDTH = 16


def items(signal: Signal, data: bytes, *, service: str = "") -> Iterator[Item]:
    """The items of a record's data as the contract has them, each with its `signal` first; of one service if given.

    Profiles have no items. Raises BadData when the data cannot be decoded.
    """
    for item in contract.items(signal, data):
        if not service or item.get("service_id") == service:
            yield {"signal": signal.value, **item}


def as_json(item: Item) -> str:
    """An item as one line of JSON."""
    return orjson.dumps(item).decode()


def as_line(item: Item) -> str:
    """An item as one line of text, without the newline: time, signal, service, then what the signal has to say.

    Control characters of the sender's text are replaced: it cannot move the cursor or start another line.
    """
    signal = Signal(item["signal"])
    parts = {
        Signal.TRACES: _span,
        Signal.LOGS: _log_record,
        Signal.METRICS: _point,
        Signal.ERRORS: _error,
    }[signal](item)
    at = format_ns(item["start_time_ns"]) if signal is Signal.TRACES else str(item.get("timestamp", ""))
    service = str(item.get("service_id") or "-")
    head = f"{at[_TIME]}  {signal.value:{_SIGNAL_WIDTH}} {service:{_SERVICE_WIDTH}}"
    return "  ".join(_printable(part) for part in (head, *parts) if part)


def _span(item: Item) -> list[str]:
    status = item["status"]
    code, message = status["code"], status.get("message", "")
    return [
        item["operation_name"],
        item["span_kind"],
        _duration(item["duration_ns"]),
        f"{code}: {message}" if message else code,
        f"trace={item['trace_id']}",
    ]


def _log_record(item: Item) -> list[str]:
    trace_id = item.get("trace_id")
    return [f"{item['level'].upper():5}", item["message"], f"trace={trace_id}" if trace_id else ""]


def _point(item: Item) -> list[str]:
    labels = ",".join(f"{key}={value}" for key, value in item["labels"].items())
    name = f"{item['name']}{{{labels}}}" if labels else item["name"]
    buckets = item.get("histogram_buckets")
    count = f"count={buckets[-1]['count']} sum=" if buckets else ""
    return [name, f"{count}{item['value']:g}" if isinstance(item["value"], float) else f"{count}{item['value']}"]


def _error(item: Item) -> list[str]:
    frames = item.get("stack_trace") or []
    head = f"{item.get('type')}: {item.get('message')}"
    if not frames or not isinstance(frames[0], dict):
        return [head]
    frame = frames[0]
    return [head, f"at {frame.get('filename')}:{frame.get('lineno')} in {frame.get('function')}"]


def _duration(nanoseconds: int) -> str:
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1_000)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g}{unit}" if nanoseconds < 1000 * size else f"{nanoseconds // size}{unit}"
    return f"{nanoseconds}ns"


def _printable(text: str) -> str:
    shown = text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - 1] + "…"
    return shown if shown.isprintable() else "".join(c if c.isprintable() else "·" for c in shown)
