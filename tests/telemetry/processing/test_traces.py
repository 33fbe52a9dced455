"""Traces through the processor: what is rejected, whose they are, what is kept and what the kept spans represent."""

from __future__ import annotations

import math
import random
import statistics
import threading
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from syntra.telemetry.intake import BadData
from syntra.telemetry.sampling.threshold import encode, randomness_of, read, threshold_of
from syntra.telemetry.signals import Signal
from tests.telemetry.processing.requests import (
    IDENTITY,
    Harness,
    represented,
    span,
    spans_in,
    text,
    traces,
)


def test_a_request_within_the_target_goes_through_untouched() -> None:
    rng = random.Random(1)
    request = traces(*(span(rng) for _ in range(10)))
    done = Harness().traces(request)
    assert [(record.signal, record.items) for record in done.records] == [(Signal.TRACES, 10)]
    assert done.records[0].data is request
    assert (done.received, done.rejected, done.sampled_out, done.message) == (10, 0, 0, "")


def test_a_decoded_request_is_kept_as_an_encoded_one() -> None:
    rng = random.Random(1)
    request = traces(span(rng))
    done = Harness().processor.process(Signal.TRACES, ExportTraceServiceRequest.FromString(request), None)
    assert done.records[0].data == request


@pytest.mark.parametrize(
    "request_", [b"", ExportTraceServiceRequest(resource_spans=[ResourceSpans()]).SerializeToString()]
)
def test_an_empty_request_succeeds_and_keeps_nothing(request_: bytes) -> None:
    done = Harness().traces(request_)
    assert (list(done.records), done.received, done.rejected) == ([], 0, 0)


@pytest.mark.parametrize(
    "change",
    [{"trace_id": b""}, {"trace_id": bytes(16)}, {"trace_id": b"x" * 15}, {"span_id": b""}, {"span_id": bytes(8)}],
)
def test_spans_without_a_valid_id_are_rejected_and_the_others_kept(change: dict[str, Any]) -> None:
    rng = random.Random(1)
    good, bad, last = span(rng, name="good"), span(rng, **change), span(rng, name="last")
    done = Harness().traces(traces(good, bad, last))
    assert [one.name for one in spans_in(done)] == ["good", "last"]
    assert (done.received, done.rejected) == (3, 1)
    assert done.message.startswith("rejected 1: a span's ")


def test_a_request_of_invalid_spans_alone_keeps_no_record() -> None:
    done = Harness().traces(traces(span(random.Random(1), trace_id=b"")))
    assert (list(done.records), done.rejected) == ([], 1)


def test_a_request_that_is_cut_anywhere_is_refused_or_a_shorter_request() -> None:
    """No cut gives an exception other than BadData, and what is kept can be decoded."""
    rng = random.Random(1)
    request = traces(span(rng), span(rng, error=True, exception=True))
    refused = 0
    for cut in range(len(request)):
        try:
            done = Harness().traces(request[:cut], IDENTITY)
        except BadData:
            refused += 1
        else:
            assert len(spans_in(done)) == done.received - done.rejected
    assert refused == len(request) - 1


@pytest.mark.parametrize("limited", [False, True])
def test_invalid_bytes_deep_inside_a_span_are_refused(limited: bool) -> None:
    """They would spoil the batch that the span is sent on with."""
    rng = random.Random(1)
    harness = Harness(target_spans_per_sec=10, sampling_rate=0.5)
    if limited:
        harness.settle(rng, per_sec=100)
    request = traces(*(span(rng, error=True) for _ in range(20))).replace(b"/x", b"/\xff")
    with pytest.raises(BadData, match="not valid protobuf"):
        harness.traces(request)


