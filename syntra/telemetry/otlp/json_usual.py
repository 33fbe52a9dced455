"""Usual spans and log records of OTLP/JSON as protobuf wire bytes: several times as fast as the general decoder. Pure.

`json_structs` has the form of a usual request. Anything else is left to the general decoder, which also finds the place
of an error. So this one is right if it gives what the general one gives; the tests compare the two.
"""

from __future__ import annotations

import struct
from binascii import unhexlify
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
from google.protobuf.descriptor import Descriptor
from msgspec import Raw

from syntra.telemetry.intake import BadData
from syntra.telemetry.otlp import json_messages, json_structs
from syntra.telemetry.otlp.json_structs import NOTHING, LogRecord, Span
from syntra.telemetry.otlp.json_usual_attributes import Attributes
from syntra.telemetry.signals import Signal
from syntra.telemetry.varint import SHORT_VARINTS, varint

_OBJECT_BYTES = 280
"""The most memory that `{}` takes: a struct with an empty list, and its encoding."""

ODD = (
    BadData,
    msgspec.MsgspecError,
    AttributeError,
    LookupError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
"""What a value of another form than the usual raises. UnicodeError and orjson.JSONDecodeError are ValueErrors."""

_REMEMBERED = 1024
_REMEMBERED_CHARS = 80
_REMEMBERED_PARTS = 256
_REMEMBERED_BYTES = 4096

_kind_and_times = struct.Struct("<BBBQBQ").pack
_time_and_severity = struct.Struct("<BQBB").pack
_observed_time = struct.Struct("<BQ").pack
_span_flags = struct.Struct("<BBI").pack
_log_flags = struct.Struct("<BI").pack
_BODY_HEAD, _BODY_TAIL = b'{"stringValue":"', b'"}'
_QUOTE, _BACKSLASH = b'"'[0], b"\\"[0]

Encoder = Callable[[Any], bytes]


def memory_of_objects(body: bytes) -> int:
    """The most bytes that the objects of a request need."""
    return _OBJECT_BYTES * body.count(b"{") + 2 * len(body)


class Usual:
    """Decodes the usual requests of one signal, traces or logs."""

    def __init__(self, signal: Signal, group: Descriptor) -> None:
        """`group` describes ResourceSpans or ResourceLogs."""
        is_traces = signal is Signal.TRACES
        self._read_request: Any = json_structs.read_traces if is_traces else json_structs.read_logs
        self._read_records: Any = json_structs.read_spans if is_traces else json_structs.read_log_records
        scopes = _message(group, 2)
        record = _message(scopes, 2)
        self.record: Encoder = _Spans(record).encode if is_traces else _LogRecords(record).encode
        self.resource = _Parts(_field(group, 1)).encode
        self.scope = _Parts(_field(scopes, 1)).encode
        """Encoders of a resource and of a scope, as fields. They raise BadData, or one of `ODD`."""

    def request(self, body: bytes) -> bytes | None:
        """Decode a request; None if it is not a usual one."""
        try:
            check_utf8(body)
            out: list[bytes] = []
            for group in self._read_request(body).resources:
                parts = [self.resource(group.resource)]
                for scope in group.scopes:
                    content = (
                        self.scope(scope.scope) + self.encoded(scope.records) + text_field(b"\x1a", scope.schema_url)
                    )
                    parts += (b"\x12", varint(len(content)), content)
                parts.append(text_field(b"\x1a", group.schema_url))
                content = b"".join(parts)
                out += (b"\x0a", varint(len(content)), content)
            return b"".join(out)
        except ODD:
            return None

    def records(self, text: bytes) -> bytes | None:
        """Decode a list of records as fields of their scope; None if it is not a usual one."""
        try:
            check_utf8(text)
            return self.encoded(self._read_records(text))
        except ODD:
            return None

    def encoded(self, records: list[Any]) -> bytes:
        """Encode records as fields of their scope. Raises BadData, or one of `ODD`."""
        out: list[bytes] = []
        encode = self.record
        for record in records:
            content = encode(record)
            size = len(content)
            out += (b"\x12", SHORT_VARINTS[size] if size < 16384 else varint(size), content)
        return b"".join(out)


class _Spans:
    """The encoder of spans."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._attributes = Attributes(b"\x4a", _field(descriptor, 9))
        self._events, self._links = _field(descriptor, 11), _field(descriptor, 13)
        self._names = _Names(b"\x2a")

    def encode(self, span: Span) -> bytes:
        """Encode a span in the order of its fields' numbers, which the pipeline reads fastest."""
        head = b""
        ids = f"0a10{span.trace_id}1208{span.span_id}"
        if span.trace_state:
            head = unhexlify(ids) + text_field(b"\x1a", span.trace_state)
            ids = ""
        if parent := span.parent_span_id:
            if len(parent) != 16:
                raise ValueError("an unusual parent")
            ids = f"{ids}2208{parent}"
        parts = [
            head,
            unhexlify(ids),
            self._names[span.name],
            _kind_and_times(0x30, span.kind, 0x39, span.start_time_unix_nano, 0x41, span.end_time_unix_nano),
        ]
        if span.attributes is not NOTHING:
            parts.append(self._attributes.encode(span.attributes))
        if span.dropped_attributes_count:
            parts += (b"\x50", varint(span.dropped_attributes_count))
        if span.events is not NOTHING:
            parts.append(_parsed(span.events, self._events))
        if span.dropped_events_count:
            parts += (b"\x60", varint(span.dropped_events_count))
        if span.links is not NOTHING:
            parts.append(_parsed(span.links, self._links))
        if span.dropped_links_count:
            parts += (b"\x70", varint(span.dropped_links_count))
        if (status := span.status) is not None:
            content = text_field(b"\x12", status.message) + (b"\x18%c" % status.code if status.code else b"")
            parts += (b"\x7a", varint(len(content)), content)
        if span.flags:
            parts.append(_span_flags(0x85, 0x01, span.flags))
        return b"".join(parts)


class _LogRecords:
    """The encoder of log records."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._attributes = Attributes(b"\x32", _field(descriptor, 6))
        self._body = _field(descriptor, 5)
        self._severities = _Names(b"\x1a")

    def encode(self, record: LogRecord) -> bytes:
        """Encode a log record in the order of its fields' numbers."""
        parts = [
            _time_and_severity(0x09, record.time_unix_nano, 0x10, record.severity_number),
            self._severities[record.severity_text],
        ]
        if record.body is not NOTHING:
            parts.append(self._encoded_body(record.body))
        if record.attributes is not NOTHING:
            parts.append(self._attributes.encode(record.attributes))
        if record.dropped_attributes_count:
            parts += (b"\x38", varint(record.dropped_attributes_count))
        if record.flags:
            parts.append(_log_flags(0x45, record.flags))
        for tag, digits in ((b"\x4a", record.trace_id), (b"\x52", record.span_id)):
            if digits:
                raw = unhexlify(digits)
                parts += (tag, varint(len(raw)), raw)
        if record.observed_time_unix_nano:
            parts.append(_observed_time(0x59, record.observed_time_unix_nano))
        parts.append(text_field(b"\x62", record.event_name))
        return b"".join(parts)

    def _encoded_body(self, raw: Raw) -> bytes:
        text = bytes(raw)
        if text.startswith(_BODY_HEAD) and text.endswith(_BODY_TAIL):
            text = text[len(_BODY_HEAD) : -len(_BODY_TAIL)]
            if _QUOTE not in text and _BACKSLASH not in text:
                size = varint(len(text))
                return b"\x2a%b\x0a%b%b" % (varint(1 + len(size) + len(text)), size, text)
        return _parsed(raw, self._body)


class _Names(dict[str, bytes]):
    """Texts that have few values as fields: it remembers 1024 of at most 80 characters."""

    def __init__(self, tag: bytes) -> None:
        super().__init__()
        self._tag = tag

    def __missing__(self, text: str) -> bytes:
        field = text_field(self._tag, text)
        if len(text) <= _REMEMBERED_CHARS:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[text] = field
        return field


class _Parts(dict[bytes, bytes]):
    """Resources or scopes as fields, by their text."""

    def __init__(self, general: Encoder) -> None:
        super().__init__()
        self._general = general

    def encode(self, raw: Raw) -> bytes:
        """Encode one. Raises BadData or ValueError."""
        return self[bytes(raw)] if raw is not NOTHING else b""

    def __missing__(self, text: bytes) -> bytes:
        field = _parsed(text, self._general)
        if len(text) <= _REMEMBERED_BYTES:
            if len(self) >= _REMEMBERED_PARTS:
                self.clear()
            self[text] = field
        return field


def _parsed(raw: Raw | bytes, general: Encoder) -> bytes:
    value = orjson.loads(bytes(raw))
    return b"" if value is None else general(value)


def text_field(tag: bytes, text: str) -> bytes:
    """A field of text; none for empty text."""
    raw = text.encode()
    return tag + varint(len(raw)) + raw if raw else b""


def _field(descriptor: Descriptor, number: int) -> Encoder:
    return json_messages.field(descriptor.fields_by_number[number])


def _message(descriptor: Descriptor, number: int) -> Descriptor:
    content = descriptor.fields_by_number[number].message_type
    assert content is not None, "resources, scopes and records are messages"
    return content


def check_utf8(text: bytes) -> None:
    """Raises UnicodeDecodeError."""
    if not text.isascii():
        text.decode()
