"""OTLP messages for tests: generated ones, and their JSON by protobuf's own encoder with ids in hexadecimal digits."""

from __future__ import annotations

import base64
from collections.abc import Callable
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from syntra.telemetry.signals import Signal

REQUESTS: dict[Signal, type[Message]] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
    Signal.PROFILES: ExportProfilesServiceRequest,
}
IDS = frozenset({"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"})

_TEXTS = ("", "service.name", "checkout", "grüß 𝄞", "\x00\n\\", "x" * 200)
_DOUBLES = (0.0, -0.0, 1.0, -2.5, 1e300, 5e-324, float("nan"), float("inf"), float("-inf"))


def _integer(low: int, high: int) -> Callable[[Random], int]:
    return lambda random: random.choice((low, high, max(low, -1), 0, 1, 127, 128, random.randint(low, high)))


_SCALARS: dict[int, Callable[[Random], Any]] = {
    FieldDescriptor.TYPE_STRING: lambda random: random.choice(_TEXTS),
    FieldDescriptor.TYPE_BYTES: lambda random: random.randbytes(random.randrange(9)),
    FieldDescriptor.TYPE_BOOL: lambda random: random.random() < 0.5,
    FieldDescriptor.TYPE_DOUBLE: lambda random: random.choice(_DOUBLES),
    FieldDescriptor.TYPE_INT32: _integer(-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_INT64: _integer(-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_UINT32: _integer(0, (1 << 32) - 1),
    FieldDescriptor.TYPE_UINT64: _integer(0, (1 << 64) - 1),
    FieldDescriptor.TYPE_SINT32: _integer(-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_FIXED32: _integer(0, (1 << 32) - 1),
    FieldDescriptor.TYPE_FIXED64: _integer(0, (1 << 64) - 1),
    FieldDescriptor.TYPE_SFIXED64: _integer(-(1 << 63), (1 << 63) - 1),
}


def requests(signal: Signal) -> st.SearchStrategy[Message]:
    """Requests with any of their fields, and something in them. Hypothesis draws only the seed, for speed."""
    return st.integers(0, 1 << 32).map(lambda seed: request(signal, Random(seed)))


def request(signal: Signal, random: Random) -> Message:
    """One such request."""
    message = REQUESTS[signal]()
    _fill(random, message, 0)
    return message


def _fill(random: Random, message: Message, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        content = field.message_type
        likely = 0.9 if depth < 4 and content is not None and field.is_repeated else 0.5 if depth < 10 else 0.0
        if random.random() >= likely:
            continue
        for _ in range(random.choice((1, 1, 2)) if field.is_repeated else 1):
            if content is not None:
                inner = getattr(message, field.name)
                _fill(random, inner.add() if field.is_repeated else _present(inner), depth + 1)
            elif field.is_repeated:
                getattr(message, field.name).append(_value(field, random))
            else:
                setattr(message, field.name, _value(field, random))


def _present(message: Message) -> Message:
    message.SetInParent()
    return message


def _value(field: Any, random: Random) -> Any:
    if field.enum_type is not None:
        return random.choice([value.number for value in field.enum_type.values])
    if field.name == "trace_id":
        return random.choice((random.randbytes(16), random.randbytes(16), random.randbytes(random.randrange(20))))
    if field.name.endswith("span_id"):
        return random.choice((random.randbytes(8), random.randbytes(8), random.randbytes(random.randrange(20))))
    return _SCALARS[field.type](random)


def as_json(message: Message, *, snake_case: bool = False, enum_numbers: bool = True) -> Any:
    """The JSON value that OTLP has for a message."""
    document = MessageToDict(message, preserving_proto_field_name=snake_case, use_integers_for_enums=enum_numbers)
    return _hex_ids(document)


def _hex_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: base64.b64decode(item).hex() if key in IDS else _hex_ids(item) for key, item in value.items()}
    return [_hex_ids(item) for item in value] if isinstance(value, list) else value
