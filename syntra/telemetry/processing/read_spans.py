"""The loop over spans that a receiver has read already: as `spans.scan`, without their bytes. Pure."""

from __future__ import annotations

from math import log2
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Status

from syntra.telemetry.processing.red import ERRORS, LIMIT, SUM, Cells
from syntra.telemetry.processing.spans import Scan, span_key
from syntra.telemetry.read_requests import ReadScope
from syntra.telemetry.sampling.latency import OFFSET, PER_DOUBLING

_ERROR = int(Status.STATUS_CODE_ERROR)


class ReadScan(Scan):
    """What the loop found. `raws` are the spans as they were read."""

    __slots__ = ()

    def stamped(self, index: int, state: bytes) -> Any:
        """The span with this tracestate, to keep."""
        span: Any = self.raws[index]
        span.trace_state = state.decode()
        return span


def scan_read(scope: ReadScope, cells: Cells) -> ReadScan:
    """Read the spans of a scope and count them in `cells`."""
    found = ReadScan()
    found.raws, found.trace_ids = scope.items, scope.trace_ids
    marked = found.marked
    keys: dict[tuple[str, int], bytes] = {}
    log = log2
    total, limit, offset, doubling = SUM, LIMIT, OFFSET, PER_DOUBLING
    for span, trace_id in zip(scope.items, scope.trace_ids, strict=True):
        named = span.name, span.kind
        key = keys.get(named)
        if key is None:
            key = keys[named] = span_key(span.name.encode(), span.kind)
        cell = cells[key]
        duration = span.end_time_unix_nano - span.start_time_unix_nano
        if duration > 0:
            cell[total] += duration
            cell[int(log(duration) * doubling + offset)] += 1
            if duration > cell[limit]:
                marked.add(trace_id)
        else:
            cell[0] += 1
        status = span.status
        if status is not None and status.code == _ERROR:
            marked.add(trace_id)
            cell[ERRORS] += 1
    return found
