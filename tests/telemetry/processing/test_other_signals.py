"""Logs, metrics and profiles through the processor."""

from __future__ import annotations

import random

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    AGGREGATION_TEMPORALITY_UNSPECIFIED,
)

from syntra.telemetry.intake import BadData
from syntra.telemetry.sampling.threshold import adjusted_count, parse_threshold
from syntra.telemetry.signals import Signal
from tests.telemetry.processing.requests import IDENTITY, START, Harness, logs, logs_in, resource_of, span, text, traces


def log(rng: random.Random, *, severity: int = 9, **given: object) -> LogRecord:
    """A log record with a body and an attribute."""
    made = LogRecord(**{"time_unix_nano": START, "severity_number": severity, "flags": 0xFFFFFF01} | given)  # type: ignore[arg-type]
    made.body.string_value = f"line {rng.randrange(10**6)}"
    made.attributes.append(text("logger", "app"))
    return made


def attribute(record: LogRecord, key: str) -> str | None:
    """A text attribute."""
    found = [one.value.string_value for one in record.attributes if one.key == key]
    assert len(found) <= 1
    return found[0] if found else None


def limited(rng: random.Random) -> Harness:
    """A processor whose log records are above their target."""
    harness = Harness(target_logs_per_sec=50, sampling_rate=0.05)
    for _ in range(40):
        harness.now += 1.0
        harness.logs(logs(*(log(rng) for _ in range(500))))
    return harness


def test_logs_within_the_target_go_through_untouched() -> None:
    rng = random.Random(1)
    request = logs(log(rng), log(rng, trace_id=b"short"))
    done = Harness().logs(request)
    assert done.records[0].data is request
    assert (done.records[0].items, done.rejected) == (2, 0)


def test_logs_are_cut_down_and_represent_all_of_them() -> None:
    rng = random.Random(2)
    harness = limited(rng)
    kept: list[LogRecord] = []
    for _ in range(40):
        harness.now += 1.0
        kept += logs_in(harness.logs(logs(*(log(rng) for _ in range(500)))))
    assert len(kept) == pytest.approx(40 * 50, rel=0.15)
    thresholds = [parse_threshold(attribute(one, "sampling.threshold") or "") for one in kept]
    estimate = sum(adjusted_count(threshold) for threshold in thresholds if threshold is not None)
    assert estimate == pytest.approx(40 * 500, rel=0.15)
    for one, threshold in zip(kept, thresholds, strict=True):
        randomness = attribute(one, "sampling.randomness")
        assert threshold is not None
        assert randomness is not None
        assert len(randomness) == 14
        assert int(randomness, 16) >= threshold
        assert attribute(one, "logger") == "app"


def test_errors_are_always_kept_and_count_once() -> None:
    rng = random.Random(3)
    harness = limited(rng)
    sent = [log(rng, severity=severity) for severity in (17, 21, 24)] + [log(rng, severity=0, severity_text="error")]
    kept = logs_in(harness.logs(logs(*sent)))
    assert len(kept) == 4
    assert {attribute(one, "sampling.threshold") for one in kept} == {"0"}


def test_logs_of_a_trace_are_kept_together_and_with_a_failed_trace() -> None:
    rng = random.Random(4)
    harness = limited(rng)
    failed = span(rng, error=True)
    harness.traces(traces(failed))
    kept = logs_in(harness.logs(logs(*(log(rng, trace_id=failed.trace_id) for _ in range(20)))))
    assert len(kept) == 20
    for _ in range(30):
        trace_id = rng.randbytes(16)
        kept = logs_in(harness.logs(logs(*(log(rng, trace_id=trace_id) for _ in range(5)))))
        assert len(kept) in {0, 5}
        assert all(attribute(one, "sampling.randomness") is None for one in kept)


def test_a_threshold_from_upstream_is_honoured() -> None:
    rng = random.Random(5)
    harness = limited(rng)
    sent = [
        log(rng, trace_id=b"a" * 8 + b"\xff" * 8, attributes=[text("sampling.threshold", "ff")]),
        log(rng, attributes=[text("sampling.threshold", "ff"), text("sampling.randomness", "ff000000000001")]),
    ]
    kept = logs_in(harness.logs(logs(*sent)))
    assert [attribute(one, "sampling.threshold") for one in kept] == ["ff", "ff"]
    assert attribute(kept[1], "sampling.randomness") == "ff000000000001"


