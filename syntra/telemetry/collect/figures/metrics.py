"""Encodes one resource's metrics as OTLP. Pure.

Two hundred containers have thousands of data points in each sample, and protobuf's objects take ten times as long as
writing the bytes. So they are written here: a data point is three numbers of fixed size and its attributes, which are
encoded once. Field numbers are those of `opentelemetry/proto/metrics/v1/metrics.proto`; tests decode the result.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import field
from enum import Enum
from functools import lru_cache

from syntra.utils.frozen import frozen

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
SCOPE = "syntra.telemetry.figures"

Attributes = tuple[tuple[str, str], ...]
Number = int | float
Point = tuple[Attributes, Number | None]
"""A value of None is not known, and left out."""

# NumberDataPoint: start_time_unix_nano = 2, time_unix_nano = 3, as_double = 4, as_int = 6, attributes = 7.
_TIMES = struct.Struct("<BQBQ")
_INTEGER = struct.Struct("<Bq")
_DOUBLE = struct.Struct("<Bd")
_START, _TIME, _AS_DOUBLE, _AS_INT, _ATTRIBUTES = 2 << 3 | 1, 3 << 3 | 1, 4 << 3 | 1, 6 << 3 | 1, 7


class Kind(Enum):
    """The instruments of the semantic conventions."""

    COUNTER = "counter"
    UP_DOWN_COUNTER = "up-down counter"
    GAUGE = "gauge"


@frozen
class Metric:
    """A metric's name, unit (UCUM) and instrument."""

    name: str
    unit: str
    kind: Kind
    head: bytes = field(default=b"", repr=False)
    """Name and unit, encoded."""


class ResourceMetrics:
    """The metrics of one resource at one moment."""

    def __init__(self, resource: Mapping[str, str], *, start_ns: int, time_ns: int) -> None:
        """`start_ns` is when its counters were 0; both in Unix nanoseconds. Empty attributes are left out."""
        self._resource = _resource(tuple((name, value) for name, value in resource.items() if value))
        self._counted = _TIMES.pack(_START, start_ns, _TIME, time_ns)
        # What a level counts from is of no use.
        self._level = self._counted[9:]
        self._metrics: list[bytes] = []
        self.points = 0

    def add(self, metric: Metric, points: Iterable[Point]) -> None:
        """Add a metric with these points; without any it is left out."""
        times = self._counted if metric.kind is Kind.COUNTER else self._level
        encoded = b""
        for attributes, value in points:
            if value is not None:
                number = _INTEGER.pack(_AS_INT, value) if isinstance(value, int) else _DOUBLE.pack(_AS_DOUBLE, value)
                encoded += message(1, times + number + (_attributes(attributes, _ATTRIBUTES) if attributes else b""))
                self.points += 1
        if not encoded:
            return
        # Metric: gauge = 5, sum = 7. Sum: aggregation_temporality = 2 (cumulative), is_monotonic = 3.
        if metric.kind is Kind.GAUGE:
            data = message(5, encoded)
        else:
            data = message(7, encoded + (b"\x10\x02\x18\x01" if metric.kind is Kind.COUNTER else b"\x10\x02"))
        self._metrics.append(message(2, metric.head + data))

    def one(self, metric: Metric, value: Number | None) -> None:
        """Add a metric of one point without attributes."""
        self.add(metric, [((), value)])

    def encoded(self) -> bytes:
        """An ExportMetricsServiceRequest with this resource; several, one behind the other, are a request too."""
        scope = message(2, _SCOPE + b"".join(self._metrics) + _SCHEMA)
        return message(1, self._resource + scope + _SCHEMA)


def counter(name: str, unit: str) -> Metric:
    """A sum that only grows."""
    return Metric(name=name, unit=unit, kind=Kind.COUNTER, head=_head(name, unit))


def up_down_counter(name: str, unit: str) -> Metric:
    """A sum that may fall."""
    return Metric(name=name, unit=unit, kind=Kind.UP_DOWN_COUNTER, head=_head(name, unit))


def gauge(name: str, unit: str) -> Metric:
    """A value that cannot be added up."""
    return Metric(name=name, unit=unit, kind=Kind.GAUGE, head=_head(name, unit))


def message(number: int, content: bytes) -> bytes:
    """A field of bytes, text or a message; `number` is at most 15."""
    length = len(content)
    if length < 128:
        return bytes((number << 3 | 2, length)) + content
    head = bytearray((number << 3 | 2,))
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head) + content


def _head(name: str, unit: str) -> bytes:
    return message(1, name.encode()) + message(3, unit.encode())


@lru_cache(maxsize=4096)
def _attributes(attributes: Attributes, number: int) -> bytes:
    # KeyValue: key = 1, value = 2. AnyValue: string_value = 1.
    return b"".join(
        message(number, message(1, _text(name)) + message(2, message(1, _text(value)))) for name, value in attributes
    )


@lru_cache(maxsize=1024)
def _resource(attributes: Attributes) -> bytes:
    return message(1, _attributes(attributes, 1))


def _text(text: str) -> bytes:
    """Names of file systems may be no UTF-8, which protobuf refuses."""
    return text.encode("utf-8", "replace")


_SCOPE = message(1, message(1, SCOPE.encode()))
_SCHEMA = message(3, SCHEMA_URL.encode())
