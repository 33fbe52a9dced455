"""The kinds of telemetry, and a record: what the pipeline keeps, sends and counts. Pure."""

from __future__ import annotations

from enum import Enum

from syntra.utils.frozen import frozen


class Signal(Enum):
    """One kind of telemetry. The value is its name in paths, counters and files."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"
    PROFILES = "profiles"
    ERRORS = "errors"

    @property
    def is_concatenable(self) -> bool:
        """Whether the data of two records, one behind the other, is the data of both.

        Requests for traces, metrics and logs have one repeated field, so protobuf merges them by concatenation. A
        profiles request has a dictionary beside it that its profiles point into. Errors are lines of JSON.
        """
        return self is not Signal.PROFILES


@frozen
class Record:
    """Items of one signal that belong together.

    `data` is an encoded Export…ServiceRequest of the OTLP service of that signal. For ERRORS it is one JSON object for
    each item, as `TelemetryData.errors` of the contract has them, each followed by a newline.
    """

    signal: Signal
    items: int
    """Spans, data points, log records, profiles or errors; at least 1."""
    data: bytes
