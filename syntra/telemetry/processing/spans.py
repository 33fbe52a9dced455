"""The loop over the encoded spans of a scope: reads what the pipeline needs, counts RED, finds errors and slow spans.

Encoders write fields in the order of their numbers, so the ids, the name, the kind and the times of a span are at
offsets that follow from two length bytes. The loop reads them with `struct`. A span that looks different, one with a
tracestate among them, is decoded by protobuf; the results are the same. Pure.
"""

from __future__ import annotations

import struct
from collections import Counter
from math import log2
from operator import attrgetter
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from syntra.telemetry.intake import BadData
from syntra.telemetry.processing.outlines import SpanOutline
from syntra.telemetry.processing.red import ERRORS, LIMIT, SUM, Cells
from syntra.telemetry.sampling import threshold
from syntra.telemetry.sampling.latency import OFFSET, PER_DOUBLING
from syntra.telemetry.sampling.threshold import adjusted_count, randomness_of

BAD_TRACE_ID = "a span's trace id is not 16 bytes other than zero"
BAD_SPAN_ID = "a span's span id is not 8 bytes other than zero"

MAX_REJECTED = 10_000
"""A request with more rejected spans than this, and more than accepted ones, is refused as a whole."""

_NO_TRACE = bytes(16)
_NO_SPAN = bytes(8)

_IDS_LENGTH = 28
_IDS = struct.Struct(">H16sHQH8xH").unpack_from
"""Tag and length of the trace id, the id, the same of the span id; then two bytes at 28, and two at 38."""
_TIMES = struct.Struct("<HBQBQ").unpack_from
"""Tag and value of the kind in one number, tag and value of the start, tag and value of the end."""
_TRACE_ID, _SPAN_ID, _PARENT, _NAME = 0x0A10, 0x1208, 0x2208, 0x2A00
_KIND, _START, _END = 0x30, 0x39, 0x41
_KINDS = frozenset(kind << 8 | _KIND for kind in range(6))
_NAME_AT, _NAME_AFTER_PARENT_AT = 30, 40
_FURTHEST = 157
"""Where the kind is at most; beyond that, the name's length does not fit into one byte."""

_STATUS_ERROR = b"\x18\x02"
"""The end of an encoded status with the code ERROR, which follows an optional message."""
_STATUS_ERROR_FLAGS = _STATUS_ERROR + b"\x85\x01"
"""The same before the span's flags."""

_FIELDS = attrgetter("trace_id", "span_id", "trace_state", "name", "kind", "start", "end", "status")


class Unusual:
    """A span that protobuf decoded."""

    __slots__ = ("duration", "is_error", "key", "message", "randomness", "rejection", "state", "trace_id", "upstream")

    def __init__(self, raw: bytes) -> None:
        """Raises BadData if the span cannot be decoded."""
        self.message = _decoded(raw)
        self.trace_id, span_id, self.state, name, kind, start, end, status = _FIELDS(self.message)
        self.key = span_key(name, kind)
        self.duration = end - start if start else 0
        self.is_error = bool(status) and is_error(status)
        self.rejection = ""
        if len(self.trace_id) != 16 or self.trace_id == _NO_TRACE:
            self.rejection = BAD_TRACE_ID
        elif len(span_id) != 8 or span_id == _NO_SPAN:
            self.rejection = BAD_SPAN_ID
        self.upstream: int | None = None
        """The `th` of the tracestate, if it has a valid one that is not above the span's own randomness."""
        self.randomness: int | None = None
        """The `rv` of the tracestate, if it has one."""
        if b"ot=" in self.state and not self.rejection:
            said = threshold.read(self.state.decode("utf-8", "replace"))
            self.randomness = said.randomness
            if said.threshold is not None and said.threshold <= self.effective_randomness():
                self.upstream = said.threshold

    def effective_randomness(self) -> int:
        """The randomness that sampling uses: `rv`, or the trace id's."""
        return randomness_of(self.trace_id) if self.randomness is None else self.randomness

    def weight(self) -> float:
        """How many spans this one represents."""
        return 1.0 if self.upstream is None else adjusted_count(self.upstream)

    def stamped(self, verdict: int) -> bytes:
        """The span with the higher of its own threshold and the verdict's; a stage never lowers one."""
        state = threshold.write(self.state.decode("utf-8", "replace"), max(verdict, self.upstream or 0))
        self.message.trace_state = state.encode()
        return bytes(self.message.SerializeToString())