def test_an_exception_in_a_log_record_is_taken_out() -> None:
    rng = random.Random(6)
    record = log(rng, severity=9, attributes=[text("exception.type", "ValueError")])
    done = Harness().logs(logs(record, log(rng, severity=17)), IDENTITY)
    assert [one.items for one in done.records if one.signal is Signal.ERRORS] == [1]


def test_the_sender_of_logs_is_who_its_address_says() -> None:
    done = Harness().logs(logs(log(random.Random(1)), service="claimed"), IDENTITY)
    kept = ExportLogsServiceRequest.FromString(done.records[0].data).resource_logs[0]
    names = {one.key: one.value.string_value for one in kept.resource.attributes}
    assert (names["service.name"], names["syntra.deployment.id"]) == ("checkout", "dep-9")
    assert kept.scope_logs[0].scope.name == "test"


def metrics() -> ExportMetricsServiceRequest:
    """A request with every kind of metric, all valid."""
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add(resource=resource_of(service_name="web"))
    found = resource.scope_metrics.add().metrics
    found.add(name="gauge").gauge.data_points.add(time_unix_nano=START, as_int=1)
    found[-1].gauge.data_points.add(time_unix_nano=START, flags=1)
    for kind in ("sum", "histogram", "exponential_histogram"):
        data = getattr(found.add(name=kind), kind)
        data.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
        data.data_points.add(time_unix_nano=START)
    found.add(name="summary").summary.data_points.add(time_unix_nano=START)
    return request


def test_valid_metrics_go_through_untouched_and_are_never_sampled() -> None:
    request = metrics().SerializeToString()
    harness = Harness(target_spans_per_sec=0.001)
    for _ in range(50):
        done = harness.processor.process(Signal.METRICS, request, None)
        assert done.records[0].data is request
        assert (done.records[0].items, done.received, done.rejected) == (6, 6, 0)


def test_points_without_a_time_or_a_temporality_are_rejected_one_by_one() -> None:
    request = metrics()
    found = request.resource_metrics[0].scope_metrics[0].metrics
    found[0].gauge.data_points[0].time_unix_nano = 0
    found[1].sum.aggregation_temporality = AGGREGATION_TEMPORALITY_UNSPECIFIED
    done = Harness().processor.process(Signal.METRICS, request, None)
    assert (done.received, done.rejected) == (6, 2)
    assert done.message == (
        "rejected 1: a data point's time is 0; rejected 1: a metric's aggregation temporality is unspecified"
    )
    kept = ExportMetricsServiceRequest.FromString(done.records[0].data).resource_metrics[0].scope_metrics[0].metrics
    assert [metric.name for metric in kept] == ["gauge", "histogram", "exponential_histogram", "summary"]
    assert [point.flags for point in kept[0].gauge.data_points] == [1]
    assert done.records[0].items == 4


def test_the_sender_of_metrics_is_who_its_address_says() -> None:
    done = Harness().processor.process(Signal.METRICS, metrics().SerializeToString(), IDENTITY)
    kept = ExportMetricsServiceRequest.FromString(done.records[0].data).resource_metrics[0]
    assert text("service.name", "checkout") in kept.resource.attributes
    assert text("service.name", "web") not in kept.resource.attributes


def test_a_profile_cannot_claim_a_name_through_its_string_table() -> None:
    request = ExportProfilesServiceRequest()
    request.dictionary.string_table.extend(["", "service.name", "host.name"])
    resource = request.resource_profiles.add()
    for index, value in ((1, "admin"), (2, "h1")):
        resource.resource.attributes.add(key_strindex=index).value.string_value = value
    resource.scope_profiles.add().profiles.add()
    done = Harness().processor.process(Signal.PROFILES, request.SerializeToString(), IDENTITY)
    kept = ExportProfilesServiceRequest.FromString(done.records[0].data)
    values = {one.value.string_value for one in kept.resource_profiles[0].resource.attributes}
    assert "admin" not in values
    assert {"h1", "checkout"} <= values
    assert (done.records[0].items, kept.dictionary) == (1, request.dictionary)


@pytest.mark.parametrize("signal", [Signal.TRACES, Signal.LOGS, Signal.METRICS, Signal.PROFILES])
@pytest.mark.parametrize("request_", [b"\xff\xff\xff\xff", b"\x0a\x05abc", b"\x0a\x02\x0a\x05", b"GET / HTTP/1.1"])
def test_what_is_no_protobuf_is_refused(signal: Signal, request_: bytes) -> None:
    with pytest.raises(BadData, match="cannot decode"):
        Harness().processor.process(signal, request_, None)
