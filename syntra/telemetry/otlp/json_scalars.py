"""Scalars of OTLP/JSON as protobuf wire bytes: numbers, text, ids. Pure.

Each function takes a value as orjson parsed it and returns the bytes of the value, without a tag. They raise BadData
with what was expected; the caller adds the place. Rules: the JSON mapping of proto3, and the JSON section of the OTLP
specification for ids.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from syntra.telemetry.intake import BadData
from syntra.telemetry.varint import varint

_DOUBLE = struct.Struct("<d").pack
_FLOATS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_SHOWN_CHARS = 40


def wrong(expected: str, value: object) -> BadData:
    """Make the error for a value of the wrong type or range."""
    if isinstance(value, dict):
        got = "an object"
    elif isinstance(value, list):
        got = "an array"
    elif value is None or isinstance(value, bool):
        got = str(orjson.dumps(value), "ascii")
    else:
        got = repr(value)
        if len(got) > _SHOWN_CHARS:
            got = got[:_SHOWN_CHARS] + "…"
    return BadData(f"expected {expected}, got {got}")


def integer(value: Any, low: int, high: int, expected: str) -> int:
    """Read an integer: a number, a number with an empty fraction, or either as text. Booleans are no numbers."""
    if type(value) is str:
        number = _integer_of_text(value)
    elif type(value) is int:
        number = value
    elif type(value) is float and value.is_integer():
        number = int(value)
    else:
        number = None
    if number is None or not low <= number <= high:
        raise wrong(expected, value)
    return number


def _integer_of_text(text: str) -> int | None:
    digits = text[1:] if text[:1] == "-" else text
    if digits.isdecimal() and len(digits) < 32:
        return int(text)
    try:
        number = float(text) if text.isascii() and "_" not in text and text.strip() == text else 0.5
    except ValueError:
        return None
    return int(number) if number.is_integer() and abs(number) < 1 << 53 else None


def text(value: Any) -> bytes:
    """Encode text."""
    if type(value) is not str:
        raise wrong("text", value)
    raw: bytes = value.encode()
    return varint(len(raw)) + raw


def boolean(value: Any) -> bytes:
    """Encode true or false."""
    if value is True:
        return b"\1"
    if value is False:
        return b"\0"
    raise wrong("true or false", value)


def double(value: Any) -> bytes:
    """Encode a double: a number, or text: a number, NaN, Infinity or -Infinity."""
    kind = type(value)
    if kind is float or kind is int:
        return _DOUBLE(value)
    if kind is str:
        if value in _FLOATS:
            return _DOUBLE(_FLOATS[value])
        try:
            number = float(value) if value[-1:].isdigit() or value[-1:] == "." else None
        except ValueError:
            number = None
        if number is not None and abs(number) != float("inf"):
            return _DOUBLE(number)
    raise wrong("a number, NaN, Infinity or -Infinity", value)


def hex_id(value: Any) -> bytes:
    """Encode an id, which OTLP/JSON writes in hexadecimal digits. The length is checked with the record, not here."""
    try:
        raw = binascii.unhexlify(value)
    except (TypeError, ValueError):
        raise wrong("an id in hexadecimal digits", value) from None
    return varint(len(raw)) + raw


def profile_id(value: Any) -> bytes:
    """Encode a profile's id: 32 hexadecimal digits, as the Collector writes it, or base64."""
    if type(value) is str and len(value) == 32:
        return hex_id(value)
    return data(value)


def data(value: Any) -> bytes:
    """Encode bytes, which JSON has in base64, with either alphabet and with or without padding."""
    if type(value) is not str:
        raise wrong("base64", value)
    plain = value.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        raw = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        raise wrong("base64", value) from None
    return varint(len(raw)) + raw


def whole(low: int, high: int, *, zigzag: bool = False) -> Callable[[Any], bytes]:
    """Make the encoder of a varint from `low` to `high`. A negative number without zigzag takes ten bytes."""
    expected = f"an integer from {low} to {high}"

    def encode(value: Any) -> bytes:
        number = integer(value, low, high, expected)
        if zigzag:
            return varint(number << 1 if number >= 0 else (-number << 1) - 1)
        return varint(number if number >= 0 else number + (1 << 64))

    return encode


def fixed(low: int, high: int, size: int) -> Callable[[Any], bytes]:
    """Make the encoder of a fixed integer of `size` bytes from `low` to `high`."""
    expected = f"an integer from {low} to {high}"

    def encode(value: Any) -> bytes:
        return integer(value, low, high, expected).to_bytes(size, "little", signed=low < 0)

    return encode


def many(code: str) -> Callable[[list[Any]], bytes | None]:
    """Make the encoder of a whole list of fixed numbers, `Q` or `d` of struct; it has None for anything unusual."""
    plain = {int} if code == "Q" else {int, float}

    def encode(items: list[Any]) -> bytes | None:
        kinds = set(map(type, items))
        numbers: Iterable[Any] = items
        if kinds == {str} and code == "Q" and "".join(items).isdecimal():
            numbers = map(int, items)
        elif not kinds <= plain:
            return None
        try:
            return struct.pack(f"<{len(items)}{code}", *numbers)
        except (struct.error, ValueError, OverflowError):
            return None

    return encode


def enumeration(name: str, numbers: Mapping[str, int]) -> Callable[[Any], bytes]:
    """Make the encoder of an enum: its number, known or not, or one of its names."""
    expected = f"a number of {name}"

    def encode(value: Any) -> bytes:
        if type(value) is str and value in numbers:
            return varint(numbers[value])
        number = integer(value, -(1 << 31), (1 << 31) - 1, expected)
        return varint(number if number >= 0 else number + (1 << 64))

    return encode