def test_the_sender_is_who_its_address_says() -> None:
    request = ExportTraceServiceRequest()
    one = request.resource_spans.add()
    claims = {"service.name": "billing", "syntra.service.id": "srv-2", "container.id": "other", "host.name": "h1"}
    one.resource.attributes.extend(text(key, value) for key, value in claims.items())
    one.scope_spans.add(spans=[span(random.Random(1))]).scope.name = "kept"
    done = Harness().traces(request.SerializeToString(), IDENTITY)
    kept = ExportTraceServiceRequest.FromString(done.records[0].data).resource_spans[0]
    assert {one.key: one.value.string_value for one in kept.resource.attributes} == {
        "host.name": "h1",
        "service.name": "checkout",
        "service.namespace": "shop",
        "service.instance.id": "checkout-2",
        "container.id": "c0ffee",
        "syntra.service.id": "srv-1",
        "syntra.deployment.id": "dep-9",
        "syntra.project": "shop",
    }
    assert kept.scope_spans[0].scope.name == "kept"
    assert kept.scope_spans[0].spans[0] == request.resource_spans[0].scope_spans[0].spans[0]


def test_a_resource_in_two_parts_does_not_smuggle_a_claim_past_the_identity() -> None:
    """Decoders merge the parts of a message field; the pipeline must see what they see."""
    rng = random.Random(1)
    plain = ExportTraceServiceRequest.FromString(traces(span(rng)))
    plain.resource_spans[0].ClearField("resource")
    body = plain.resource_spans[0].SerializeToString()
    harness = Harness()
    identified = ExportTraceServiceRequest.FromString(harness.traces(traces(span(rng)), IDENTITY).records[0].data)
    true = identified.resource_spans[0].resource.SerializeToString()
    claim = ExportTraceServiceRequest.FromString(traces(service="admin")).resource_spans[0].resource.SerializeToString()
    parts = b"".join(b"\x0a" + length(part) + part for part in (claim, true)) + body
    done = harness.traces(b"\x0a" + length(parts) + parts, IDENTITY)
    assert b"admin" not in done.records[0].data
    assert len(spans_in(done)) == 1


def length(part: bytes) -> bytes:
    """The length of a field as a varint."""
    size, encoded = len(part), bytearray()
    while size > 127:
        encoded.append(size & 127 | 128)
        size >>= 7
    return bytes([*encoded, size])


def test_a_span_in_any_order_of_fields_counts_as_one_in_the_usual_order() -> None:
    """An unknown field in front sends a span through protobuf; everything that is seen of it must be the same."""
    rng = random.Random(3)
    spans = [
        span(rng, name=name, kind=kind, duration_ms=duration, error=error, **given)
        for name in ("GET /a", "x" * 117, "x" * 118, "x" * 127, "x" * 128, "0", "")
        for kind in (0, 1, 2, 5, 77)
        for duration, error in ((0, False), (3, True), (-1, False))
        for given in ({}, {"parent_span_id": b"12345678"}, {"flags": 0}, {"start_time_unix_nano": 0})
    ]
    usual, other = Harness(), Harness()
    usual.traces(traces(*spans))
    request = ExportTraceServiceRequest.FromString(traces())
    encoded = b"".join(
        b"\x12" + length(raw) + raw for raw in (b"\xa0\x06\x01" + one.SerializeToString() for one in spans)
    )
    scope = b"\x12" + length(encoded) + encoded
    resource = request.resource_spans[0].resource.SerializeToString()
    body = b"\x0a" + length(resource) + resource + scope
    other.traces(b"\x0a" + length(body) + body)
    drained = [harness.processor.drain(1) for harness in (usual, other)]
    assert drained[0] is not None
    assert drained[0] == drained[1]
    assert usual.processor.sampling() == other.processor.sampling()


@pytest.mark.parametrize("seed", range(4))
def test_the_kept_spans_represent_all_of_them(seed: int) -> None:
    """A known population, with errors: the estimate is within four standard errors, and not always on one side."""
    rng = random.Random(seed)
    harness = Harness(target_spans_per_sec=100, sampling_rate=0.01)
    harness.settle(rng, per_sec=400, secs=24)
    population, kept = 0, []
    for _ in range(30):
        harness.now += 1.0
        sent = [span(rng, error=rng.random() < 0.02) for _ in range(400)]
        kept += spans_in(harness.traces(traces(*sent)))
        population += len(sent)
    ordinary = [one for one in kept if one.status.code != 2]
    probability = len(ordinary) / population
    error = math.sqrt(population * (1 - probability) / probability)
    assert represented(kept) == pytest.approx(population, abs=4 * error)
    assert len(kept) == pytest.approx(30 * 100, rel=0.15)