class Scan:
    """What the loop found. Every list has an entry for each span that was not rejected."""

    __slots__ = ("marked", "raws", "rejected", "trace_ids", "unusual")

    def __init__(self) -> None:
        self.raws: list[bytes] = []
        self.trace_ids: list[bytes] = []
        self.unusual: dict[int, Unusual] = {}
        self.marked: set[bytes] = set()
        """Traces with an error or a slow span."""
        self.rejected: Counter[str] | None = None

    def stamped(self, index: int, state: bytes) -> Any:
        """A usual span with this tracestate, to keep."""
        return stamp(self.raws[index], state)

    def population(self) -> float:
        """How many spans these represent, after sampling upstream."""
        usual = len(self.raws) - len(self.unusual)
        return usual + sum(span.weight() for span in self.unusual.values())


def span_key(name: bytes, kind: int) -> bytes:
    """A span's name and kind as one string of bytes; kinds that do not exist count as unspecified."""
    return name + bytes((_KIND, kind if 0 <= kind <= 5 else 0))


def stamp(raw: bytes, state: bytes) -> bytes:
    """A usual span with this tracestate, which has fewer than 128 bytes: field 3, behind the ids."""
    return raw[:_IDS_LENGTH] + b"\x1a" + bytes((len(state),)) + state + raw[_IDS_LENGTH:]


def scan(raws: list[bytes], cells: Cells) -> Scan:
    """Read encoded spans and count them in `cells`. Raises BadData if one cannot be decoded."""
    found = Scan()
    marked, unusual = found.marked, found.unusual
    rejected: set[int] = set()
    trace_ids: list[bytes] = []
    add = trace_ids.append
    tails: set[bytes] = set()
    ids, times, kinds, log = _IDS, _TIMES, _KINDS, log2
    no_trace, name_tag, parent_tag = _NO_TRACE, _NAME, _PARENT
    total, limit, offset, doubling = SUM, LIMIT, OFFSET, PER_DOUBLING
    for raw in raws:
        try:
            trace_tag, trace_id, span_tag, span_id, first, second = ids(raw)
            # A valid tag and length differ from the name's tag by the length alone; others give a large number.
            if first == parent_tag:
                at = (second ^ name_tag) + 40
                key = raw[40 : at + 2]
            else:
                at = (first ^ name_tag) + 30
                key = raw[30 : at + 2]
            kind, start_tag, start, end_tag, end = times(raw, at)
        except struct.error:
            end_tag = 0
        if (
            end_tag == 0x41
            and start_tag == 0x39
            and trace_tag == 0x0A10
            and span_tag == 0x1208
            and at < 158
            and kind in kinds
            and start
            and trace_id != no_trace
            and span_id
        ):
            cell = cells[key]
            duration = end - start
            if duration > 0:
                cell[total] += duration
                cell[int(log(duration) * doubling + offset)] += 1
                if duration > cell[limit]:
                    marked.add(trace_id)
            else:
                cell[0] += 1
            tail = raw[-8:]
            if tail not in tails and _ends_as_error(tail, tails) and is_error(_decoded(raw).status):
                marked.add(trace_id)
                cell[ERRORS] += 1
            add(trace_id)
            continue
        span = Unusual(raw)
        if span.rejection:
            found.rejected = found.rejected or Counter()
            found.rejected[span.rejection] += 1
            rejected.add(len(trace_ids) + len(rejected))
            if len(rejected) > MAX_REJECTED and len(rejected) > len(trace_ids):
                raise BadData(f"cannot accept the request: {span.rejection}, and so for most spans")
            continue
        index = len(trace_ids)
        unusual[index] = span
        weight = span.weight()
        cell = cells.count(span.key, span.duration, weight)
        if span.is_error:
            cell[ERRORS] += weight
        if span.is_error or span.duration > cell[LIMIT]:
            marked.add(span.trace_id)
        add(span.trace_id)
    found.trace_ids = trace_ids
    found.raws = [raw for index, raw in enumerate(raws) if index not in rejected] if rejected else raws
    return found


def _ends_as_error(tail: bytes, others: set[bytes]) -> bool:
    """Whether a span that ends so can have the status ERROR; if not, the end is added to `others`."""
    if tail[:4] == _STATUS_ERROR_FLAGS or tail[-2:] == _STATUS_ERROR:
        return True
    others.add(tail)
    return False


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
