"""Large requests in pieces, so that decoding one never needs many times its size at once. Pure.

A decoded message takes up to fifty times the memory of its encoding: two bytes are an empty span or attribute. A
request above `PIECE_BYTES` is cut between items into requests of about that size, which have the resource and the scope
of the items that they hold. Traces, logs and metrics have the same field numbers at these levels: 1 for the resources
of a request, 1 and 2 for the resource and its scopes, 1 and 2 for the scope and its items.
"""

from __future__ import annotations

from collections.abc import Iterator

from syntra.telemetry.intake import BadData
from syntra.utils.frozen import frozen

PIECE_BYTES = 1 << 20
MAX_ITEM_BYTES = 2 << 20
"""Items above this are rejected, and requests with a resource or scope above it are refused."""

_RESOURCES = 0x0A
_PARTS = 0x12
_TINY_BYTES = 10
_MAX_TINY = 50_000
"""So many fields too small to be an item make a request that only costs memory and time."""


@frozen
class Piece:
    """A request with some of the items, and how many were left out since the piece before."""

    data: bytes
    oversized: int


def pieces(request: bytes) -> Iterator[Piece]:
    """Cut a request into pieces. Raises BadData where it is not valid protobuf at these levels."""
    cutter, reader = _Cutter(), _Reader(request)
    for tag, _, body, end in reader.fields(0, len(request)):
        if tag != _RESOURCES:
            continue
        cutter.resource = reader.others(body, end)
        for part, _, scope, scope_end in reader.fields(body, end):
            if part != _PARTS:
                continue
            cutter.scope = reader.others(scope, scope_end)
            for item, start, item_body, item_end in reader.fields(scope, scope_end):
                if item != _PARTS:
                    continue
                if cutter.size and cutter.size + item_end - start > PIECE_BYTES:
                    yield cutter.cut()
                cutter.add(request, start, item_body, item_end)
            cutter.end_scope()
        cutter.end_resource()
    yield cutter.cut()


class _Cutter:
    """Collects items until a piece is full."""

    def __init__(self) -> None:
        self.resource = self.scope = b""
        self.size = 0
        self._items: list[bytes] = []
        self._scopes: list[bytes] = []
        self._resources: list[bytes] = []
        self._oversized = 0

    def add(self, request: bytes, start: int, body: int, end: int) -> None:
        """Take an item."""
        if end - body > MAX_ITEM_BYTES:
            self._oversized += 1
            return
        self._items.append(request[start:end])
        self.size += end - start

    def end_scope(self) -> None:
        """The items so far are those of this scope."""
        if self._items:
            self._scopes.append(_field(_PARTS, self.scope + b"".join(self._items)))
            self.size += len(self.scope)
            self._items = []

    def end_resource(self) -> None:
        """The scopes so far are those of this resource."""
        if self._scopes:
            self._resources.append(_field(_RESOURCES, self.resource + b"".join(self._scopes)))
            self.size += len(self.resource)
            self._scopes = []

    def cut(self) -> Piece:
        """The piece so far; the next one begins with the same resource and scope."""
        self.end_scope()
        self.end_resource()
        piece = Piece(data=b"".join(self._resources), oversized=self._oversized)
        self._resources = []
        self.size = self._oversized = 0
        return piece


class _Reader:
    """Reads the fields of the messages in a request."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._tiny = 0

    def others(self, at: int, end: int) -> bytes:
        """The fields of a resource or a scope without its parts."""
        found = [self._data[start:stop] for tag, start, _, stop in self.fields(at, end) if tag != _PARTS]
        if sum(map(len, found)) > MAX_ITEM_BYTES:
            raise BadData(f"cannot accept the request: a resource or scope has more than {MAX_ITEM_BYTES} bytes")
        return b"".join(found)

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Tag, start, start of the content and end of each field of a message."""
        data = self._data
        while at < end:
            start = at
            tag, at = _varint(data, at, end)
            kind = tag & 7
            if kind == 2:
                size, at = _varint(data, at, end)
                body, at = at, at + size
            elif kind == 0:
                body = at
                _, at = _varint(data, at, end)
            elif kind in {1, 5}:
                body, at = at, at + (8 if kind == 1 else 4)
            else:
                raise BadData("cannot decode the request: it has a field of an unknown kind")
            if at > end:
                raise BadData("cannot decode the request: it is not complete")
            if at - start < _TINY_BYTES:
                self._tiny += 1
                if self._tiny > _MAX_TINY:
                    raise BadData(f"cannot accept the request: more than {_MAX_TINY} of its items are empty")
            yield tag, start, body, at


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A number of up to ten bytes, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise BadData("cannot decode the request: it is not complete")
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
    raise BadData("cannot decode the request: a number has more than ten bytes")


def _field(tag: int, body: bytes) -> bytes:
    """A field with its tag and length."""
    size, head = len(body), bytearray((tag,))
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head) + body
