"""The fields of encoded spans that the pipeline reads, as columns over all spans of a scope. Pure.

Encoders write fields in the order of their numbers, so the ids, the name, the kind and the times of a span are at
offsets that follow from two length bytes. `usual_columns` reads them with `struct`, one C call for many fields.
Whatever does not look like that goes to `any_columns`, which lets protobuf decode each span. Where both give a result
it is the same.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from syntra.telemetry.intake import BadData
from syntra.telemetry.processing.outlines import SpanOutline

NO_TRACE = bytes(16)
NO_SPAN = bytes(8)

_IDS_LENGTH = 28
_IDS = struct.Struct(">H16sH8sH8xH").unpack_from
"""Tag and length of the trace id, the id, the same of the span id; then two bytes at 28, and two at 38."""
_TIMES = struct.Struct("<HBQBQ").unpack_from
"""Tag and value of the kind in one number, tag and value of the start, tag and value of the end."""
_TRACE_ID = 0x0A10
_SPAN_ID = 0x1208
_PARENT = 0x2208
_NAME = 0x2A00
_KIND, _START, _END = 0x30, 0x39, 0x41
_FURTHEST = 157
"""Where the kind is at most; beyond that, the name's length does not fit into one byte."""

_STATUS_ERROR = b"\x18\x02"
"""The end of an encoded status with the code ERROR, which follows an optional message."""
_STATUS_ERROR_FLAGS = _STATUS_ERROR + b"\x85\x01"
"""The same before the span's flags."""

_FIELDS = attrgetter("trace_id", "span_id", "trace_state", "name", "kind", "start", "end", "status")
_KIND_SUFFIXES = tuple(bytes((_KIND, kind)) for kind in range(6))


class Columns:
    """One entry for each span of a scope. Plain attributes, for the loops that read them."""

    __slots__ = ("ends", "errors", "keys", "messages", "span_ids", "starts", "states", "trace_ids")

    def __init__(
        self,
        trace_ids: Sequence[bytes],
        span_ids: Sequence[bytes],
        keys: Sequence[bytes],
        starts: Sequence[int],
        ends: Sequence[int],
    ) -> None:
        self.trace_ids = trace_ids
        self.span_ids = span_ids
        self.keys = keys
        """The name followed by the encoded kind: `span_key`."""
        self.starts = starts
        self.ends = ends
        self.states: Sequence[bytes] | None = None
        """The tracestates; None if no span has one."""
        self.errors: list[int] = []
        """Which spans have the status ERROR."""
        self.messages: list[Any] | None = None
        """The outlines of the spans, if protobuf decoded them."""

    def stamped(self, raw: bytes, index: int, state: bytes) -> bytes:
        """A span with this tracestate, encoded."""
        if self.messages is not None:
            message = self.messages[index]
            message.trace_state = state
            return bytes(message.SerializeToString())
        # Field 3 follows the ids. A tracestate of our own is short enough for one length byte.
        return raw[:_IDS_LENGTH] + b"\x1a" + bytes((len(state),)) + state + raw[_IDS_LENGTH:]


def span_key(name: bytes, kind: int) -> bytes:
    """A span's name and kind as one string of bytes; kinds that do not exist count as unspecified."""
    return name + _KIND_SUFFIXES[kind if 0 <= kind < len(_KIND_SUFFIXES) else 0]


def columns(raws: Sequence[bytes]) -> Columns:
    """Read the spans. Raises BadData if one cannot be decoded."""
    found = usual_columns(raws)
    return any_columns(raws) if found is None else found


def usual_columns(raws: Sequence[bytes]) -> Columns | None:
    """Read spans with fields in their usual order and no tracestate; None if one is different."""
    try:
        trace_tags, trace_ids, span_tags, span_ids, firsts, seconds = zip(*map(_IDS, raws), strict=True)
        if {*trace_tags} != {_TRACE_ID} or {*span_tags} != {_SPAN_ID}:
            return None
        # A valid tag and length differ from the name's tag by the length alone; anything else becomes a large number.
        offsets = [
            (first ^ _NAME) + 30 if first != _PARENT else (second ^ _NAME) + 40
            for first, second in zip(firsts, seconds, strict=True)
        ]
        if max(offsets) > _FURTHEST:
            return None
        kinds, start_tags, starts, end_tags, ends = zip(*map(_TIMES, raws, offsets), strict=True)
    except struct.error:
        return None
    if {*start_tags} != {_START} or {*end_tags} != {_END}:
        return None
    for kind in {*kinds}:
        if kind & 0xFF != _KIND or kind >= 0x600:
            return None
    keys = [
        raw[40 if first == _PARENT else 30 : offset + 2]
        for raw, first, offset in zip(raws, firsts, offsets, strict=True)
    ]
    found = Columns(trace_ids, span_ids, keys, starts, ends)
    for tail in {raw[-8:] for raw in raws}:
        if tail[:4] == _STATUS_ERROR_FLAGS or tail[-2:] == _STATUS_ERROR:
            found.errors = _errors(raws)
            break
    return found


def _errors(raws: Sequence[bytes]) -> list[int]:
    """Spans with the status ERROR among those that end as one does."""
    found = []
    for index, raw in enumerate(raws):
        if (raw[-8:-4] == _STATUS_ERROR_FLAGS or raw[-2:] == _STATUS_ERROR) and is_error(_decoded(raw).status):
            found.append(index)
    return found


def any_columns(raws: Sequence[bytes]) -> Columns:
    """Read spans of any valid encoding. Raises BadData."""
    messages = list(map(_decoded, raws))
    rows = zip(*map(_FIELDS, messages), strict=True)
    trace_ids, span_ids, states, names, kinds, starts, ends, statuses = rows
    found = Columns(trace_ids, span_ids, list(map(span_key, names, kinds)), starts, ends)
    found.messages = messages
    if any(states):
        found.states = states
    found.errors = [index for index, status in enumerate(statuses) if status and is_error(status)]
    return found


def is_error(status: bytes) -> bool:
    """Whether an encoded status has the code ERROR. Raises BadData."""
    try:
        return Status.FromString(status).code == Status.STATUS_CODE_ERROR
    except DecodeError as error:
        raise BadData("cannot decode a span's status: it is not valid protobuf", "resource_spans") from error


def _decoded(raw: bytes) -> Any:
    try:
        return SpanOutline.FromString(raw)
    except DecodeError as error:
        raise BadData("cannot decode a span: it is not valid protobuf", "resource_spans") from error
