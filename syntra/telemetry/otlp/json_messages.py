"""Encoders of OTLP/JSON objects as protobuf wire bytes, made from the descriptors of the messages. Pure.

An encoder of a field takes the value of its key and returns the whole field, tag included. Both spellings of a key have
the same encoder: lowerCamelCase, which the specification asks for, and snake_case, which the Syntra SDKs send.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from syntra.telemetry.intake import BadData
from syntra.telemetry.otlp import json_records
from syntra.telemetry.otlp import json_scalars as scalars
from syntra.telemetry.otlp import json_values as values
from syntra.telemetry.otlp.json_scalars import wrong
from syntra.telemetry.varint import SHORT_VARINTS, varint

Encoder = Callable[[Any], bytes]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_HEX_FIELDS = frozenset({"trace_id", "span_id", "parent_span_id"})

_SCALARS: dict[int, tuple[int, Encoder]] = {
    FieldDescriptor.TYPE_STRING: (_BYTES, scalars.text),
    FieldDescriptor.TYPE_BYTES: (_BYTES, scalars.data),
    FieldDescriptor.TYPE_BOOL: (_VARINT, scalars.boolean),
    FieldDescriptor.TYPE_DOUBLE: (_FIXED64, scalars.double),
    FieldDescriptor.TYPE_INT32: (_VARINT, scalars.whole(-(1 << 31), (1 << 31) - 1)),
    FieldDescriptor.TYPE_INT64: (_VARINT, scalars.whole(-(1 << 63), (1 << 63) - 1)),
    FieldDescriptor.TYPE_UINT32: (_VARINT, scalars.whole(0, (1 << 32) - 1)),
    FieldDescriptor.TYPE_UINT64: (_VARINT, scalars.whole(0, (1 << 64) - 1)),
    FieldDescriptor.TYPE_SINT32: (_VARINT, scalars.whole(-(1 << 31), (1 << 31) - 1, zigzag=True)),
    FieldDescriptor.TYPE_FIXED32: (_FIXED32, scalars.fixed(0, (1 << 32) - 1, 4)),
    FieldDescriptor.TYPE_FIXED64: (_FIXED64, scalars.fixed(0, (1 << 64) - 1, 8)),
    FieldDescriptor.TYPE_SFIXED64: (_FIXED64, scalars.fixed(-(1 << 63), (1 << 63) - 1, 8)),
}
"""Wire type and encoder of each scalar type that OTLP has."""

_MANY = {FieldDescriptor.TYPE_FIXED64: scalars.many("Q"), FieldDescriptor.TYPE_DOUBLE: scalars.many("d")}
"""Encoders of whole lists: buckets of histograms and their bounds."""

_HAND_WRITTEN = {
    "opentelemetry.proto.logs.v1.LogRecord": json_records.log_record,
    "opentelemetry.proto.trace.v1.Span": json_records.span,
}
"""Encoders of the most frequent messages: the same as the general one, several times as fast."""


class Spliced(list[Any]):
    """A list of messages in which an element of bytes is any number of them, encoded already, tags included."""


def message(descriptor: Descriptor) -> Encoder:
    """Make the encoder of a message's content, without tag and length. Unknown keys and null are left out.

    Fields come out in the order of their numbers, as every encoder of protobuf writes them: the pipeline finds events
    and ids at their usual places.

    Raises BadData with the place inside the message, each step with its separator: `.spans[3].name`.
    """
    fields: dict[str, Encoder] = {}
    numbered: dict[str, tuple[int, Encoder]] = {}
    for each in descriptor.fields:
        fields[each.json_name] = fields[each.name] = field(each)
        numbered[each.json_name] = numbered[each.name] = each.number, fields[each.name]
    get = numbered.get

    def encode(value: Any) -> bytes:
        if type(value) is not dict:
            raise wrong("an object", value)
        out: list[tuple[int, bytes]] = []
        last = 0
        is_ordered = True
        key = ""
        try:
            for key, item in value.items():
                if item is not None and (found := get(key)) is not None:
                    number, encoder = found
                    is_ordered = is_ordered and number > last
                    last = number
                    out.append((number, encoder(item)))
        except BadData as exc:
            raise values.inside("." + key, exc) from None
        if not is_ordered:
            out.sort(key=_number)
        return b"".join([encoded for _, encoded in out])

    hand_written = _HAND_WRITTEN.get(descriptor.full_name)
    return encode if hand_written is None else hand_written(fields, encode)


def _number(numbered: tuple[int, bytes]) -> int:
    return numbered[0]


def field(descriptor: FieldDescriptor) -> Encoder:
    """Make the encoder of a field, tag included. A repeated message may be given as a Spliced list too."""
    content = descriptor.message_type
    tag = varint(descriptor.number << 3 | _BYTES)
    if content is not None and content.name == "KeyValue":
        return values.attributes(tag)
    if content is not None:
        encoder = values.any_value if content.name == "AnyValue" else message(content)
        return _repeated(tag, encoder) if descriptor.is_repeated else _nested(tag, encoder)
    wire, scalar = _scalar(descriptor)
    if not descriptor.is_repeated:
        return _plain(varint(descriptor.number << 3 | wire), scalar)
    if wire == _BYTES:
        return _list(tag, scalar)
    return _packed(tag, scalar, _MANY.get(descriptor.type))


def _scalar(field: FieldDescriptor) -> tuple[int, Encoder]:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _VARINT, _enum(field.enum_type)
    if field.type == FieldDescriptor.TYPE_BYTES and field.name in _HEX_FIELDS:
        return _BYTES, scalars.hex_id
    if field.name == "profile_id":
        return _BYTES, scalars.profile_id
    return _SCALARS[field.type]


def _enum(kind: EnumDescriptor | None) -> Encoder:
    if kind is None:
        raise TypeError("an enum field without an enum")
    return scalars.enumeration(kind.name, {value.name: value.number for value in kind.values})


def _plain(tag: bytes, scalar: Encoder) -> Encoder:
    return lambda value: tag + scalar(value)


def _nested(tag: bytes, encoder: Encoder) -> Encoder:
    def encode(value: Any) -> bytes:
        body = encoder(value)
        return tag + varint(len(body)) + body

    return encode


def _repeated(tag: bytes, encoder: Encoder) -> Encoder:
    """Messages, each with its tag and length. null in the list is an empty message."""

    def encode(items: Any) -> bytes:
        if type(items) is not list:
            if type(items) is Spliced:
                return b"".join([item if type(item) is bytes else encode([item]) for item in items])
            raise wrong("an array", items)
        out: list[bytes] = []
        index = 0
        try:
            for index, item in enumerate(items):  # noqa: B007 - the index is for the error
                body = encoder(item) if item is not None else b""
                size = len(body)
                out += (tag, SHORT_VARINTS[size] if size < 16384 else varint(size), body)
        except BadData as exc:
            raise values.inside(f"[{index}]", exc) from None
        return b"".join(out)

    return encode


def _elements(items: Any, prefix: bytes, scalar: Encoder) -> bytes:
    if type(items) is not list:
        raise wrong("an array", items)
    out = []
    index = 0
    try:
        for index, item in enumerate(items):  # noqa: B007 - the index is for the error
            out.append(prefix + scalar(item))
    except BadData as exc:
        raise values.inside(f"[{index}]", exc) from None
    return b"".join(out)


def _list(tag: bytes, scalar: Encoder) -> Encoder:
    return lambda items: _elements(items, tag, scalar)


def _packed(tag: bytes, scalar: Encoder, many: Callable[[list[Any]], bytes | None] | None) -> Encoder:
    def encode(items: Any) -> bytes:
        body = many(items) if many is not None and type(items) is list else None
        if body is None:
            body = _elements(items, b"", scalar)
        return tag + varint(len(body)) + body

    return encode
