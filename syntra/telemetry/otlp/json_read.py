"""Usual traces requests of OTLP/JSON, read but not encoded: spans that sampling leaves out are never encoded. Pure.

Their fields are checked as far as an encoder of usual requests checks them, except for attributes, events and links.
If these cannot be encoded, the general decoder says why.
"""

from __future__ import annotations

from binascii import unhexlify
from typing import Any

from syntra.telemetry.otlp import json_structs
from syntra.telemetry.otlp.json_structs import NOTHING, Span
from syntra.telemetry.otlp.json_usual import ODD, Usual, check_utf8, text_field
from syntra.telemetry.read_requests import NotEncodable, ReadResource, ReadScope, ReadTraces
from syntra.telemetry.varint import varint

LARGEST_BYTES = 1 << 20
"""The longest request that is read at once."""

_MEMORY_FACTOR = 8
_GROUP_BYTES = 600
"""The most memory of a resource or a scope beside its spans."""

_IDS_BYTES = 24
_NO_SPAN = bytes(8)
_ESCAPE = b"\\u"


def memory_of_structs(body: bytes) -> int:
    """The most bytes that `read` and the encoding need. Every resource and scope has one of these keys."""
    return _MEMORY_FACTOR * len(body) + _GROUP_BYTES * (body.count(b'"scopeSpans"') + body.count(b'"spans"'))


def read(body: bytes, usual: Usual, decode: Any) -> ReadTraces | None:
    """Read a request; None if it is not a usual one. `decode` is the general decoder, for errors."""
    try:
        # Text with escapes can hide keys and half surrogate pairs.
        if _ESCAPE in body:
            return None
        check_utf8(body)
        resources = [_Resource(group, usual) for group in json_structs.read_full_traces(body).resources]
    except ODD:
        return None
    return _Traces(resources, body, usual, decode)


class _Scope(ReadScope):
    """A scope with its other fields."""

    __slots__ = ("scope", "url")

    def __init__(self, given: json_structs.ScopeSpans, usual: Usual) -> None:
        """Raises one of `ODD` if it is not a usual one."""
        self.scope = usual.scope(given.scope)
        self.url = text_field(b"\x1a", given.schema_url)
        spans = given.records
        super().__init__(spans, _trace_ids(spans), [])
        for index, span in enumerate(spans):
            if span.events is not NOTHING and bytes(span.events) != b"[]":
                self.with_events.append((index, usual.record(span)))


class _Resource(ReadResource):
    """A resource with its other fields."""

    __slots__ = ("url",)

    def __init__(self, given: json_structs.ResourceSpans, usual: Usual) -> None:
        """Raises one of `ODD` if it is not a usual one."""
        field = usual.resource(given.resource)
        super().__init__([_content(field)] if field else [], [_Scope(scope, usual) for scope in given.scopes])
        self.url = text_field(b"\x1a", given.schema_url)


class _Traces(ReadTraces):
    """A request that was read."""

    def __init__(self, resources: list[_Resource], body: bytes, usual: Usual, decode: Any) -> None:
        super().__init__(list(resources), len(body))
        self._resources = resources
        self._body = body
        self._usual = usual
        self._decode = decode

    def encode_spans(self) -> None:
        """See `ReadTraces.encode_spans`."""
        for resource in self.resources:
            for scope in resource.scopes:
                self._encode(scope)

    def _encode(self, scope: ReadScope) -> bytes:
        if scope.encoded is None:
            try:
                scope.encoded = self._usual.encoded(scope.items)
            except ODD as error:
                raise NotEncodable from error
        return scope.encoded

    def encode(self, *, without_empty: bool) -> bytes:
        """See `ReadTraces.encode`."""
        out: list[bytes] = []
        for resource in self._resources:
            parts: list[bytes] = []
            for content in resource.resource:
                parts += (b"\x0a", varint(len(content)), content)
            scopes = [scope for scope in resource.scopes if scope.items or not without_empty]
            if without_empty and not scopes:
                continue
            for scope in scopes:
                assert isinstance(scope, _Scope), "made here"
                content = b"".join((scope.scope, self._encode(scope), scope.url))
                parts += (b"\x12", varint(len(content)), content)
            parts.append(resource.url)
            content = b"".join(parts)
            out += (b"\x0a", varint(len(content)), content)
        return b"".join(out)

    def decode(self) -> bytes:
        """See `ReadTraces.decode`."""
        decoded: bytes = self._decode(self._body)
        return decoded


def _trace_ids(spans: list[Span]) -> list[bytes]:
    """The trace ids. Raises ValueError if a span is not one that `ReadScope` has."""
    for span in spans:
        if not (0 < span.start_time_unix_nano < 1 << 64 and 0 <= span.end_time_unix_nano < 1 << 64) or span.trace_state:
            raise ValueError("an unusual span")
        if (parent := span.parent_span_id) and (len(parent) != 16 or not parent.isalnum()):
            raise ValueError("an unusual parent")
    unhexlify("".join([span.parent_span_id for span in spans]))
    ids = unhexlify("".join([f"{span.trace_id}{span.span_id}" for span in spans]))
    if len(ids) != _IDS_BYTES * len(spans) or _NO_SPAN in ids:
        raise ValueError("an unusual id")
    return [ids[at : at + 16] for at in range(0, len(ids), _IDS_BYTES)]


def _content(field: bytes) -> bytes:
    """The content of a field whose tag is one byte."""
    at = 1
    while field[at] > 127:
        at += 1
    return field[at + 1 :]
