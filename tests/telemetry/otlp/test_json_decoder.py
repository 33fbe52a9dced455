"""OTLP/JSON: every SDK's body, every rule of the specification, and nothing but BadData for anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from syntra.telemetry.intake import BadData
from syntra.telemetry.otlp.json_decoder import decode_json
from syntra.telemetry.signals import Signal
from tests.telemetry.otlp.messages import REQUESTS, as_json, requests
from tests.telemetry.otlp.sdk_samples import BY_NAME, OTLP, Sample

OTLP_SIGNALS = list(REQUESTS)
JSON_SAMPLES = [sample for sample in OTLP if sample.is_json]
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def decoded(signal: Signal, document: Any) -> Any:
    return REQUESTS[signal].FromString(decode_json(signal, json.dumps(document).encode()))


def traces(**span: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def decoded_span(**span: Any) -> Span:
    request: ExportTraceServiceRequest = decoded(Signal.TRACES, traces(**span))
    return request.resource_spans[0].scope_spans[0].spans[0]


def attribute(value: Any) -> AnyValue:
    return decoded_span(attributes=[{"key": "k", "value": value}]).attributes[0].value


def refusal(signal: Signal, document: Any) -> BadData:
    with pytest.raises(BadData) as caught:
        decode_json(signal, document if isinstance(document, bytes) else json.dumps(document).encode())
    return caught.value


def full_span(**changes: Any) -> dict[str, Any]:
    return {
        "traceId": TRACE_ID,
        "spanId": SPAN_ID,
        "parentSpanId": "00f067aa0ba902b7",
        "name": "checkout",
        "kind": 2,
        "startTimeUnixNano": "1795740520160000000",
        "endTimeUnixNano": "1795740520161227958",
        "attributes": [{"key": "n", "value": {"intValue": 3}}],
        "droppedAttributesCount": 0,
        "events": [],
        "links": [],
        "status": {"code": 2, "message": "gone"},
        "flags": 257,
    } | changes


# What SDKs send


@pytest.mark.parametrize("sample", JSON_SAMPLES, ids=lambda sample: sample.name)
def test_the_body_of_every_sdk_is_decoded(sample: Sample) -> None:
    request = REQUESTS[sample.signal].FromString(decode_json(sample.signal, sample.body))
    resources = getattr(request, request.DESCRIPTOR.fields[0].name)
    assert {a.key for a in resources[0].resource.attributes} >= {"service.name"}
    service = next(a.value.string_value for a in resources[0].resource.attributes if a.key == "service.name")
    assert service == ("svc_1" if sample.name.startswith("syntra-") else "shop")


@pytest.mark.parametrize("kind", ["traces", "metrics", "logs"])
def test_json_and_protobuf_of_one_sdk_have_the_same_structure(kind: str) -> None:
    signal = Signal(kind)
    as_sent = BY_NAME[f"otel-js-json.{kind}"]
    binary = REQUESTS[signal].FromString(BY_NAME[f"otel-js-protobuf.{kind}"].body)
    request = REQUESTS[signal].FromString(decode_json(signal, as_sent.body))
    assert shape(request) == shape(binary)


def shape(message: Message) -> Any:
    """Names of the fields that are set, all the way down. Process attributes, which differ by run, are in no sample."""
    out: list[Any] = []
    for field, value in message.ListFields():
        if field.message_type is None:
            out.append(field.name)
        else:
            out.append((field.name, [shape(item) for item in value] if field.is_repeated else shape(value)))
    return out


def test_snake_case_of_the_syntra_sdk_for_python() -> None:
    body = BY_NAME["syntra-python-otlp.traces"].body
    request = ExportTraceServiceRequest.FromString(decode_json(Signal.TRACES, body))
    query, checkout = request.resource_spans[0].scope_spans[0].spans
    assert query.trace_id.hex() == "afc5d7d93d398fb3cddbe301ad4f747d"
    assert query.parent_span_id == checkout.span_id == bytes.fromhex("88d98c758c6984d0")
    assert checkout.start_time_unix_nano == 1795740518854892444
    values = {a.key: a.value for a in checkout.attributes}
    assert values["yes"] == AnyValue(bool_value=True), "the SDK writes booleans as int_value"
    assert values["whole"] == AnyValue(int_value=3)
    assert checkout.status.message == ""
    assert checkout.events[0].attributes[0].value.int_value == 5


def test_a_log_record_of_the_syntra_sdk_for_js() -> None:
    body = BY_NAME["syntra-js-otlp.logs"].body
    request = ExportLogsServiceRequest.FromString(decode_json(Signal.LOGS, body))
    (record,) = request.resource_logs[0].scope_logs[0].log_records
    assert (record.severity_number, record.severity_text, record.body.string_value) == (9, "INFO", "a log line")
    assert (record.trace_id.hex(), record.span_id.hex()) == (TRACE_ID, SPAN_ID)


# Fuzzed against protobuf's own encoder


@pytest.mark.parametrize("signal", OTLP_SIGNALS)
@given(data=st.data(), snake_case=st.booleans(), enum_numbers=st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_message_survives_json(signal: Signal, data: st.DataObject, snake_case: bool, enum_numbers: bool) -> None:
    message = data.draw(requests(signal))
    document = as_json(message, snake_case=snake_case, enum_numbers=enum_numbers)
    again = decoded(signal, document)
    assert again.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)


SPAN_FIELD = st.sampled_from(list(full_span()))
ODD_VALUES: list[Any] = [
    *(None, 0, "0", "", False, True, [], {}, [None], [{}], 0.0, 1.0, 1.5, -1, 1 << 64, "x", "É", "٣"),
]
ODD_VALUE: st.SearchStrategy[Any] = st.sampled_from(ODD_VALUES)


@pytest.mark.parametrize("field", list(full_span()))
def test_a_span_by_hand_with_one_odd_value_is_that_of_the_general_encoder(field: str) -> None:
    for value in ODD_VALUES:
        usual = full_span(**{field: value})
        unusual = dict(usual) | {"dropped_links_count": None}
        assert outcome(Signal.TRACES, traces(**usual)) == outcome(Signal.TRACES, traces(**unusual)), value


@given(
    changes=st.dictionaries(SPAN_FIELD | st.sampled_from(["traceState", "trace_state", "new"]), ODD_VALUE, max_size=3)
)
@settings(deadline=None)
def test_a_span_by_hand_is_the_span_of_the_general_encoder(changes: dict[str, Any]) -> None:
    usual = full_span(**changes)
    # A key in snake_case makes the encoder for usual spans give way to the general one.
    unusual = dict(usual) | {"dropped_links_count": None}
    assert outcome(Signal.TRACES, traces(**usual)) == outcome(Signal.TRACES, traces(**unusual))


LOG_FIELDS = [
    *("timeUnixNano", "observedTimeUnixNano", "severityNumber", "severityText", "body", "traceId", "spanId", "flags"),
    *("attributes", "eventName", "droppedAttributesCount", "new"),
]


def log_outcomes(changes: dict[str, Any]) -> tuple[Any, Any]:
    """What becomes of a log record: by hand, and by the general encoder, which a key in snake_case asks for."""
    usual = {"timeUnixNano": "5", "severityNumber": 9, "body": {"stringValue": "text"}, "traceId": TRACE_ID} | changes
    unusual = dict(usual) | {"event_name": None}
    first, second = ({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]} for record in (usual, unusual))
    return outcome(Signal.LOGS, first), outcome(Signal.LOGS, second)


@pytest.mark.parametrize("field", LOG_FIELDS)
def test_a_log_record_by_hand_with_one_odd_value_is_that_of_the_general_encoder(field: str) -> None:
    for value in ODD_VALUES:
        by_hand, general = log_outcomes({field: value})
        assert by_hand == general, value


@given(changes=st.dictionaries(
    st.sampled_from(LOG_FIELDS),
    ODD_VALUE | st.sampled_from([{"stringValue": "x"}, {"stringValue": "x" * 200}, {"intValue": 3}, "ab" * 200]),
    max_size=4,
))  # fmt: skip
@settings(deadline=None)
def test_a_log_record_by_hand_is_that_of_the_general_encoder(changes: dict[str, Any]) -> None:
    by_hand, general = log_outcomes(changes)
    assert by_hand == general


def outcome(signal: Signal, document: Any) -> Any:
    try:
        body = decode_json(signal, json.dumps(document).encode())
    except BadData as exc:
        return str(exc), exc.field
    return REQUESTS[signal].FromString(body).SerializeToString(deterministic=True)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_whatever_replaces_a_value_is_decoded_or_bad_data(data: st.DataObject) -> None:
    signal = data.draw(st.sampled_from(OTLP_SIGNALS))
    document = as_json(data.draw(requests(signal)))
    place: Any = document
    while place and data.draw(st.integers(0, 5)):
        key = data.draw(st.sampled_from(sorted(place))) if isinstance(place, dict) else 0
        if not isinstance(place[key], (dict, list)) or not place[key]:
            place[key] = data.draw(ODD_VALUE)
            break
        place = place[key]
    outcome(signal, document)


@pytest.mark.parametrize("sample", JSON_SAMPLES, ids=lambda sample: sample.name)
def test_a_body_cut_anywhere_is_bad_data(sample: Sample) -> None:
    for end in range(len(sample.body.rstrip())):
        refusal(sample.signal, sample.body[:end])


@given(sample=st.sampled_from(JSON_SAMPLES), position=st.integers(0), byte=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_changed_byte_is_decoded_or_bad_data(sample: Sample, position: int, byte: int) -> None:
    body = bytearray(sample.body)
    body[position % len(body)] = byte
    try:
        REQUESTS[sample.signal].FromString(decode_json(sample.signal, bytes(body)))
    except BadData as exc:
        assert str(exc)


# The rules


def test_ids_are_hexadecimal_in_either_case_and_other_bytes_base64() -> None:
    span = decoded_span(
        traceId=TRACE_ID.upper(),
        spanId=SPAN_ID,
        links=[{"traceId": TRACE_ID, "spanId": SPAN_ID.upper()}],
        attributes=[{"key": "k", "value": {"bytesValue": "AP8="}}],
    )
    assert span.trace_id == span.links[0].trace_id == bytes.fromhex(TRACE_ID)
    assert span.span_id == span.links[0].span_id == bytes.fromhex(SPAN_ID)
    assert span.attributes[0].value.bytes_value == b"\x00\xff"


@pytest.mark.parametrize("text", ["AP8=", "AP8", "_-8", "_-8="])
def test_base64_has_either_alphabet_and_may_have_padding(text: str) -> None:
    assert len(attribute({"bytesValue": text}).bytes_value) == 2


def test_an_id_of_another_length_is_kept_for_the_check_of_records() -> None:
    assert decoded_span(**full_span(traceId="0af7")).trace_id == b"\x0a\xf7"
    assert decoded_span(**full_span(parentSpanId="ab" * 200)).parent_span_id == b"\xab" * 200


def test_unknown_fields_are_ignored_at_every_level() -> None:
    document = traces(**full_span(new={"deep": [[{}]]}, attributes=[{"key": "k", "new": 1, "value": {"new": 2}}]))
    document["new"] = document["resourceSpans"][0]["new"] = [1, {"a": None}]
    assert decoded(Signal.TRACES, document).resource_spans[0].scope_spans[0].spans[0].name == "checkout"


@pytest.mark.parametrize(
    ("given_value", "value"),
    [
        ("5", 5),
        (5, 5),
        (5.0, 5),
        ("-9223372036854775808", -(1 << 63)),
        (9223372036854775807, (1 << 63) - 1),
        ("1e3", 1000),
    ],
)
def test_integers_are_numbers_or_text(given_value: object, value: int) -> None:
    assert attribute({"intValue": given_value}) == AnyValue(int_value=value)


@pytest.mark.parametrize(
    ("given_value", "value"),
    [
        ("NaN", "nan"),
        ("Infinity", "inf"),
        ("-Infinity", "-inf"),
        (1, "1.0"),
        ("0.5", "0.5"),
        (-0.0, "-0.0"),
        (0.0, "0.0"),
    ],
)
def test_doubles_are_numbers_or_text(given_value: object, value: str) -> None:
    assert repr(attribute({"doubleValue": given_value}).double_value) == value


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (["1", "2"], [1, 2]),
        ([1, 2], [1, 2]),
        (["1", 2, 3.0], [1, 2, 3]),
        (["18446744073709551615"], [(1 << 64) - 1]),
        ([1, None], "[1]"),
        ([], []),
        (["1", ""], "[1]"),
        ([True], "[0]"),
        ([1, -1], "[1]"),
        (["1", "9" * 5000], "[1]"),
        ([1 << 64], "[0]"),
        ([1.5], "[0]"),
    ],
)
def test_counts_of_buckets(counts: list[Any], expected: list[int] | str) -> None:
    point = {"histogram": {"dataPoints": [{"bucketCounts": counts, "explicitBounds": [0, 0.5, "Infinity"]}]}}
    document = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [point]}]}]}
    if isinstance(expected, str):
        assert refusal(Signal.METRICS, document).field.endswith("dataPoints[0].bucketCounts" + expected)
        return
    request: ExportMetricsServiceRequest = decoded(Signal.METRICS, document)
    made = request.resource_metrics[0].scope_metrics[0].metrics[0].histogram.data_points[0]
    assert list(made.bucket_counts) == expected
    assert list(made.explicit_bounds) == [0.0, 0.5, float("inf")]


def test_equal_numbers_of_different_types_are_kept_apart() -> None:
    for value, expected in [
        (1, AnyValue(int_value=1)),
        (True, AnyValue(bool_value=True)),
        ("1", AnyValue(int_value=1)),
    ]:
        assert attribute({"intValue": value}) == expected
    assert attribute({"boolValue": True}) == AnyValue(bool_value=True)
    assert refusal(Signal.TRACES, traces(attributes=[{"key": "k", "value": {"boolValue": 1}}])).field.endswith(
        "boolValue"
    )


@pytest.mark.parametrize("kind", [3, "3", "SPAN_KIND_CLIENT", 3.0])
def test_enums_are_numbers_and_names_are_tolerated(kind: object) -> None:
    assert decoded_span(kind=kind).kind == Span.SPAN_KIND_CLIENT


def test_null_is_the_default() -> None:
    assert decoded_span(**dict.fromkeys(full_span())) == Span()
    assert decoded(Signal.TRACES, {"resourceSpans": None}) == ExportTraceServiceRequest()
    assert attribute({"stringValue": None}) == AnyValue()
    assert attribute({"arrayValue": {"values": [None, {}]}}).array_value.values[1] == AnyValue()


def test_an_empty_value_of_a_oneof_is_present() -> None:
    assert attribute({"stringValue": ""}).WhichOneof("value") == "string_value"
    point = {"gauge": {"dataPoints": [{"asInt": "0"}]}}
    request: ExportMetricsServiceRequest = decoded(
        Signal.METRICS, {"resourceMetrics": [{"scopeMetrics": [{"metrics": [point]}]}]}
    )
    gauge = request.resource_metrics[0].scope_metrics[0].metrics[0].gauge
    assert gauge.data_points[0].WhichOneof("value") == "as_int"


def test_half_of_a_surrogate_pair_becomes_a_replacement_character() -> None:
    body = json.dumps(traces(**full_span(name="PLACE"))).replace("PLACE", r"a\ud800b \ud834\udd1e \\ud800 \udc00\ud800")
    request = ExportTraceServiceRequest.FromString(decode_json(Signal.TRACES, body.encode()))
    name = request.resource_spans[0].scope_spans[0].spans[0].name
    assert name == "a\ufffdb 𝄞 \\ud800 \ufffd\ufffd"


@pytest.mark.parametrize("length", [127, 128, 16383, 16384, 300_000])
def test_text_of_any_length(length: int) -> None:
    long = "x" * length
    span = decoded_span(**full_span(name=long, attributes=[{"key": long, "value": {"stringValue": long}}]))
    assert (span.name, span.attributes[0].key, span.attributes[0].value.string_value) == (long, long, long)


# Refusals


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        ({"startTimeUnixNano": "soon"}, "startTimeUnixNano", "expected an integer from 0 to 18446744073709551615"),
        ({"startTimeUnixNano": 1 << 64}, "startTimeUnixNano", "expected an integer"),
        ({"endTimeUnixNano": -1}, "endTimeUnixNano", "got -1"),
        ({"traceId": "xyz"}, "traceId", "expected an id in hexadecimal digits, got 'xyz'"),
        ({"spanId": 5}, "spanId", "expected an id in hexadecimal digits"),
        ({"name": 5}, "name", "expected text, got 5"),
        ({"kind": "CLIENT"}, "kind", "expected a number of SpanKind"),
        ({"kind": 1 << 31}, "kind", "expected a number of SpanKind"),
        ({"flags": True}, "flags", "expected an integer from 0 to 4294967295, got true"),
        ({"attributes": {}}, "attributes", "expected an array, got an object"),
        ({"attributes": [{"key": 1, "value": {}}]}, "attributes[0].key", "expected text"),
        ({"attributes": [{}, {"value": "x"}]}, "attributes[1].value", "expected an object such as"),
        ({"attributes": [{"value": {"intValue": "1.5"}}]}, "attributes[0].value.intValue", "expected an integer"),
        ({"events": [{"attributes": [7]}]}, "events[0].attributes[0]", "expected an object with key and value"),
        ({"status": []}, "status", "expected an object, got an array"),
        ({"status": {"message": {}}}, "status.message", "expected text, got an object"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(change: dict[str, Any], field: str, expected: str) -> None:
    error = refusal(Signal.TRACES, traces(**full_span(**change)))
    assert error.field == "resourceSpans[0].scopeSpans[0].spans[0]." + field
    assert str(error).startswith(expected) or expected in str(error)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"5", b"{", b'{"a":NaN}', b'"\xff"', b"{}{}", b"[" * 5000])
def test_a_body_that_is_no_request_is_bad_data(body: bytes) -> None:
    assert refusal(Signal.TRACES, body).field == ""


def test_a_value_has_bounded_depth() -> None:
    def nested(levels: int) -> dict[str, Any]:
        value: dict[str, Any] = {"stringValue": "x"}
        for level in range(levels):
            inner = {"values": [value]} if level % 2 else {"values": [{"key": "k", "value": value}]}
            value = {"arrayValue" if level % 2 else "kvlistValue": inner}
        return value

    assert attribute(nested(32)) != AnyValue(), "protobuf parses what comes out"
    error = refusal(Signal.TRACES, traces(attributes=[{"key": "k", "value": nested(33)}]))
    assert "more than 32 lists and maps" in str(error)
    refusal(Signal.TRACES, traces(attributes=[{"key": "k", "value": nested(200)}]))


class TooMuch(Exception):
    """The caller's own refusal."""


@pytest.mark.parametrize("body", [b'{"new":[' + b"{}," * 1_000_000 + b"{}]}", b'{"new":[' + b"[]," * 1000 + b"[]]}"])
def test_memory_is_reserved_before_a_body_is_parsed(body: bytes) -> None:
    asked = []

    def reserve(size: int) -> None:
        asked.append(size)
        raise TooMuch

    with pytest.raises(TooMuch):
        decode_json(Signal.METRICS, body, reserve)
    assert 15 * len(body) < asked[0] < 100 * len(body)


def test_a_string_of_an_error_is_shortened() -> None:
    assert len(str(refusal(Signal.TRACES, traces(startTimeUnixNano="x" * 10_000)))) < 200
