"""Protobuf messages with gaps of a fixed size, for values that are not known yet. Pure.

A message is built once as pieces: bytes, and gaps for a time, a double or some 64-bit integers. All of them have a
fixed size in OTLP, so the lengths in front of the messages around them never change.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence


class Gap:
    """A place for `size` bytes. `kind` is `time`, `double` or `integers`; `number` counts the gaps of a kind."""

    __slots__ = ("kind", "number", "size")

    def __init__(self, kind: str, number: int, size: int) -> None:
        self.kind = kind
        self.number = number
        self.size = size


TIME = Gap("time", 0, 8)

_DOUBLE = struct.Struct("<d")
_FIXED = struct.Struct("<Q")


class Pieces:
    """A message under construction, or a part of one."""

    __slots__ = ("parts", "size")

    def __init__(self) -> None:
        self.parts: list[bytes | Gap] = []
        self.size = 0

    def put(self, data: bytes) -> None:
        """Add bytes that are fields already."""
        self.parts.append(data)
        self.size += len(data)

    def gap(self, tag: int, gap: Gap) -> None:
        """Add a field of a fixed size whose value comes later."""
        self.put(bytes((tag,)))
        self.parts.append(gap)
        self.size += gap.size

    def message(self, tag: int, inner: Pieces) -> None:
        """Add a message as a field."""
        self.put(bytes((tag,)) + varint(inner.size))
        self.parts += inner.parts
        self.size += inner.size


def varint(number: int) -> bytes:
    """A number that is not negative, as protobuf writes it."""
    if number < 128:
        return bytes((number,))
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    made.append(number)
    return bytes(made)


def field(tag: int, body: bytes) -> bytes:
    """A field with a length."""
    return bytes((tag,)) + varint(len(body)) + body


def text_field(tag: int, text: str) -> bytes:
    """A text; an empty one is no field."""
    return field(tag, text.encode()) if text else b""


def double_field(tag: int, value: float) -> bytes:
    """A double."""
    return bytes((tag,)) + _DOUBLE.pack(value)


def fixed_field(tag: int, value: int) -> bytes:
    """A fixed64."""
    return bytes((tag,)) + _FIXED.pack(value)


def doubles_field(tag: int, values: Sequence[float]) -> bytes:
    """Packed doubles; none are no field."""
    return field(tag, struct.pack(f"<{len(values)}d", *values)) if values else b""


def key_value(key: str, value: str) -> bytes:
    """A KeyValue with a text: fields 1 and 2; AnyValue.string_value is field 1."""
    encoded = value.encode()
    return field(0x0A, key.encode()) + field(0x12, field(0x0A, encoded))


def attributes(tag: int, pairs: Iterable[tuple[str, str]]) -> bytes:
    """Attributes, one field each."""
    return b"".join(field(tag, key_value(key, value)) for key, value in pairs)
