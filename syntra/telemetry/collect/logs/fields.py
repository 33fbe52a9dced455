"""The names that the usual loggers have for level, message, time, trace and exception, and what these mean. Pure.

Known: zap, logrus, slog, zerolog, pino, winston, bunyan, structlog, python-json-logger, logback (Logstash), Serilog,
and the Elastic Common Schema. Whatever has another name is an attribute.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from syntra.telemetry.collect.logs.severity import severity_of_number, severity_of_word
from syntra.telemetry.collect.logs.stack_heads import exception_in
from syntra.utils.errors import AgentError
from syntra.utils.timestamps import parse_ns


class Role(Enum):
    """What a field says."""

    LEVEL = "level"
    MESSAGE = "message"
    TIME = "time"
    TRACE = "trace"
    SPAN = "span"
    STACK = "stack"
    """The stack trace of an exception."""
    ERROR = "error"
    """An error, as text or with fields of its own."""


ROLES: Mapping[str, Role] = {
    **dict.fromkeys(
        ("level", "lvl", "severity", "levelname", "loglevel", "log.level", "@l", "Level", "LogLevel"), Role.LEVEL
    ),
    **dict.fromkeys(
        ("msg", "message", "event", "@m", "@mt", "Message", "RenderedMessage", "MessageTemplate"), Role.MESSAGE
    ),
    **dict.fromkeys(("time", "ts", "timestamp", "@timestamp", "@t", "Timestamp", "asctime"), Role.TIME),
    **dict.fromkeys(("trace_id", "traceId", "traceID", "trace.id", "TraceId", "@tr", "otelTraceID"), Role.TRACE),
    **dict.fromkeys(("span_id", "spanId", "spanID", "span.id", "SpanId", "@sp", "otelSpanID"), Role.SPAN),
    **dict.fromkeys(
        (
            *("stack", "stack_trace", "stacktrace", "stackTrace", "traceback", "exception", "exc_info", "@x"),
            *("Exception", "error.stack_trace", "error.stack"),
        ),
        Role.STACK,
    ),
    **dict.fromkeys(("err", "error"), Role.ERROR),
}
_MIN_NS, _MAX_NS = 946_684_800_000_000_000, 4_102_444_800_000_000_000
"""2000 and 2100: a number outside is no time."""
_NUMBER = re.compile(r"\d{10,19}(?:\.\d{1,9})?")


class Parsed(NamedTuple):
    """What a line says. `time_ns` is 0, `severity` 0 and an id empty when the line does not give it."""

    message: str
    severity: int = 0
    level: str = ""
    time_ns: int = 0
    trace_id: bytes = b""
    span_id: bytes = b""
    attributes: Mapping[str, Any] = {}


def parse_fields(fields: Mapping[str, Any]) -> Parsed | None:
    """Read the fields of a structured line; None when neither a message nor a level is among them."""
    message: str | None = None
    level, severity, time_ns = "", 0, 0
    trace_id = span_id = b""
    rest: dict[str, Any] = {}
    stack: Any = None
    error: Any = None
    role_of = ROLES.get
    for key, value in fields.items():
        role = role_of(key)
        if role is None:
            rest[key] = value
        elif role is Role.MESSAGE and message is None and type(value) is str:
            message = value
        elif role is Role.LEVEL and not severity and (severity := severity_of(value)):
            level = str(value)
        elif role is Role.TIME and not time_ns and (found := time_of(value)):
            time_ns = found
        elif role is Role.TRACE and not trace_id and (identifier := id_of(value, 16)):
            trace_id = identifier
        elif role is Role.SPAN and not span_id and (identifier := id_of(value, 8)):
            span_id = identifier
        else:
            rest[key] = value
            if role is Role.STACK:
                stack = stack or (key, value)
            elif role is Role.ERROR:
                error = error or (key, value)
    if message is None and not severity:
        return None
    if stack is not None or (error is not None and type(error[1]) is dict):
        _take_exception(rest, stack, error, message or "")
    return Parsed(message or "", severity, level, time_ns, trace_id, span_id, rest)


def severity_of(value: object) -> int:
    """The severity number of a level as loggers write it; 0 for none."""
    if type(value) is str:
        return severity_of_word(value) or (severity_of_number(float(value)) if value.isdigit() else 0)
    return severity_of_number(value) if type(value) is int else 0


def time_of(value: object) -> int:
    """Nanoseconds since 1970 of a time that loggers write: RFC 3339, or a number of s, ms, µs or ns; 0 for none.

    A time without a zone is not used: which zone it means is not known.
    """
    found = 0
    if type(value) is str:
        if _NUMBER.fullmatch(value):
            return time_of(float(value) if "." in value else int(value))
        try:
            found = parse_ns(value) or 0
        except AgentError:
            return 0
    elif type(value) is int or type(value) is float:
        for unit in (1_000_000_000, 1_000_000, 1000, 1):
            found = int(value * unit) if -1e19 < value < 1e19 else 0
            if found < _MAX_NS:
                break
    return found if _MIN_NS < found < _MAX_NS else 0


def id_of(value: object, size: int) -> bytes:
    """The bytes of an id in hexadecimal; none for what is no id of so many bytes."""
    if type(value) is not str or len(value) != 2 * size:
        return b""
    try:
        found = binascii.unhexlify(value)
    except ValueError:
        return b""
    return found if found != bytes(size) else b""


def _take_exception(rest: dict[str, Any], stack: Any, error: Any, message: str) -> None:
    """Name an exception as the semantic conventions do: type, message and stack trace."""
    kind, said, trace = "", "", ""
    if error is not None:
        key, value = error
        if type(value) is dict:
            kind = _first(value, "type", "name", "kind", "class")
            said = _first(value, "message", "msg")
            trace = _first(value, "stack", "stack_trace", "stacktrace")
            if trace:
                rest[key] = {name: one for name, one in value.items() if one != trace}
        else:
            said = str(value)
    if stack is not None and not trace and type(stack[1]) is str and "\n" in stack[1]:
        trace = stack[1]
        del rest[stack[0]]
    if not trace:
        return
    found = exception_in(trace)
    rest["exception.type"] = kind or found.get("exception.type") or "Error"
    rest["exception.message"] = said or found.get("exception.message") or message
    rest["exception.stacktrace"] = trace


def _first(value: Mapping[str, Any], *keys: str) -> str:
    return next((found for key in keys if type(found := value.get(key)) is str), "")
