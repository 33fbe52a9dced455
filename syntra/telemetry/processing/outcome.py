"""What became of a request, and what the stages of processing share. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from syntra.telemetry.signals import Record, Signal
from syntra.utils.frozen import frozen

MAX_ERRORS = 256
"""Errors that are taken out of one request; a request with more has them in its spans only."""


@frozen
class Processed:
    """The records to keep, and what became of the other items."""

    records: Sequence[Record]
    received: int
    rejected: int = 0
    message: str = ""
    """Why items were rejected, for `partial_success`; empty if none was."""
    sampled_out: int = 0


@frozen
class ErrorExtractor:
    """Takes errors out of spans and log records, and encodes them for a record of `Signal.ERRORS`.

    It sees spans with an event `exception` and log records with attributes `exception.…`. The second argument of the
    first two is the resource's attributes.
    """

    from_span: Callable[[Span, Mapping[str, object]], list[dict[str, Any]]]
    from_log: Callable[[LogRecord, Mapping[str, object]], dict[str, Any] | None]
    encode: Callable[[list[dict[str, Any]]], bytes]

    def records(self, errors: list[dict[str, Any]]) -> list[Record]:
        """The errors as records: one, or none without errors."""
        return [Record(signal=Signal.ERRORS, items=len(errors), data=self.encode(errors))] if errors else []


def rejection(reasons: Counter[str]) -> str:
    """The sentence for `partial_success`."""
    return "; ".join(f"rejected {count}: {reason}" for reason, count in sorted(reasons.items()))