def test_the_estimate_is_unbiased_over_many_seeds() -> None:
    """Late spans and thresholds that rise and fall included."""
    errors = []
    for seed in range(12):
        rng = random.Random(seed)
        harness = Harness(target_spans_per_sec=20, sampling_rate=0.01)
        harness.settle(rng, per_sec=50, secs=16)
        population, kept = 0, []
        # The load changes, so that thresholds rise and fall while traces have late spans.
        for second in range(60):
            harness.now += 1.0
            sent = [span(rng, error=rng.random() < 0.05) for _ in range(25 if second % 30 < 15 else 100)]
            late = [span(rng, trace_id=one.trace_id, error=rng.random() < 0.05) for one in sent]
            kept += spans_in(harness.traces(traces(*sent)))
            kept += spans_in(harness.traces(traces(*late)))
            population += len(sent) + len(late)
        errors.append(represented(kept) / population - 1)
    spread = statistics.stdev(errors) / math.sqrt(len(errors))
    assert abs(statistics.mean(errors)) < 3 * spread
    assert spread < 0.03


def test_errors_and_their_traces_are_kept_and_count_once() -> None:
    rng = random.Random(5)
    harness = Harness(target_spans_per_sec=50, sampling_rate=0.01)
    harness.settle(rng, per_sec=200, secs=30)
    sent = [span(rng, name=f"error {index}", error=True) for index in range(50)]
    siblings = [span(rng, name=f"sibling {index}", trace_id=one.trace_id) for index, one in enumerate(sent)]
    exceptions = [span(rng, name=f"exception {index}", exception=True) for index in range(50)]
    kept = spans_in(harness.traces(traces(*siblings, *sent, *exceptions)))
    assert len(kept) == 150
    assert {one.trace_state for one in kept} == {"ot=th:0"}
    harness.now += 20
    late = [span(rng, trace_id=one.trace_id) for one in sent]
    assert len(spans_in(harness.traces(traces(*late, service="another")))) == 50
    harness.settle(rng, per_sec=200, secs=62)
    after_the_window = [span(rng, trace_id=one.trace_id) for one in sent]
    assert len(spans_in(harness.traces(traces(*after_the_window)))) < 30


def test_an_exception_is_taken_out_as_an_error_of_the_service() -> None:
    done = Harness().traces(traces(span(random.Random(1), name="pay", exception=True)), IDENTITY)
    errors = [record for record in done.records if record.signal is Signal.ERRORS]
    assert [(one.items, one.data) for one in errors] == [
        (1, b"{'type': 'span', 'name': 'pay', 'service': 'checkout'}\n")
    ]


def test_slow_requests_are_kept_once_the_service_is_known() -> None:
    rng = random.Random(6)
    harness = Harness(target_spans_per_sec=50, sampling_rate=0.01)
    for _ in range(30):
        harness.now += 1.0
        harness.traces(traces(*(span(rng, duration_ms=rng.lognormvariate(2, 0.5)) for _ in range(200))))
    harness.processor.drain(1)
    slow = harness.processor.services()[0].slow_ms
    assert slow is not None
    sent = [span(rng, duration_ms=slow * 1.2) for _ in range(40)] + [
        span(rng, duration_ms=slow * 0.8) for _ in range(400)
    ]
    kept = spans_in(harness.traces(traces(*sent)))
    limit = slow * 1e6
    durations = [one.end_time_unix_nano - one.start_time_unix_nano for one in kept]
    assert sum(duration > limit for duration in durations) == 40
    assert sum(duration < limit for duration in durations) < 150


def test_all_services_keep_the_same_traces() -> None:
    """Consistent: what a service with a lower probability keeps is a part of what another keeps."""
    rng = random.Random(8)
    harness = Harness(target_spans_per_sec=200, sampling_rate=0.001)
    for _ in range(30):
        harness.now += 1.0
        harness.traces(traces(*(span(rng) for _ in range(200)), service="a"))
        harness.traces(traces(*(span(rng) for _ in range(500)), service="b"))
    sent = [span(rng) for _ in range(400)]
    a = {one.trace_id for one in spans_in(harness.traces(traces(*sent, service="a")))}
    b = {one.trace_id for one in spans_in(harness.traces(traces(*sent, service="b")))}
    assert b < a < {one.trace_id for one in sent}


