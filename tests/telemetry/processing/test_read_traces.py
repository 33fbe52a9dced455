"""Spans that are judged before they are encoded get the verdicts, the counts and the bytes of encoded ones."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from syntra.telemetry.intake import BadData
from syntra.telemetry.otlp.json_decoder import decode_json, read_json
from syntra.telemetry.processing.identity import Identity
from syntra.telemetry.processing.outcome import Processed
from syntra.telemetry.read_requests import ReadTraces
from syntra.telemetry.signals import Record, Signal
from tests.telemetry.processing.requests import IDENTITY, START, Harness, resource_of, span

SECOND = 1_000_000_000


def population(rng: random.Random) -> bytes:
    """A request of some services as OTLP/JSON: usual spans, errors, slow ones, exceptions, and empty scopes."""
    request = ExportTraceServiceRequest()
    for _ in range(rng.randrange(1, 4)):
        group = request.resource_spans.add(schema_url=rng.choice(["", "https://example.org/1"]))
        if rng.random() < 0.9:
            group.resource.CopyFrom(resource_of(service_name=rng.choice(["web", "shop", "mail"])))
        for _ in range(rng.randrange(3)):
            scope = group.scope_spans.add()
            scope.scope.name = rng.choice(["a", "b"])
            for _ in range(rng.choice([0, 1, 5, 40])):
                scope.spans.append(any_span(rng))
    return as_json(request)


def any_span(rng: random.Random) -> Any:
    made = span(
        rng,
        name=rng.choice(["GET /", "POST /pay", "ü", "n" * 130, "n" * 300, "other"]),
        kind=rng.choice([0, 1, 2, 2, 2, 3, 5, 9]),
        duration_ms=rng.choice([0, -5, 3, 10, 12, 4000]),
        error=rng.random() < 0.05,
        exception=rng.random() < 0.05,
    )
    if rng.random() < 0.3:
        made.parent_span_id = rng.randbytes(8)
    if rng.random() < 0.05:
        made.events.add(name="retry", time_unix_nano=START)
    if rng.random() < 0.02:
        made.end_time_unix_nano = 0
    return made


def as_json(request: ExportTraceServiceRequest) -> bytes:
    found = MessageToDict(request, use_integers_for_enums=True)
    for group, message in zip(found.get("resourceSpans", ()), request.resource_spans, strict=True):
        group.setdefault("scopeSpans", [])
        for scope, scope_message in zip(group["scopeSpans"], message.scope_spans, strict=True):
            scope.setdefault("spans", [])
            for one, given in zip(scope["spans"], scope_message.spans, strict=True):
                one |= {"traceId": given.trace_id.hex(), "spanId": given.span_id.hex()}
                one.setdefault("endTimeUnixNano", "0")
                if given.parent_span_id:
                    one["parentSpanId"] = given.parent_span_id.hex()
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode()


def seen(records: Any) -> list[object]:
    return [(one.signal, one.items, message(one) if one.signal is Signal.TRACES else one.data) for one in records]


def message(record: Record) -> ExportTraceServiceRequest:
    """The request; an empty status is the same as none, and not every way of encoding keeps it."""
    found = ExportTraceServiceRequest.FromString(record.data)
    for group in found.resource_spans:
        for scope in group.scope_spans:
            for one in scope.spans:
                if not one.status.ByteSize():
                    one.ClearField("status")
    return found


def both(read: Harness, encoded: Harness, body: bytes, identity: Identity | None) -> tuple[Processed, Processed]:
    request = read_json(Signal.TRACES, body)
    assert isinstance(request, ReadTraces)
    one = read.processor.process(Signal.TRACES, request, identity)
    other = encoded.processor.process(Signal.TRACES, decode_json(Signal.TRACES, body), identity)
    return one, other


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("limits", [{}, {"target_spans_per_sec": 5.0, "sampling_rate": 0.2}, {"max_series": 3}])
def test_judged_before_encoding_is_encoded_and_then_judged(seed: int, limits: dict[str, float]) -> None:
    rng = random.Random(seed)
    read, encoded = Harness(**limits), Harness(**limits)
    sampled_out = 0
    for number in range(90):
        read.now = encoded.now = 1000.0 + number
        one, other = both(read, encoded, population(rng), rng.choice([None, IDENTITY]))
        assert seen(one.records) == seen(other.records)
        assert (one.received, one.rejected, one.sampled_out) == (other.received, other.rejected, other.sampled_out)
        sampled_out += one.sampled_out
        if number % 15 == 14:
            drained = [each.processor.drain(START + number * SECOND) for each in (read, encoded)]
            assert drained[0] == drained[1]
            assert drained[0] is not None
    assert (sampled_out > 0) == ("target_spans_per_sec" in limits)
    assert read.processor.sampling() == encoded.processor.sampling()
    assert read.processor.services() == encoded.processor.services()


def test_kept_spans_with_a_wrong_attribute_are_refused_with_the_place() -> None:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add(spans=[span(random.Random(1), error=True)])
    body = as_json(request).replace(b'{"stringValue":"/x"}', b'{"intValue":"/x"}')
    for limited in (False, True):
        harness = Harness(target_spans_per_sec=10, sampling_rate=0.5)
        if limited:
            harness.settle(random.Random(1), per_sec=100)
        read = read_json(Signal.TRACES, body)
        assert isinstance(read, ReadTraces)
        with pytest.raises(BadData) as refused:
            harness.processor.process(Signal.TRACES, read, None)
        assert refused.value.field == "resourceSpans[0].scopeSpans[0].spans[0].attributes[0].value.intValue"
