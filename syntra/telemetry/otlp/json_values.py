"""Attributes of OTLP/JSON as protobuf wire bytes: KeyValue and AnyValue, which most of a request consists of. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from syntra.telemetry.intake import BadData
from syntra.telemetry.otlp import json_scalars as scalars
from syntra.telemetry.otlp.json_scalars import wrong
from syntra.telemetry.varint import SHORT_VARINTS, varint

MAX_VALUE_DEPTH = 32
"""The most lists and maps inside each other in one attribute. upb gives up at 100 messages, two for each level."""

_REMEMBERED = 1024
_REMEMBERED_BYTES = 160

_DOUBLE = struct.Struct("<d").pack
_INT64 = scalars.whole(-(1 << 63), (1 << 63) - 1)
_INT32 = scalars.whole(-(1 << 31), (1 << 31) - 1)


@cache
def attributes(tag: bytes) -> Callable[[Any], bytes]:
    """Make the encoder of a repeated field of KeyValue with that tag; fields with the same tag share one.

    It remembers encoded attributes, because few attributes of a service change from one span to the next: at most 1024
    texts and 1024 others of at most 160 bytes, all forgotten when there are more. The type is part of the key, because
    a dictionary holds 1 and True as one key. Fractions are not remembered: they rarely repeat, and 0.0 is also -0.0.
    """
    texts: dict[tuple[str, str], bytes] = {}
    others: dict[tuple[type, str, str, object], bytes] = {}
    starts: dict[str, bytes] = {}
    """The key of an attribute as a field, with the tag of the value behind it."""

    def encode(items: Any) -> bytes:
        if type(items) is not list:
            raise wrong("an array", items)
        out: list[bytes] = []
        add = out.append
        try:
            for item in items:
                key, content = item["key"], item["value"]
                if len(item) != 2 or len(content) != 1:
                    return _attributes(items, tag, 0)
                text = content.get("stringValue")
                if type(text) is str:
                    field = texts.get((key, text))
                    if field is None:
                        start = starts.get(key) or _start(starts, key)
                        raw = text.encode()
                        size = len(raw)
                        inner = b"\x0a" + (SHORT_VARINTS[size] if size < 16384 else varint(size)) + raw
                        field = _with_size(tag, _with_size(start, inner))
                        if len(field) <= _REMEMBERED_BYTES:
                            if len(texts) >= _REMEMBERED:
                                texts.clear()
                            texts[key, text] = field
                    add(field)
                    continue
                ((kind, value),) = content.items()
                form = type(value)
                if form is float and kind == "doubleValue":
                    start = starts.get(key) or _start(starts, key)
                    add(_with_size(tag, b"%b\x09\x21%b" % (start, _DOUBLE(value))))
                    continue
                if form is dict or form is float:
                    add(_with_size(tag, _key_value(item, 0)))
                    continue
                field = others.get((form, key, kind, value))
                if field is None:
                    field = _with_size(tag, _key_value(item, 0))
                    if len(field) <= _REMEMBERED_BYTES:
                        if len(others) >= _REMEMBERED:
                            others.clear()
                        others[form, key, kind, value] = field
                add(field)
        except (BadData, KeyError, TypeError, ValueError, AttributeError):
            return _attributes(items, tag, 0)
        return b"".join(out)

    return encode


def _start(starts: dict[str, bytes], key: str) -> bytes:
    start = b"\x0a" + scalars.text(key) + b"\x12"
    if len(starts) >= _REMEMBERED:
        starts.clear()
    if len(start) <= _REMEMBERED_BYTES:
        starts[key] = start
    return start


def _with_size(tag: bytes, body: bytes) -> bytes:
    size = len(body)
    return tag + (SHORT_VARINTS[size] if size < 16384 else varint(size)) + body


def _attributes(items: Any, tag: bytes, depth: int) -> bytes:
    """Encode any list of KeyValue, or say where it is wrong."""
    if type(items) is not list:
        raise wrong("an array", items)
    out = []
    index = 0
    try:
        for index, item in enumerate(items):  # noqa: B007 - the index is for the error
            out.append(_with_size(tag, _key_value(item, depth)))
    except BadData as exc:
        raise inside(f"[{index}]", exc) from None
    return b"".join(out)


def _key_value(item: Any, depth: int) -> bytes:
    if item is None:
        return b""
    if type(item) is not dict:
        raise wrong("an object with key and value", item)
    out = b""
    name = ""
    try:
        for name, field in item.items():
            if field is None:
                continue
            if name == "key":
                out += b"\x0a" + scalars.text(field)
            elif name == "value":
                out += _with_size(b"\x12", any_value(field, depth))
            elif name == "keyStrindex" or name == "key_strindex":
                out += b"\x18" + _INT32(field)
    except BadData as exc:
        raise inside("." + name, exc) from None
    return out


def any_value(value: Any, depth: int = 0) -> bytes:
    """Encode an AnyValue, without tag and length.

    The Syntra SDK for Python writes booleans as `{"int_value": true}`: they become booleans.
    """
    if value is None:
        return b""
    if type(value) is not dict:
        raise wrong('an object such as {"stringValue": …}', value)
    out = b""
    name = ""
    try:
        for name, field in value.items():
            if field is None:
                continue
            encoder = _VALUES.get(name)
            if encoder is not None:
                out += encoder(field)
            elif name in _NESTED:
                out += _nested(name, field, depth)
    except BadData as exc:
        raise inside("." + name, exc) from None
    return out


def _integer(value: Any) -> bytes:
    if type(value) is int and 0 <= value < 16384:
        return b"\x18" + SHORT_VARINTS[value]
    if type(value) is bool:
        return b"\x10" + scalars.boolean(value)
    return b"\x18" + _INT64(value)


_VALUES: dict[str, Callable[[Any], bytes]] = {
    "stringValue": lambda value: b"\x0a" + scalars.text(value),
    "boolValue": lambda value: b"\x10" + scalars.boolean(value),
    "intValue": _integer,
    "doubleValue": lambda value: b"\x21" + scalars.double(value),
    "bytesValue": lambda value: b"\x3a" + scalars.data(value),
    "stringValueStrindex": lambda value: b"\x40" + _INT32(value),
}
_VALUES |= {
    "string_value": _VALUES["stringValue"],
    "bool_value": _VALUES["boolValue"],
    "int_value": _VALUES["intValue"],
    "double_value": _VALUES["doubleValue"],
    "bytes_value": _VALUES["bytesValue"],
    "string_value_strindex": _VALUES["stringValueStrindex"],
}
_NESTED = frozenset({"arrayValue", "array_value", "kvlistValue", "kvlist_value"})


def _nested(name: str, value: Any, depth: int) -> bytes:
    if depth >= MAX_VALUE_DEPTH:
        raise BadData(f"more than {MAX_VALUE_DEPTH} lists and maps inside each other")
    if type(value) is not dict:
        raise wrong("an object with values", value)
    is_list = name.startswith("array")
    values = value.get("values")
    body = b""
    if values is not None:
        try:
            body = _values(values, depth + 1) if is_list else _attributes(values, b"\x0a", depth + 1)
        except BadData as exc:
            raise inside(".values", exc) from None
    return _with_size(b"\x2a" if is_list else b"\x32", body)


def _values(items: Any, depth: int) -> bytes:
    if type(items) is not list:
        raise wrong("an array", items)
    out = []
    for index, item in enumerate(items):
        try:
            body = any_value(item, depth)
        except BadData as exc:
            raise inside(f"[{index}]", exc) from None
        out.append(_with_size(b"\x0a", body))
    return b"".join(out)


def inside(place: str, exc: BadData) -> BadData:
    """Add a step of the path, `.name` or `[index]`, in front of the place of an error."""
    return BadData(str(exc), place + exc.field)