def upstream(rng: random.Random, probability: float) -> Span:
    """A span that an SDK has kept with this probability."""
    threshold = threshold_of(probability)
    while True:
        made = span(rng, trace_state=f"vendor=1,ot=th:{encode(threshold)}")
        if randomness_of(made.trace_id) >= threshold:
            return made


def test_a_th_from_upstream_is_honoured_and_never_lowered() -> None:
    rng = random.Random(9)
    harness = Harness(target_spans_per_sec=100, sampling_rate=0.2)
    harness.settle(rng, per_sec=1000, secs=16)
    sent = [upstream(rng, 0.05) for _ in range(200)]
    kept = spans_in(harness.traces(traces(*sent)))
    assert [one.span_id for one in kept] == [one.span_id for one in sent]
    assert {read(one.trace_state).threshold for one in kept} == {threshold_of(0.05)}
    assert kept[0].trace_state.endswith(",vendor=1")
    often = spans_in(harness.traces(traces(*(upstream(rng, 0.5) for _ in range(400)))))
    assert represented(often) == pytest.approx(800, rel=0.35)
    assert len(often) < 250


def test_an_rv_decides_instead_of_the_trace_id() -> None:
    rng = random.Random(10)
    harness = Harness(target_spans_per_sec=100, sampling_rate=0.1)
    harness.settle(rng, per_sec=1000, secs=16)
    low = [
        span(rng, trace_id=b"a" * 8 + b"\xff" * 7 + bytes([n]), trace_state="ot=rv:00000000000001") for n in range(9)
    ]
    high = [
        span(rng, trace_id=b"b" * 8 + bytes(7) + bytes([n]), trace_state="ot=rv:ffffffffffffff") for n in range(1, 9)
    ]
    kept = spans_in(harness.traces(traces(*low, *high)))
    assert {one.trace_id[:1] for one in kept} == {b"b"}
    assert len(kept) == 8


def test_a_th_above_the_spans_own_randomness_is_erased() -> None:
    rng = random.Random(11)
    harness = Harness(target_spans_per_sec=100, sampling_rate=0.5)
    harness.settle(rng, per_sec=1000, secs=16)
    wrong = [span(rng, trace_id=b"a" * 8 + b"\xf0" * 8, trace_state="ot=th:ff") for _ in range(3)]
    kept = spans_in(harness.traces(traces(*wrong)))
    assert len(kept) == 3
    probability = harness.processor.services()[0].probability
    assert {read(one.trace_state).threshold for one in kept} == {threshold_of(probability)}


def test_services_beyond_the_limit_share_one_that_is_counted_and_sampled() -> None:
    rng = random.Random(12)
    harness = Harness(max_services=10, target_spans_per_sec=100, sampling_rate=0.01)
    kept = 0
    for _ in range(32):
        harness.now += 1.0
        kept = 0
        for number in range(50):
            done = harness.traces(traces(*(span(rng) for _ in range(10)), service=f"s{number}"))
            kept += done.received - done.sampled_out
    names = {view.name for view in harness.processor.services()}
    assert names == {f"s{number}" for number in range(10)} | {"other"}
    assert kept == pytest.approx(100, rel=0.5)


def test_a_cold_start_under_a_flood_is_limited_within_the_first_second() -> None:
    rng = random.Random(13)
    harness = Harness(target_spans_per_sec=20, sampling_rate=0.001)
    kept = 0
    for _ in range(50):
        harness.now += 0.02
        done = harness.traces(traces(*(span(rng) for _ in range(200))))
        kept += done.received - done.sampled_out
    assert kept < 2000


def test_requests_of_many_threads_are_all_counted() -> None:
    rng = random.Random(14)
    harness = Harness(target_spans_per_sec=1e9)
    request = traces(*(span(rng) for _ in range(50)))
    threads = [
        threading.Thread(target=lambda: [harness.traces(request, IDENTITY) for _ in range(50)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert harness.processor.services()[0].received[Signal.TRACES] == 8 * 50 * 50
