"""Spans and log records of OTLP/JSON as protobuf wire bytes, by hand. Pure.

These encoders know the usual form of a record: camelCase keys, ids of the right length, times as text. They leave
anything else to the general encoder of the message, which also finds the place of an error. So they are right if they
give what the general encoder gives; the tests compare the two.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Callable, Mapping
from typing import Any

from syntra.telemetry.intake import BadData
from syntra.telemetry.varint import SHORT_VARINTS, varint

Encoder = Callable[[Any], bytes]

_ODD = (BadData, AttributeError, LookupError, TypeError, ValueError, OverflowError, struct.error)
"""What a value of another type than expected raises below."""

_unhex = binascii.unhexlify
_two_times = struct.Struct("<BQBQ").pack
_span_flags = struct.Struct("<BBI").pack

_REMEMBERED = 1024
_REMEMBERED_CHARS = 80

_SPAN_HEAD = frozenset(("traceId", "spanId", "parentSpanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano"))
_SPAN_LISTS = frozenset(("attributes", "events", "links"))
_SPAN_NUMBERS = frozenset(("droppedAttributesCount", "droppedEventsCount", "droppedLinksCount", "flags"))
_LOG_HEAD = frozenset(("timeUnixNano", "observedTimeUnixNano", "severityNumber", "severityText", "traceId", "spanId"))
_ZERO = 0
"""The interpreter has one object for each small number, so that identity with it finds most zeros, and only zeros."""


def span(fields: Mapping[str, Encoder], general: Encoder) -> Encoder:
    """Make the encoder of a Span. `fields` are the general encoders of its fields, `general` that of the message."""
    status, text = fields["status"], _remembered(fields["name"])
    statuses = [status({"code": code}) for code in range(3)]

    def short_status(value: Any) -> bytes:
        if len(value) == 1 and type(code := value.get("code")) is int and 0 <= code < 3:
            return statuses[code]
        return status(value)

    def flags(value: Any) -> bytes:
        return _span_flags(0x85, 0x01, value) if type(value) is int else general_flags(value)

    general_flags = fields["flags"]
    # In the order of their numbers, as encoders write them: the pipeline reads spans in that order fastest.
    rest = [
        *((name, fields[name]) for name in ("attributes", "droppedAttributesCount", "events", "droppedEventsCount")),
        *((name, fields[name]) for name in ("links", "droppedLinksCount")),
        ("status", short_status),
        ("flags", flags),
    ]
    trace_state = fields["traceState"]
    known = _SPAN_HEAD.union(dict(rest), ("traceState",))

    def encode(item: Any) -> bytes:
        try:
            trace_id, span_id, kind = _unhex(item["traceId"]), _unhex(item["spanId"]), item["kind"]
            start, end, parent = item["startTimeUnixNano"], item["endTimeUnixNano"], item.get("parentSpanId", "")
            if (
                len(trace_id) != 16
                or len(span_id) != 8
                or type(kind) is not int
                or not 0 <= kind < 128
                or not (start.isdigit() and end.isdigit())
                or not known.issuperset(item)
            ):
                return general(item)
            get = item.get
            out = [b"\x0a\x10%b\x12\x08%b" % (trace_id, span_id)]
            if (value := get("traceState")) is not None:
                out.append(trace_state(value))
            if parent != "":
                parent_id = _unhex(parent)
                out.append(b"\x22%b%b" % (SHORT_VARINTS[len(parent_id)], parent_id))
            out.append(text(item["name"]))
            out.append(b"\x30%c" % kind)
            out.append(_two_times(0x39, int(start), 0x41, int(end)))
            for key, encoder in rest:
                if (value := get(key)) is None:
                    continue
                if (value is _ZERO and key in _SPAN_NUMBERS) or (value == [] and key in _SPAN_LISTS):
                    continue
                out.append(encoder(value))
        except _ODD:
            return general(item)
        return b"".join(out)

    return encode


def log_record(fields: Mapping[str, Encoder], general: Encoder) -> Encoder:
    """Make the encoder of a LogRecord, with the same arguments as `span`."""
    text = _remembered(fields["severityText"])
    numbers = [(name, fields[name]) for name in ("droppedAttributesCount", "flags")]
    attributes, body, event_name = fields["attributes"], fields["body"], fields["eventName"]
    known = _LOG_HEAD.union(dict(numbers), ("attributes", "body", "eventName"))

    def encode(item: Any) -> bytes:
        try:
            get = item.get
            time, observed = item["timeUnixNano"], get("observedTimeUnixNano", "0")
            severity, content = item["severityNumber"], item["body"]
            if (
                type(severity) is not int
                or not 0 <= severity < 128
                or not (time.isdigit() and observed.isdigit())
                or not known.issuperset(item)
            ):
                return general(item)
            if type(raw := content.get("stringValue")) is str and len(content) == 1:
                raw = raw.encode()
                size = len(raw)
                message = b"\x2a%b\x0a%b%b" % (varint(size + 1 + len(varint(size))), varint(size), raw)
            else:
                message = body(content)
            out = [
                _two_times(0x09, int(time), 0x59, int(observed)),
                b"\x10%c" % severity,
                text(get("severityText", "")),
                message,
            ]
            if trace_id := _unhex(get("traceId", "")):
                out.append(b"\x4a%b%b" % (SHORT_VARINTS[len(trace_id)], trace_id))
            if span_id := _unhex(get("spanId", "")):
                out.append(b"\x52%b%b" % (SHORT_VARINTS[len(span_id)], span_id))
            for key, encoder in numbers:
                if (value := get(key)) is not None and value is not _ZERO:
                    out.append(encoder(value))
            if (value := get("attributes")) is not None and value != []:
                out.append(attributes(value))
            if (value := get("eventName")) is not None:
                out.append(event_name(value))
        except _ODD:
            return general(item)
        return b"".join(out)

    return encode


def _remembered(general: Encoder) -> Encoder:
    """Make the encoder of a text that has few values: it remembers 1024 of at most 80 characters."""
    known: dict[str, bytes] = {}

    def encode(value: Any) -> bytes:
        field = known.get(value)
        if field is None:
            field = general(value)
            if len(value) <= _REMEMBERED_CHARS:
                if len(known) >= _REMEMBERED:
                    known.clear()
                known[value] = field
        return field

    return encode
