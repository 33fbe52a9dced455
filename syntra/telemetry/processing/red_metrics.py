"""RED metrics as OTLP, under the names of the collector's span metrics connector.

`traces.span.metrics.calls` is a sum by span.name, span.kind and status.code, `traces.span.metrics.duration` a histogram
in seconds by span.name and span.kind. Both are cumulative. The bounds are 1 ms times a power of two, exactly: four
buckets of the cells make one. Statuses UNSET and OK are one number, `STATUS_CODE_UNSET`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from syntra.telemetry.processing.red import Series
from syntra.telemetry.sampling.latency import MILLISECOND_BUCKET, PER_DOUBLING, upper_bound

CALLS = "traces.span.metrics.calls"
DURATION = "traces.span.metrics.duration"
SCOPE = "syntra.telemetry.red"

_DOUBLINGS = 16
_BOUND_BUCKETS = range(MILLISECOND_BUCKET, MILLISECOND_BUCKET + PER_DOUBLING * _DOUBLINGS, PER_DOUBLING)
BOUNDS_SECS = tuple(upper_bound(bucket) / 1e9 for bucket in _BOUND_BUCKETS)


def add_service(
    request: ExportMetricsServiceRequest, resource: Mapping[str, str], series: Iterable[Series], now_ns: int
) -> int:
    """Add a service's series to a metrics request; return the number of data points. Without series, add nothing."""
    calls = Metric(name=CALLS, unit="{call}", description="Spans, counted before sampling")
    calls.sum.is_monotonic = True
    calls.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
    duration = Metric(name=DURATION, unit="s", description="Durations of spans, counted before sampling")
    duration.histogram.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
    for one in series:
        attributes = [_text("span.name", one.name), _text("span.kind", _kind(one.kind))]
        for status, count in (("STATUS_CODE_UNSET", one.count - one.errors), ("STATUS_CODE_ERROR", one.errors)):
            if count or status == "STATUS_CODE_UNSET":
                point = calls.sum.data_points.add(
                    start_time_unix_nano=one.since_ns, time_unix_nano=now_ns, as_int=max(0, count)
                )
                point.attributes.extend([*attributes, _text("status.code", status)])
        duration.histogram.data_points.add(
            start_time_unix_nano=one.since_ns,
            time_unix_nano=now_ns,
            count=one.count,
            sum=one.sum_nanoseconds / 1e9,
            bucket_counts=_merged(one.buckets),
            explicit_bounds=BOUNDS_SECS,
            attributes=attributes,
        )
    points = len(calls.sum.data_points) + len(duration.histogram.data_points)
    if points:
        added = request.resource_metrics.add()
        added.resource.attributes.extend(_text(key, value) for key, value in resource.items() if value)
        scope = added.scope_metrics.add(metrics=[calls, duration])
        scope.scope.name = SCOPE
    return points


def _merged(buckets: tuple[float, ...]) -> list[int]:
    """The counts between the bounds in seconds; the last has everything above them."""
    edges = [0, *(bucket + 1 for bucket in _BOUND_BUCKETS), len(buckets)]
    return [int(sum(buckets[low:high])) for low, high in pairwise(edges)]


def _kind(number: int) -> str:
    return Span.SpanKind.Name(number)  # type: ignore[arg-type]  # cells have known kinds only


def _text(key: str, value: str) -> KeyValue:
    made = KeyValue(key=key)
    made.value.string_value = value
    return made
