"""Walks over an encoded OTLP request without decoding its items. Pure.

Decoded messages can need a hundred times the memory of their bytes. So a request is first divided at the levels that
traces, metrics and logs share: resource, scope, items. The items are decoded in groups of limited size.
"""

from __future__ import annotations

from collections.abc import Iterator

from syntra.model.errors import InvalidField
from syntra.utils.frozen import frozen

MOST_NODES = 100_000
"""The most resources, scopes and items in one request, counted together with other fields beside them."""
MOST_ITEM_BYTES = 1024 * 1024
"""A larger item is stored and not decoded."""
MOST_RESOURCE_BYTES = 256 * 1024

_GROUP_ITEMS = 256
_LENGTH_DELIMITED = 2


@frozen
class Part:
    """The items of one scope of one resource, all still encoded."""

    resource: bytes
    scope: bytes
    items: tuple[memoryview, ...]


def parts(request: bytes) -> Iterator[Part]:
    """Divide an Export…ServiceRequest for traces, metrics or logs. Raises InvalidField when it is not one.

    The three have the same field numbers: resources are field 1 of the request; in them 1 is the resource and 2 the
    scopes; in these 1 is the scope and 2 the items. Unknown fields and schema URLs are skipped.
    """
    left = _Left()
    for number, outer in _fields(memoryview(request), left):
        if number != 1:
            continue
        resource = b""
        scopes: list[memoryview] = []
        for inner_number, inner in _fields(outer, left):
            if inner_number == 1:
                resource = _merged(resource, inner)
            elif inner_number == 2:
                scopes.append(inner)
        for encoded in scopes:
            scope = b""
            items: list[memoryview] = []
            for inner_number, inner in _fields(encoded, left):
                if inner_number == 1:
                    scope = _merged(scope, inner)
                elif inner_number == 2:
                    items.append(inner)
            yield Part(resource=resource, scope=scope, items=tuple(items))


def groups(part: Part) -> Iterator[bytes]:
    """The part as small requests, each with its resource and scope and with items of at most 1 MiB together."""
    items: list[memoryview] = []
    size = 0
    for item in part.items:
        if len(item) > MOST_ITEM_BYTES:
            continue
        if items and (len(items) == _GROUP_ITEMS or size + len(item) > MOST_ITEM_BYTES):
            yield _request(part, items)
            items, size = [], 0
        items.append(item)
        size += len(item)
    if items:
        yield _request(part, items)


class _Left:
    """How many more fields may follow in a request."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields = MOST_NODES


def _merged(message: bytes, again: memoryview) -> bytes:
    """A message that occurs twice is merged, which concatenation does (protobuf's encoding guide)."""
    if len(message) + len(again) > MOST_RESOURCE_BYTES:
        raise InvalidField("data", f"has a resource or scope of more than {MOST_RESOURCE_BYTES} bytes")
    return message + bytes(again)


def _request(part: Part, items: list[memoryview]) -> bytes:
    scope = _field(1, part.scope) + b"".join([_field(2, item) for item in items])
    return _field(1, _field(1, part.resource) + _field(2, scope))


def _field(number: int, value: bytes | memoryview) -> bytes:
    head = bytearray((number << 3 | _LENGTH_DELIMITED,))
    left = len(value)
    while left > 0x7F:
        head.append(left & 0x7F | 0x80)
        left >>= 7
    head.append(left)
    return b"".join((head, value))


def _fields(message: memoryview, left: _Left) -> Iterator[tuple[int, memoryview]]:
    """Number and value of each length-delimited field; others are skipped. All of them count."""
    at, end = 0, len(message)
    while at < end:
        left.fields -= 1
        if left.fields < 0:
            raise InvalidField("data", f"has more than {MOST_NODES} resources, scopes and items")
        # Nearly all keys and many lengths are one byte.
        key = message[at]
        at += 1
        if key > 0x7F:
            key, at = _varint(message, at - 1)
        kind = key & 7
        if kind == _LENGTH_DELIMITED:
            size, at = _varint(message, at)
            if at + size > end:
                raise _malformed()
            yield key >> 3, message[at : at + size]
            at += size
        elif kind == 0:
            _, at = _varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise _malformed()
    if at > end:
        raise _malformed()


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _malformed()


def _malformed() -> InvalidField:
    return InvalidField("data", "is not an OTLP request")
