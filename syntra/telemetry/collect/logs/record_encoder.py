"""Log records as protobuf wire bytes, by hand. Pure.

Field numbers are those of opentelemetry-proto's logs.proto and common.proto. A hand-made record costs a tenth of one
that is made as a message and serialized; the tests compare the two.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import orjson

from syntra.telemetry.varint import SHORT_VARINTS, varint

MAX_DEPTH = 6
"""Objects deeper than this in a line of JSON become text."""
MAX_ITEMS = 64
"""The most attributes of a record, and entries of an object or list in one. The rest is counted as dropped."""
MAX_KEY_CHARS = 256

_two_times = struct.Struct("<BQBQ").pack
_double = struct.Struct("<Bd").pack
_KEYS: dict[str, bytes] = {}
"""Encoded keys. Programs use the same few again and again."""
_KEYS_KEPT = 4096
_UINT64 = (1 << 64) - 1


def log_record(
    time_ns: int,
    observed_ns: int,
    body: bytes,
    *,
    severity: int = 0,
    severity_text: bytes = b"",
    attributes: bytes = b"",
    dropped: int = 0,
    trace_id: bytes = b"",
    span_id: bytes = b"",
) -> bytes:
    """A record as a field of ScopeLogs. `body` is its text, `attributes` are encoded ones."""
    rest = attributes
    if dropped:
        rest += b"\x38" + varint(dropped)
    if trace_id:
        rest += b"\x4a\x10" + trace_id
    if span_id:
        rest += b"\x52\x08" + span_id
    level = b"\x10%c\x1a%c%b" % (severity, len(severity_text), severity_text) if severity else b""
    return record(time_ns, observed_ns, level, body, rest)


def record(time_ns: int, observed_ns: int, level: bytes, body: bytes, rest: bytes) -> bytes:
    """As `log_record`: `level` is what `leveled` returns or nothing, `rest` are all other fields, encoded."""
    size = len(body)
    length = SHORT_VARINTS[size] if size < 16384 else varint(size)
    value = size + 1 + len(length)
    wide = SHORT_VARINTS[value] if value < 16384 else varint(value)
    whole = 20 + len(level) + len(wide) + value + len(rest) - 1
    return b"\x12%b%b%b\x2a%b\x0a%b%b%b" % (
        SHORT_VARINTS[whole] if whole < 16384 else varint(whole),
        _two_times(0x09, time_ns, 0x59, observed_ns),
        level,
        wide,
        length,
        body,
        rest,
    )


def leveled(severity: int, level: str) -> bytes:
    """Severity number and text as fields of LogRecord."""
    text = as_bytes(level[:32])
    return b"\x10%c\x1a%c%b" % (severity, len(text), text)


def attribute(key: str, value: object) -> bytes:
    """An attribute as a field of LogRecord."""
    pair = _pair(key, value, 0)
    size = len(pair)
    return b"\x32%b%b" % (SHORT_VARINTS[size] if size < 16384 else varint(size), pair)


def attributes(given: Mapping[str, object], room: int = MAX_ITEMS) -> tuple[bytes, int]:
    """Attributes as fields of LogRecord, and how many were left out because there is no room."""
    out: list[bytes] = []
    for key, value in given.items():
        if len(out) == room:
            break
        out.append(attribute(key, value))
    return b"".join(out), max(0, len(given) - room)


def request(resource: bytes, scope: bytes, records: list[bytes]) -> bytes:
    """An ExportLogsServiceRequest of one resource, with the records as `log_record` returns them."""
    scoped = scope + b"".join(records)
    logs = _field(0x0A, resource) + _field(0x12, scoped)
    return _field(0x0A, logs)


def scope_named(name: str) -> bytes:
    """The instrumentation scope, as a field of ScopeLogs."""
    return _field(0x0A, _field(0x0A, name.encode()))


def as_bytes(text: str) -> bytes:
    """UTF-8; halves of surrogate pairs, which JSON can have alone, become `?`."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace")


def _field(tag: int, data: bytes) -> bytes:
    return b"%c%b%b" % (tag, varint(len(data)), data)


def _pair(key: str, value: object, depth: int) -> bytes:
    of_value = _any_value(value, depth)
    size = len(of_value)
    return b"%b\x12%b%b" % (
        _KEYS.get(key) or encoded_key(key),
        SHORT_VARINTS[size] if size < 16384 else varint(size),
        of_value,
    )


def encoded_key(key: str) -> bytes:
    """The key as a field of KeyValue."""
    encoded = _field(0x0A, as_bytes(key[:MAX_KEY_CHARS]))
    if len(_KEYS) >= _KEYS_KEPT:
        _KEYS.clear()
    if len(key) <= MAX_KEY_CHARS:
        _KEYS[key] = encoded
    return encoded


def _any_value(value: Any, depth: int) -> bytes:
    kind = type(value)
    if kind is str:
        return _field(0x0A, as_bytes(value))
    if kind is bool:
        return b"\x10\x01" if value else b"\x10\x00"
    if kind is int:
        return b"\x18" + varint(value & _UINT64) if -(1 << 63) <= value < 1 << 63 else _field(0x0A, b"%d" % value)
    if kind is float:
        return _double(0x21, value)
    if value is None:
        return b""
    if depth >= MAX_DEPTH:
        return _field(0x0A, orjson.dumps(value))
    if kind is list:
        return _field(0x2A, b"".join([_field(0x0A, _any_value(one, depth + 1)) for one in value[:MAX_ITEMS]]))
    pairs = [_field(0x0A, _pair(key, one, depth + 1)) for key, one in list(value.items())[:MAX_ITEMS]]
    return _field(0x32, b"".join(pairs))
