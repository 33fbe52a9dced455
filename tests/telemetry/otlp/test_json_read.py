"""Requests of OTLP/JSON that are read and encoded later give what the decoder gives."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from syntra.telemetry.intake import BadData
from syntra.telemetry.otlp.json_decoder import decode_json, read_json
from syntra.telemetry.read_requests import Encoded, NotEncodable, ReadTraces
from syntra.telemetry.signals import Signal
from tests.telemetry.otlp.sdk_samples import OTLP, Sample
from tests.telemetry.otlp.test_json_usual import ATTRIBUTES, ODD, SPAN, body, text

PLAIN = text({name: value for name, value in SPAN.items() if name != "traceState"})


def outcome(request: bytes) -> object:
    """The message as the decoder gives it, or the place and the text of the refusal."""
    try:
        decoded = decode_json(Signal.TRACES, request)
    except BadData as error:
        return error.field, str(error)
    return ExportTraceServiceRequest.FromString(decoded)


def read_outcome(request: bytes) -> object:
    """The same of a request that is read first."""
    try:
        encoded = whole(read_json(Signal.TRACES, request))
    except BadData as error:
        return error.field, str(error)
    return ExportTraceServiceRequest.FromString(encoded)


def whole(found: Encoded | ReadTraces) -> bytes:
    if isinstance(found, Encoded):
        return found
    try:
        return found.encode(without_empty=False)
    except NotEncodable:
        return found.decode()


def check(record: str) -> None:
    request = body(Signal.TRACES, record)
    assert read_outcome(request) == outcome(request)


def test_a_usual_request_is_read_only() -> None:
    request = body(Signal.TRACES, ",".join([PLAIN] * 300))
    found = read_json(Signal.TRACES, request)
    assert isinstance(found, ReadTraces)
    assert found.size == len(request) > 48 * 1024
    check(",".join([PLAIN] * 300))


@pytest.mark.parametrize("name", SPAN)
def test_every_field_with_every_odd_value(name: str) -> None:
    for value in ODD:
        check(text({**SPAN, "traceState": '""', name: value}))
        check(PLAIN + "," + text({**SPAN, "traceState": '""', name: value}))


def test_a_field_may_be_absent() -> None:
    for name in SPAN:
        check(text({each: value for each, value in SPAN.items() if each not in (name, "traceState")}))


def test_every_attribute() -> None:
    for attribute in ATTRIBUTES:
        for items in (attribute, f'{{"key":"p","value":{{"stringValue":"q"}}}},{attribute}'):
            check(text({**SPAN, "traceState": '""', "attributes": f"[{items}]"}))


@pytest.mark.parametrize("zeros", ["traceId", "spanId"])
def test_a_span_without_an_id_is_left_to_the_decoder(zeros: str) -> None:
    record = PLAIN.replace(SPAN[zeros], '"' + "0" * (len(SPAN[zeros]) - 2) + '"', 1)
    assert isinstance(read_json(Signal.TRACES, body(Signal.TRACES, record)), Encoded)


def test_a_wrong_attribute_is_found_with_its_place() -> None:
    wrong = text({**SPAN, "traceState": '""', "events": "[]", "attributes": '[{"key":"k","value":{"intValue":"x"}}]'})
    found = read_json(Signal.TRACES, body(Signal.TRACES, f"{PLAIN},{wrong}"))
    assert isinstance(found, ReadTraces)
    with pytest.raises(NotEncodable):
        found.encode_spans()
    with pytest.raises(BadData) as refused:
        found.decode()
    assert refused.value.field == "resourceSpans[0].scopeSpans[0].spans[1].attributes[0].value.intValue"


def test_resources_scopes_and_urls() -> None:
    for resource in ('{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]}', "null", "{}", '{"a":1}'):
        for scope in ('{"name":"s","version":"1"}', "null", "{}", "[]"):
            scopes = f'{{"scope":{scope},"spans":[{PLAIN},{PLAIN}],"schemaUrl":"u"}},{{"spans":[]}}'
            groups = f'{{"resource":{resource},"scopeSpans":[{scopes}],"schemaUrl":"v"}},{{"scopeSpans":[]}}'
            request = f'{{"resourceSpans":[{groups}]}}'.encode()
            assert read_outcome(request) == outcome(request)


@pytest.mark.parametrize(
    "sample", [each for each in OTLP if each.is_json and each.signal is Signal.TRACES], ids=lambda each: each.name
)
def test_what_the_sdks_send(sample: Sample) -> None:
    assert read_outcome(sample.body) == outcome(sample.body)


MINIMAL = '{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","startTimeUnixNano":1,PLACE}'
SMALL_ATTRIBUTE = json.dumps({"key": "a", "value": {"stringValue": ""}}, separators=(",", ":"))


@pytest.mark.parametrize(
    ("item", "around"),
    [
        (MINIMAL.replace("PLACE", '"endTimeUnixNano":1'), '{"resourceSpans":[{"scopeSpans":[{"spans":[PLACE]}]}]}'),
        (
            MINIMAL.replace("PLACE", '"endTimeUnixNano":1,"status":{},"events":[{}]'),
            '{"resourceSpans":[{"scopeSpans":[{"spans":[PLACE]}]}]}',
        ),
        (
            MINIMAL.replace("PLACE", f'"endTimeUnixNano":1,"attributes":[{",".join([SMALL_ATTRIBUTE] * 8000)}]'),
            '{"resourceSpans":[{"scopeSpans":[{"spans":[PLACE]}]}]}',
        ),
        ('{"spans":[]}', '{"resourceSpans":[{"scopeSpans":[PLACE]}]}'),
        ('{"scopeSpans":[]}', '{"resourceSpans":[PLACE]}'),
    ],
)
def test_the_memory_of_a_hostile_request_is_reserved(item: str, around: str) -> None:
    request = around.replace("PLACE", ",".join([item] * (350_000 // (len(item) + 1) or 1))).encode()
    asked: list[int] = []
    read_json(Signal.TRACES, request)
    tracemalloc.start()
    try:
        found = read_json(Signal.TRACES, request, asked.append)
        assert isinstance(found, ReadTraces)
        found.encode_spans()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < max(asked)
