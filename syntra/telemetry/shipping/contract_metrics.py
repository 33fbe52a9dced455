"""Metrics of OTLP as items of the contract's TelemetryData 1.0: gauges, counters and histograms. Pure.

The contract has one number for each item. Of a histogram it is the sum, and the buckets have the counts, cumulative as
in Prometheus: `le` is an upper bound, the last is `+Inf`. A summary becomes a gauge for each quantile and two counters.
Deltas are marked `temporality: delta`, a field beyond the contract. Points without a finite number are left out.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    DataPointFlags,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    SummaryDataPoint,
)

from syntra.telemetry.attributes import flat
from syntra.utils.timestamps import format_ns

MAX_EXPONENTIAL_BUCKETS = 40
"""The most buckets made of an exponential histogram; of more, two neighbours become one until they fit."""

Item = dict[str, Any]
Bucket = tuple[float, int]

_MAX_COUNT = (1 << 63) - 1
"""The largest integer that databases have; sums of counts can be larger."""

_DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
_NO_VALUE = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK


def points(metric: Metric, service_id: str) -> Iterator[Item]:
    """The items of one metric."""
    kind = metric.WhichOneof("data")
    if kind == "gauge":
        yield from _numbers(metric.gauge.data_points, metric.name, "gauge", service_id)
    elif kind == "sum":
        name = "counter" if metric.sum.is_monotonic else "gauge"
        found = _numbers(metric.sum.data_points, metric.name, name, service_id)
        yield from _marked(found, metric.sum.aggregation_temporality)
    elif kind == "histogram":
        found = (_histogram(point, metric.name, service_id) for point in _recorded(metric.histogram.data_points))
        yield from _marked(found, metric.histogram.aggregation_temporality)
    elif kind == "exponential_histogram":
        exponential = metric.exponential_histogram
        found = (_exponential(point, metric.name, service_id) for point in _recorded(exponential.data_points))
        yield from _marked(found, exponential.aggregation_temporality)
    elif kind == "summary":
        for point in _recorded(metric.summary.data_points):
            yield from _summary(point, metric.name, service_id)


def _item(point: Any, name: str, kind: str, service_id: str, value: float) -> Item:
    return {
        "timestamp": format_ns(point.time_unix_nano),
        "service_id": service_id,
        "name": name,
        "type": kind,
        "value": value,
        "labels": {key: _label(value) for key, value in flat(point.attributes).items()},
    }


def _label(value: object) -> str:
    return (
        value if isinstance(value, str) else ("true" if value else "false") if isinstance(value, bool) else str(value)
    )


def _recorded(given: Iterable[Any]) -> Iterator[Any]:
    """Without the points that only say that a series has ended."""
    return (point for point in given if not point.flags & _NO_VALUE)


def _marked(found: Iterable[Item], temporality: int) -> Iterator[Item]:
    for item in found:
        if temporality == _DELTA:
            item["temporality"] = "delta"
        yield item


def _numbers(given: Iterable[NumberDataPoint], name: str, kind: str, service_id: str) -> Iterator[Item]:
    for point in _recorded(given):
        held = point.WhichOneof("value")
        if held is None:
            continue
        value = getattr(point, held)
        if math.isfinite(value):
            yield _item(point, name, kind, service_id, value)


def _histogram(point: HistogramDataPoint, name: str, service_id: str) -> Item:
    bounds, counts = point.explicit_bounds, point.bucket_counts
    buckets: list[Bucket] = []
    if len(counts) == len(bounds) + 1 and all(map(math.isfinite, bounds)):
        buckets = list(zip(bounds, counts, strict=False))
    return _distribution(point, name, service_id, buckets)


def _distribution(point: Any, name: str, service_id: str, buckets: Sequence[Bucket]) -> Item:
    item = _item(point, name, "histogram", service_id, point.sum if math.isfinite(point.sum) else 0.0)
    below = 0
    made: list[dict[str, float | str]] = []
    for bound, count in buckets:
        below = min(below + count, _MAX_COUNT)
        made.append({"le": bound, "count": below})
    made.append({"le": "+Inf", "count": max(min(point.count, _MAX_COUNT), below)})
    item["histogram_buckets"] = made
    return item


def _exponential(point: ExponentialHistogramDataPoint, name: str, service_id: str) -> Item:
    """Bucket `i` holds the values above base^i up to base^(i+1), where base is 2^(2^-scale) (metrics data model)."""
    scale = point.scale
    negative, positive = point.negative, point.positive
    # A bucket below zero ends at its bound nearer to zero.
    below = [(-_power(negative.offset + n, scale), count) for n, count in enumerate(negative.bucket_counts)]
    above = [(_power(positive.offset + n + 1, scale), count) for n, count in enumerate(positive.bucket_counts)]
    threshold = point.zero_threshold if math.isfinite(point.zero_threshold) else 0.0
    zero = [(threshold, point.zero_count)] if point.zero_count else []
    merged = [*_fitting(below[::-1]), *zero, *_fitting(above)]
    return _distribution(point, name, service_id, merged)


def _power(index: int, scale: int) -> float:
    try:
        return float(min(2.0 ** (index * 2.0**-scale), sys.float_info.max))
    except OverflowError:
        return sys.float_info.max if index > 0 else 0.0


def _fitting(buckets: list[Bucket]) -> list[Bucket]:
    """Merge neighbours until the buckets are few; empty ones at either end are left out."""
    first = next((n for n, (_, count) in enumerate(buckets) if count), len(buckets))
    last = next((n for n, (_, count) in enumerate(reversed(buckets)) if count), 0)
    buckets = buckets[first : len(buckets) - last]
    while len(buckets) > MAX_EXPONENTIAL_BUCKETS // 2:
        if len(buckets) % 2:
            buckets.insert(0, (buckets[0][0], 0))
        buckets = [(high, count + more) for (_, count), (high, more) in zip(buckets[::2], buckets[1::2], strict=True)]
    return buckets


def _summary(point: SummaryDataPoint, name: str, service_id: str) -> Iterator[Item]:
    for at in point.quantile_values:
        if math.isfinite(at.value):
            item = _item(point, name, "gauge", service_id, at.value)
            item["labels"]["quantile"] = repr(at.quantile)
            yield item
    yield _item(point, name + "_count", "counter", service_id, point.count)
    if math.isfinite(point.sum):
        yield _item(point, name + "_sum", "counter", service_id, point.sum)
