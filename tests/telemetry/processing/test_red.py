"""RED metrics count everything, before sampling, within their bounds."""

from __future__ import annotations

import random

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from syntra.telemetry.processing.red_metrics import BOUNDS_SECS, CALLS, DURATION
from syntra.telemetry.sampling.threshold import encode, threshold_of
from syntra.telemetry.signals import Signal
from tests.telemetry.processing.requests import IDENTITY, Harness, span, traces

SECOND = 1_000_000_000


def drained(harness: Harness, now_ns: int) -> dict[str, Metric]:
    """The metrics of the only service, by name."""
    record = harness.processor.drain(now_ns)
    assert record is not None
    assert record.signal is Signal.METRICS
    request = ExportMetricsServiceRequest.FromString(record.data)
    (resource,) = request.resource_metrics
    found = {metric.name: metric for metric in resource.scope_metrics[0].metrics}
    points = sum(len(found[name].sum.data_points) + len(found[name].histogram.data_points) for name in found)
    assert record.items == points
    return found


def calls(metric: Metric) -> dict[tuple[str, str, str], int]:
    """The values of the sum by name, kind and status."""
    return {
        tuple(attribute.value.string_value for attribute in point.attributes): point.as_int  # type: ignore[misc]
        for point in metric.sum.data_points
    }


def test_calls_and_durations_are_counted_by_name_kind_and_status() -> None:
    rng = random.Random(1)
    harness = Harness()
    harness.processor.drain(1 * SECOND)
    sent = [span(rng, name="GET /", duration_ms=ms) for ms in (1, 3, 3, 100)]
    sent += [span(rng, name="GET /", duration_ms=4, error=True), span(rng, name="SELECT", kind=3, duration_ms=0.5)]
    harness.traces(traces(*sent), IDENTITY)
    found = drained(harness, 16 * SECOND)
    assert calls(found[CALLS]) == {
        ("GET /", "SPAN_KIND_SERVER", "STATUS_CODE_UNSET"): 4,
        ("GET /", "SPAN_KIND_SERVER", "STATUS_CODE_ERROR"): 1,
        ("SELECT", "SPAN_KIND_CLIENT", "STATUS_CODE_UNSET"): 1,
    }
    point = found[DURATION].histogram.data_points[0]
    assert point.count == 5
    assert point.sum == pytest.approx(0.111)
    assert (point.start_time_unix_nano, point.time_unix_nano) == (1 * SECOND, 16 * SECOND)
    bounds = [round(bound, 6) for bound in point.explicit_bounds]
    counts = dict(zip(bounds, point.bucket_counts, strict=False))
    assert bounds[:4] == [0.001, 0.002, 0.004, 0.008]
    assert {bound: count for bound, count in counts.items() if count} == {0.001: 1, 0.004: 3, 0.128: 1}
    assert len(point.bucket_counts) == len(BOUNDS_SECS) + 1


def test_sums_are_cumulative_and_only_what_has_changed_is_sent() -> None:
    rng = random.Random(1)
    harness = Harness()
    harness.traces(traces(span(rng, name="a"), span(rng, name="b")))
    assert len(calls(drained(harness, 1 * SECOND)[CALLS])) == 2
    harness.traces(traces(span(rng, name="a")))
    assert calls(drained(harness, 2 * SECOND)[CALLS]) == {("a", "SPAN_KIND_SERVER", "STATUS_CODE_UNSET"): 2}
    assert harness.processor.drain(3 * SECOND) is None


def test_everything_counts_although_little_is_kept() -> None:
    rng = random.Random(1)
    harness = Harness(target_spans_per_sec=10, sampling_rate=0.01)
    harness.settle(rng, per_sec=100, secs=40)
    assert sum(calls(drained(harness, SECOND)[CALLS]).values()) == 4000
    (view,) = harness.processor.services()
    assert view.received[Signal.TRACES] == 4000
    assert view.kept[Signal.TRACES] < 2000


def test_a_span_sampled_upstream_counts_as_what_it_represents() -> None:
    rng = random.Random(1)
    harness = Harness()
    state = f"ot=th:{encode(threshold_of(0.3))}"
    sent = [span(rng, trace_id=rng.randbytes(8) + b"\xff" * 8, trace_state=state, error=n < 30) for n in range(90)]
    harness.traces(traces(*sent))
    assert calls(drained(harness, SECOND)[CALLS]) == {
        ("GET /", "SPAN_KIND_SERVER", "STATUS_CODE_UNSET"): pytest.approx(200, abs=1),
        ("GET /", "SPAN_KIND_SERVER", "STATUS_CODE_ERROR"): pytest.approx(100, abs=1),
    }


def test_names_beyond_the_limit_are_counted_as_other() -> None:
    """Names with ids in them are the usual cause. They cost no memory, and the total stays right."""
    rng = random.Random(1)
    harness = Harness(max_series=50)
    for number in range(300):
        harness.traces(traces(span(rng, name=f"GET /user/{number}")))
    found = calls(drained(harness, SECOND)[CALLS])
    assert len(found) == 51
    assert found["other", "SPAN_KIND_SERVER", "STATUS_CODE_UNSET"] == 250
    assert harness.processor.sampling().series_overflowed == 250


def test_a_series_that_is_idle_makes_room_for_another() -> None:
    rng = random.Random(1)
    harness = Harness(max_series=2)
    harness.traces(traces(span(rng, name="old")))
    for second in range(60):
        harness.traces(traces(span(rng, name="busy")))
        harness.processor.drain(second * SECOND)
    harness.traces(traces(span(rng, name="last")))
    assert ("last", "SPAN_KIND_SERVER", "STATUS_CODE_UNSET") in calls(drained(harness, 61 * SECOND)[CALLS])


def test_a_service_that_stopped_is_forgotten() -> None:
    rng = random.Random(1)
    harness = Harness()
    harness.traces(traces(span(rng), service="gone"))
    for second in range(50):
        harness.traces(traces(span(rng), service="here"))
        harness.processor.drain(second * SECOND)
    assert [view.name for view in harness.processor.services()] == ["here"]


def test_the_view_has_rates_and_percentiles_of_the_last_interval() -> None:
    rng = random.Random(1)
    harness = Harness(target_spans_per_sec=1e6)
    for interval in range(2):
        sent = [span(rng, duration_ms=10 * (interval + 1), error=n < 15) for n in range(150)]
        sent += [span(rng, kind=3, duration_ms=500) for _ in range(300)]
        harness.traces(traces(*sent), IDENTITY)
        harness.now += 15
        harness.processor.drain(interval * 15 * SECOND)
    (view,) = harness.processor.services()
    assert (view.name, view.namespace, view.service_id) == ("checkout", "shop", "srv-1")
    assert view.requests_per_sec == pytest.approx(10)
    assert view.errors_per_sec == pytest.approx(1)
    assert view.p50_ms == pytest.approx(20, rel=0.15)
    assert view.p99_ms == pytest.approx(20, rel=0.15)
