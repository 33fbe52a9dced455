"""Records become items of TelemetryData with exactly the contract's names, for every SDK and type of metric."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from syntra.telemetry.intake import BadData
from syntra.telemetry.otlp.json_decoder import decode_json
from syntra.telemetry.shipping import contract
from syntra.telemetry.shipping.contract_metrics import MAX_EXPONENTIAL_BUCKETS, points
from syntra.telemetry.signals import Signal
from tests.telemetry.otlp.messages import requests
from tests.telemetry.otlp.sdk_samples import BY_NAME, OTLP, Sample

PLACED = Resource(
    attributes=[
        KeyValue(key="service.name", value=AnyValue(string_value="shop")),
        KeyValue(key="syntra.service.id", value=AnyValue(string_value="svc_1")),
        KeyValue(key="syntra.deployment.id", value=AnyValue(string_value="dep_1")),
    ]
)
AT = "1970-01-01T00:00:00.000000009Z"


def sent(sample: Sample) -> bytes:
    return decode_json(sample.signal, sample.body) if sample.is_json else sample.body


def traces(text: str) -> list[dict[str, Any]]:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add(resource=PLACED)
    text_format.Parse(text, group.scope_spans.add())
    return contract.items(Signal.TRACES, request.SerializeToString())


def logs(text: str) -> list[dict[str, Any]]:
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add(resource=PLACED)
    text_format.Parse(text, group.scope_logs.add())
    return contract.items(Signal.LOGS, request.SerializeToString())


def metrics(text: str) -> list[dict[str, Any]]:
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add(resource=PLACED)
    text_format.Parse(text, group.scope_metrics.add())
    return contract.items(Signal.METRICS, request.SerializeToString())


# Real requests


@pytest.mark.parametrize("sample", OTLP, ids=lambda sample: sample.name)
def test_every_sdk_has_items_of_its_service(sample: Sample) -> None:
    found = contract.items(sample.signal, sent(sample))
    assert found
    assert {item["service_id"] for item in found} == {"svc_1" if sample.name.startswith("syntra-") else "shop"}


def test_a_span_of_the_syntra_sdk_for_js() -> None:
    query, checkout = contract.items(Signal.TRACES, sent(BY_NAME["syntra-js-otlp.traces"]))
    assert query == {
        "trace_id": "f797a4a0bba261fcbfc15282d29327d5",
        "span_id": "94294674a7016385",
        "parent_span_id": "a9b2be70a4608408",
        "service_id": "svc_1",
        "deployment_id": "",
        "operation_name": "SELECT orders",
        "span_kind": "client",
        "start_time_ns": 1795740519258000000,
        "duration_ns": 0,
        "status": {"code": "error", "message": "gone"},
        "attributes": {"syntra.op": "db"},
        "events": [],
    }
    assert "parent_span_id" not in checkout
    assert checkout["status"] == {"code": "ok"}
    assert checkout["attributes"] == {"text": "a", "whole": 3, "part": 0.5, "yes": True, "syntra.op": "http.server"}
    assert checkout["events"] == [{"name": "paid", "timestamp_ns": 1795740519258000000, "attributes": {"amount": 5}}]


def test_a_log_record_of_the_opentelemetry_sdk_for_js() -> None:
    assert contract.items(Signal.LOGS, sent(BY_NAME["otel-js-json.logs"])) == [
        {
            "timestamp": "2026-11-27T00:48:40.162000000Z",
            "service_id": "shop",
            "deployment_id": "",
            "level": "warn",
            "message": "stock low",
            "attributes": {"left": 2, "nested": '{"a":[1,"b"]}'},
            "source": "sdk",
            "trace_id": "ba54a18f001918264d1e15ee15a11cb1",
            "span_id": "d4c89edca957a223",
        }
    ]


def test_metrics_of_the_opentelemetry_sdk_for_js() -> None:
    orders, opened, wait = contract.items(Signal.METRICS, sent(BY_NAME["otel-js-json.metrics"]))
    at = {"timestamp": "2026-11-27T00:48:40.189000000Z", "service_id": "shop"}
    assert orders == {**at, "name": "orders", "type": "counter", "value": 3.0, "labels": {"country": "nl"}}
    assert opened == {**at, "name": "open", "type": "gauge", "value": -1.0, "labels": {}}
    assert (wait["type"], wait["value"]) == ("histogram", 712.5)
    counts = {bucket["le"]: bucket["count"] for bucket in wait["histogram_buckets"]}
    assert (counts[10.0], counts[25.0], counts[500.0], counts[750.0], counts["+Inf"]) == (0, 1, 1, 2, 2)


# Every field


def test_a_span_has_the_ids_of_service_and_deployment_and_its_sampling() -> None:
    (item,) = traces(
        r"""spans { trace_state: "vendor=1,ot=rv:abcdef01234567;th:e66" kind: SPAN_KIND_PRODUCER
                    start_time_unix_nano: 9 end_time_unix_nano: 3 parent_span_id: "\000\000\000\000\000\000\000\000"
                    attributes { key: "list" value { array_value { values { int_value: 1 } values { } } } }
                    attributes { key: "raw" value { bytes_value: "\377" } }
                    attributes { key: "nan" value { double_value: nan } }
                    attributes { key: "none" } }"""
    )
    assert (item["service_id"], item["deployment_id"], item["span_kind"]) == ("svc_1", "dep_1", "producer")
    assert item["duration_ns"] == 0, "an end before the start"
    assert "parent_span_id" not in item
    assert item["attributes"] == {"list": "[1,null]", "raw": "/w==", "nan": "NaN", "sampling.threshold": "e66"}


@pytest.mark.parametrize(
    ("kind", "name"),
    [(0, "internal"), (1, "internal"), (2, "server"), (3, "client"), (5, "consumer"), (99, "internal")],
)
def test_span_kinds(kind: int, name: str) -> None:
    assert traces(f"spans {{ kind: {kind} }}")[0]["span_kind"] == name


@pytest.mark.parametrize(
    ("number", "text", "level"),
    [(1, "", "trace"), (4, "", "trace"), (5, "", "debug"), (9, "", "info"), (13, "", "warn"), (17, "", "error"),
     (20, "", "error"), (21, "", "fatal"), (24, "", "fatal"), (99, "", "fatal"), (-1, "", "info"), (0, "", "info"),
     (0, "WARNING", "warn"), (0, "Critical", "fatal"), (0, "odd", "info"), (9, "ERROR", "info")],
)  # fmt: skip
def test_levels(number: int, text: str, level: str) -> None:
    assert contract.level(number, text) == level


@pytest.mark.parametrize(("stream", "source"), [("stdout", "stdout"), ("stderr", "stderr"), ("file", "sdk")])
def test_lines_of_containers_name_their_stream(stream: str, source: str) -> None:
    (item,) = logs(
        f"""log_records {{ observed_time_unix_nano: 9 body {{ kvlist_value {{ values {{ key: "a" }} }} }}
            trace_id: "{chr(92)}000" attributes {{ key: "log.iostream" value {{ string_value: "{stream}" }} }} }}"""
    )
    assert item == {
        "timestamp": AT,
        "service_id": "svc_1",
        "deployment_id": "dep_1",
        "level": "info",
        "message": '{"a":null}',
        "attributes": {"log.iostream": stream},
        "source": source,
    }


def point(name: str, kind: str, value: float, labels: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    made = {"timestamp": AT, "service_id": "svc_1", "name": name, "type": kind, "value": value}
    return made | {"labels": labels or {}, **more}


METRICS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "gauge": (
        """name: "g" gauge { data_points { time_unix_nano: 9 as_int: -3
           attributes { key: "ok" value { bool_value: true } } }
           data_points { time_unix_nano: 9 as_double: nan } data_points { time_unix_nano: 9 }
           data_points { time_unix_nano: 9 as_int: 1 flags: 1 } }""",
        [point("g", "gauge", -3, {"ok": "true"})],
    ),
    "counter": (
        """name: "c" sum { is_monotonic: true aggregation_temporality: AGGREGATION_TEMPORALITY_CUMULATIVE
           data_points { time_unix_nano: 9 as_double: 2.5 } }""",
        [point("c", "counter", 2.5)],
    ),
    "delta": (
        """name: "c" sum { is_monotonic: true aggregation_temporality: AGGREGATION_TEMPORALITY_DELTA
           data_points { time_unix_nano: 9 as_int: 2 } }""",
        [point("c", "counter", 2, temporality="delta")],
    ),
    "up and down": (
        """name: "u" sum { data_points { time_unix_nano: 9 as_int: -2 } }""",
        [point("u", "gauge", -2)],
    ),
    "histogram": (
        """name: "h" histogram { data_points { time_unix_nano: 9 count: 6 sum: 7.5 explicit_bounds: [1, 2]
           bucket_counts: [1, 2, 3] } }""",
        [
            point(
                "h",
                "histogram",
                7.5,
                histogram_buckets=[{"le": 1.0, "count": 1}, {"le": 2.0, "count": 3}, {"le": "+Inf", "count": 6}],
            )
        ],
    ),
    "histogram without buckets": (
        """name: "h" histogram { data_points { time_unix_nano: 9 count: 6 sum: nan explicit_bounds: [1] } }""",
        [point("h", "histogram", 0.0, histogram_buckets=[{"le": "+Inf", "count": 6}])],
    ),
    "exponential histogram": (
        """name: "e" exponential_histogram { data_points { time_unix_nano: 9 count: 10 sum: 3 scale: 0 zero_count: 2
           zero_threshold: 0.25 positive { offset: 1 bucket_counts: [0, 3, 1, 0] }
           negative { offset: 0 bucket_counts: [1, 3] } } }""",
        [
            point(
                "e",
                "histogram",
                3.0,
                histogram_buckets=[
                    {"le": -2.0, "count": 3},
                    {"le": -1.0, "count": 4},
                    {"le": 0.25, "count": 6},
                    {"le": 8.0, "count": 9},
                    {"le": 16.0, "count": 10},
                    {"le": "+Inf", "count": 10},
                ],
            )
        ],
    ),
    "summary": (
        """name: "s" summary { data_points { time_unix_nano: 9 count: 4 sum: 2
           quantile_values { quantile: 0.5 value: 1 }
           quantile_values { quantile: 1 value: nan } } }""",
        [
            point("s", "gauge", 1.0, {"quantile": "0.5"}),
            point("s_count", "counter", 4),
            point("s_sum", "counter", 2.0),
        ],
    ),
    "nothing": ("""name: "n" """, []),
}


@pytest.mark.parametrize("name", list(METRICS))
def test_every_type_of_metric(name: str) -> None:
    text, expected = METRICS[name]
    assert metrics(f"metrics {{ {text} }}") == expected


@given(
    scale=st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(-10, 20),
    offset=st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(-500, 500),
    counts=st.lists(st.integers(0, 5), max_size=400),
)
@settings(deadline=None)
def test_an_exponential_histogram_has_few_ascending_buckets_that_hold_everything(
    scale: int, offset: int, counts: list[int]
) -> None:
    metric = Metric(name="e")
    made = metric.exponential_histogram.data_points.add(scale=scale, count=2 * sum(counts))
    for side in (made.positive, made.negative):
        side.offset = offset
        side.bucket_counts.extend(counts)
    (item,) = points(metric, "svc_1")
    *buckets, last = item["histogram_buckets"]
    assert len(buckets) <= MAX_EXPONENTIAL_BUCKETS + 1
    assert [bucket["le"] for bucket in buckets] == sorted(bucket["le"] for bucket in buckets)
    assert [bucket["count"] for bucket in buckets] == sorted(bucket["count"] for bucket in buckets)
    assert last == {"le": "+Inf", "count": 2 * sum(counts)}


# Any data


@pytest.mark.parametrize("signal", [Signal.TRACES, Signal.LOGS, Signal.METRICS])
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_request_has_items_that_are_json(signal: Signal, data: st.DataObject) -> None:
    request = data.draw(requests(signal)).SerializeToString()
    once = contract.items(signal, request)
    assert json.loads(json.dumps(once, allow_nan=False)) == json.loads(orjson.dumps(once))
    assert contract.items(signal, request + request) == once + once


@pytest.mark.parametrize("signal", list(Signal))
@given(data=st.binary(max_size=100))
@settings(deadline=None)
def test_any_bytes_are_items_or_bad_data(signal: Signal, data: bytes) -> None:
    try:
        found = contract.items(signal, data)
    except BadData:
        return
    assert all(isinstance(item, dict) for item in found)


def test_errors_are_what_their_lines_say() -> None:
    assert contract.items(Signal.ERRORS, b'{"id":"1"}\n[]\nnot json\n{"id":"2"}\n') == [{"id": "1"}, {"id": "2"}]


def test_profiles_have_no_place_in_the_contract() -> None:
    assert contract.items(Signal.PROFILES, b"anything") == []
