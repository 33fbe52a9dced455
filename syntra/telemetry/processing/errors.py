"""Exceptions in spans and log records as errors of the contract. Pure: the caller brings ids and the clock.

OpenTelemetry records an exception as a span event named `exception`, or as a log record, with the attributes
`exception.type`, `exception.message` and `exception.stacktrace` (semantic conventions, "Exceptions").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from syntra.telemetry import attributes
from syntra.telemetry.processing import stack_traces
from syntra.utils.timestamps import format_ns

MAX_MESSAGE_CHARS = 8192
MAX_ERRORS_OF_SPAN = 16
MAX_ITEM_BYTES = 64 * 1024
"""The largest error, encoded. A larger one loses its extras first, then its outer frames."""

_MAX_TYPE_CHARS = 256
_MAX_EXTRAS = 32
_MAX_EXTRA_CHARS = 1024
_MAX_KEPT_TRACE_CHARS = 8192
_FINGERPRINT_FRAMES = 5
_EXCEPTION_KEYS = frozenset(("exception.type", "exception.message", "exception.stacktrace"))
_TAG_KEYS = ("http.route", "http.request.method", "service.instance.id", "service.namespace", "host.name")
_VARIABLE = re.compile(r"0x[0-9a-fA-F]+|[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]{4,})*|\d+")
"""What differs between two messages of one error: addresses, ids and numbers."""

Attributes = Mapping[str, object]


def from_span(span: Span, resource: Attributes, *, new_id: Callable[[], str]) -> list[dict[str, Any]]:
    """The exceptions of a span as items of `TelemetryData.errors`: at most 16, the first of the span.

    `resource` has the attributes of the span's resource, flat. `new_id` makes an id for each error.
    """
    found = []
    for event in span.events:
        if event.name == "exception":
            given = attributes.flat(event.attributes)
            tags = {"operation": span.name, "trace_id": span.trace_id.hex(), "span_id": span.span_id.hex()}
            at_ns = event.time_unix_nano or span.end_time_unix_nano
            found.append(_error(given, attributes.flat(span.attributes), resource, tags, at_ns, "", new_id()))
            if len(found) == MAX_ERRORS_OF_SPAN:
                break
    return found


def from_log(
    record: LogRecord, resource: Attributes, *, new_id: Callable[[], str], now_ns: Callable[[], int]
) -> dict[str, Any] | None:
    """The exception of a log record as an item of `TelemetryData.errors`; None when the record has none.

    `now_ns` (nanoseconds since the epoch) is the time of a record without one.
    """
    if not any(attribute.key in _EXCEPTION_KEYS for attribute in record.attributes):
        return None
    tags = {"logger": "", "trace_id": record.trace_id.hex(), "span_id": record.span_id.hex()}
    at_ns = record.time_unix_nano or record.observed_time_unix_nano or now_ns()
    given = attributes.flat(record.attributes)
    return _error(given, {}, resource, tags, at_ns, attributes.text(record.body), new_id())


def encode(items: Iterable[Mapping[str, Any]]) -> bytes:
    """Encode errors as lines of JSON, the data of a record of errors."""
    return b"".join(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE) for item in items)


def _error(
    given: Attributes, of_span: Attributes, resource: Attributes, tags: dict[str, str], at_ns: int, body: str, new: str
) -> dict[str, Any]:
    kind = str(given.get("exception.type") or "Error")[:_MAX_TYPE_CHARS]
    message = str(given.get("exception.message") or body)[:MAX_MESSAGE_CHARS]
    trace = str(given.get("exception.stacktrace") or "")
    frames = stack_traces.frames(trace)
    service_id, deployment_id = attributes.identity(resource)
    everything = {**of_span, **given}
    extra = _extra(everything)
    if trace and not frames and trace != "[]":
        extra["exception.stacktrace"] = trace[:_MAX_KEPT_TRACE_CHARS]
    for key in _TAG_KEYS:
        if value := everything.get(key) or resource.get(key):
            tags[key] = str(value)
    context: dict[str, Any] = {
        "environment": _first(resource, "deployment.environment.name", "deployment.environment"),
        "release": _first(resource, "service.version"),
        "tags": {key: value[:_MAX_TYPE_CHARS] for key, value in tags.items() if value},
        "extra": extra,
    }
    user = {name: _first(everything, *keys) for name, keys in _USER_KEYS.items()}
    if any(user.values()):
        context["user"] = {name: value for name, value in user.items() if value}
    return _bounded({
        "id": new,
        "service_id": service_id,
        "deployment_id": deployment_id,
        "timestamp": format_ns(at_ns),
        "type": kind,
        "message": message,
        "stack_trace": frames,
        "breadcrumbs": [],
        "context": context,
        "fingerprint": _fingerprint(kind, message, frames),
    })  # fmt: skip


_USER_KEYS = {"id": ("user.id", "enduser.id"), "email": ("user.email",), "username": ("user.name",)}


def _first(given: Attributes, *keys: str) -> str:
    return next((str(given[key])[:_MAX_TYPE_CHARS] for key in keys if given.get(key)), "")


def _extra(given: Attributes) -> dict[str, object]:
    extra: dict[str, object] = {}
    for key, value in given.items():
        if key in _EXCEPTION_KEYS:
            continue
        if len(extra) == _MAX_EXTRAS:
            break
        extra[key[:_MAX_TYPE_CHARS]] = value[:_MAX_EXTRA_CHARS] if isinstance(value, str) else value
    return extra


def _fingerprint(kind: str, message: str, frames: list[stack_traces.Frame]) -> list[str]:
    """What the same error has in common over time: its type and the application's innermost functions.

    Line numbers change with every deployment and are left out. Without frames, the message without its numbers decides.
    """
    own = [frame for frame in frames if frame["in_app"]] or frames
    if not own:
        return [kind, _VARIABLE.sub("#", message[:_MAX_TYPE_CHARS])]
    return [kind, *(f"{frame['filename']}:{frame['function']}" for frame in own[:_FINGERPRINT_FRAMES])]


def _bounded(item: dict[str, Any]) -> dict[str, Any]:
    """Shorten an error until it fits. Characters take at most six bytes in JSON, so few errors are measured twice."""
    if len(orjson.dumps(item)) > MAX_ITEM_BYTES:
        item["context"]["extra"] = {}
    while len(item["stack_trace"]) > 1 and len(orjson.dumps(item)) > MAX_ITEM_BYTES:
        del item["stack_trace"][len(item["stack_trace"]) // 2 :]
    return item
