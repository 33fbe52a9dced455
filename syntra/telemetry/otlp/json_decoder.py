"""OTLP as JSON, decoded into the bytes of the protobuf request that means the same. Pure.

The rules are those of the OTLP specification, section "JSON Protobuf Encoding". protobuf's own `json_format` cannot be
used: it reads ids as base64, refuses unknown fields and takes twenty times as long. Bytes come out and not messages,
because writing them is faster than building messages, and the pipeline takes protobuf requests as bytes anyway.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import orjson
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans

from syntra.telemetry.intake import BadData
from syntra.telemetry.otlp import json_messages, json_pieces, json_read, json_usual
from syntra.telemetry.read_requests import Encoded, ReadTraces
from syntra.telemetry.signals import Signal

_REQUESTS: dict[Signal, type[Message]] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
    Signal.PROFILES: ExportProfilesServiceRequest,
}

_IN_PIECES_BYTES = 2 * json_pieces.PIECE_BYTES

_LAYOUTS: dict[Signal, tuple[type[Message], str, str, str, bytes]] = {
    Signal.TRACES: (ScopeSpans, "resourceSpans", "scopeSpans", "spans", b'},{"traceId":'),
    Signal.LOGS: (ScopeLogs, "resourceLogs", "scopeLogs", "logRecords", b'},{"timeUnixNano":'),
}
"""The message with the list of records, the keys on the way to it, and what separates two records."""

_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)")
_LONE_SURROGATE_BYTES = 6


Reserve = Callable[[int], object]
"""Reserves that many bytes in all, or raises what the caller of the decoder wants to see."""


def read_json(signal: Signal, body: bytes, reserve: Reserve | None = None) -> Encoded | ReadTraces:
    """As `decode_json`, but usual traces requests are read only, and encoded when it is known what of them to keep."""
    if signal is Signal.TRACES and len(body) <= json_read.LARGEST_BYTES:
        if reserve is not None:
            reserve(json_read.memory_of_structs(body))
        found = json_read.read(body, _usual(signal), lambda given: decode_json(signal, given))
        if found is not None:
            return found
    return Encoded(decode_json(signal, body, reserve))


def decode_json(signal: Signal, body: bytes, reserve: Reserve | None = None) -> bytes:
    """Decode a request of `signal`: OTLP/JSON in, an encoded Export…ServiceRequest out.

    `reserve` is called before more memory is taken than a few records need: a large request usually takes once again
    the length of its body, a hostile one up to thirty times. Half of a surrogate pair, which neither UTF-8 nor protobuf
    can hold, becomes U+FFFD. Raises BadData, whose `field` is the place of a wrong value such as
    `resourceSpans[0].scopeSpans[1].spans[3].startTimeUnixNano`.
    """
    if len(body) > _IN_PIECES_BYTES and signal in _LAYOUTS:
        pieces = json_pieces.decode(body, _layout(signal), _encoder(signal), reserve)
        if pieces is not None:
            return pieces
    elif signal in _LAYOUTS:
        if reserve is not None:
            reserve(json_usual.memory_of_objects(body))
        usual = _usual(signal).request(body)
        if usual is not None:
            return usual
    if reserve is not None:
        reserve(json_pieces.memory_of_objects(body) + len(body))
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        document = _again(body, exc)
    try:
        return _encoder(signal)(document)
    except BadData as exc:
        raise BadData(str(exc), exc.field.lstrip(".")) from None


@cache
def _encoder(signal: Signal) -> json_messages.Encoder:
    descriptor: Any = _REQUESTS[signal].DESCRIPTOR  # the stubs have a class for each implementation of protobuf
    return json_messages.message(descriptor)


@cache
def _usual(signal: Signal) -> json_usual.Usual:
    descriptor: Any = _REQUESTS[signal].DESCRIPTOR
    return json_usual.Usual(signal, descriptor.fields_by_number[1].message_type)


@cache
def _layout(signal: Signal) -> json_pieces.Layout:
    scope, groups, scopes, records, boundary = _LAYOUTS[signal]
    descriptor: Any = scope.DESCRIPTOR
    general = json_messages.field(next(field for field in descriptor.fields if field.json_name == records))
    usual = _usual(signal)

    def encode(text: bytes) -> bytes:
        found = usual.records(text)
        return general(orjson.loads(text)) if found is None else found

    return json_pieces.Layout(groups=groups, scopes=scopes, records=records, boundary=boundary, encode=encode)


def _again(body: bytes, first: orjson.JSONDecodeError) -> object:
    """Parse a body that cannot be parsed as it is, with halves of surrogate pairs replaced."""
    whole, count = _ESCAPE.subn(_whole, body)
    if count and whole != body:
        try:
            return orjson.loads(whole)
        except orjson.JSONDecodeError as exc:
            first = exc
    raise BadData(f"not JSON: {first.msg} at character {first.pos}") from None


def _whole(match: re.Match[bytes]) -> bytes:
    escape = match.group()
    return b"\\ufffd" if len(escape) == _LONE_SURROGATE_BYTES else escape
