"""Answers as bytes: what is cut, what is unset, and what each encoding looks like."""

from __future__ import annotations

import orjson
import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from syntra.telemetry.intake import BadData, Outcome, Overloaded
from syntra.telemetry.otlp import responses
from syntra.telemetry.otlp.responses import Encoding
from syntra.telemetry.signals import Signal

LONG = "ünicode \ud800 " * 1_000_000

REJECTED = {
    Signal.TRACES: (ExportTraceServiceResponse, "rejected_spans", "rejectedSpans"),
    Signal.METRICS: (ExportMetricsServiceResponse, "rejected_data_points", "rejectedDataPoints"),
    Signal.LOGS: (ExportLogsServiceResponse, "rejected_log_records", "rejectedLogRecords"),
    Signal.PROFILES: (ExportProfilesServiceResponse, "rejected_profiles", "rejectedProfiles"),
}


@pytest.mark.parametrize("signal", REJECTED)
def test_the_number_of_rejected_items_has_the_name_of_the_signal(signal: Signal) -> None:
    kind, field, key = REJECTED[signal]
    outcome = Outcome(rejected=2**40, message="too old")
    encoded = responses.success(signal, outcome, Encoding.PROTOBUF).body
    partial = kind.FromString(encoded).partial_success  # type: ignore[attr-defined]
    assert (getattr(partial, field), partial.error_message) == (2**40, "too old")
    document = orjson.loads(responses.success(signal, outcome, Encoding.JSON).body)
    assert document == {"partialSuccess": {key: "1099511627776", "errorMessage": "too old"}}


def test_full_success_leaves_partial_success_unset() -> None:
    assert responses.success(Signal.LOGS, Outcome(), Encoding.PROTOBUF).body == b""
    assert responses.success(Signal.LOGS, Outcome(), Encoding.JSON).body == b"{}"


def test_a_warning_has_no_rejected_items() -> None:
    outcome = Outcome(message="the clock is late")
    assert orjson.loads(responses.success(Signal.LOGS, outcome, Encoding.JSON).body) == {
        "partialSuccess": {"errorMessage": "the clock is late"}
    }


@pytest.mark.parametrize("encoding", [*Encoding, None])
def test_long_messages_are_cut_and_stay_valid(encoding: Encoding | None) -> None:
    answers = [responses.bad_data(BadData(LONG), encoding), responses.overloaded(Overloaded(LONG, 1), encoding)]
    if encoding is not None:
        answers.append(responses.success(Signal.TRACES, Outcome(rejected=1, message=LONG), encoding))
    for answer in answers:
        assert len(answer.body) < 16_384
        if answer.content_type == Encoding.JSON.value:
            orjson.loads(answer.body)


@pytest.mark.parametrize(
    "status", [400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 417, 429, 431, 500, 501, 503, 505]
)
def test_every_refusal_is_a_status_in_the_encoding_of_the_request(status: int) -> None:
    protobuf = responses.refusal(status, "no", Encoding.PROTOBUF)
    parsed = Status.FromString(protobuf.body)
    assert (protobuf.status, parsed.message) == (status, "no")
    assert parsed.code
    for encoding in (Encoding.JSON, None):
        answer = responses.refusal(status, "no", encoding)
        assert answer.content_type == "application/json"
        assert orjson.loads(answer.body) == {"code": parsed.code, "message": "no"}


@pytest.mark.parametrize(("secs", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.2, "2"), (30.0, "30")])
def test_retry_after_is_in_whole_seconds_and_never_zero(secs: float, header: str) -> None:
    answer = responses.overloaded(Overloaded("full", secs), Encoding.PROTOBUF)
    assert dict(answer.headers) == {"Retry-After": header}


def test_grpc_errors_carry_their_details() -> None:
    bad = responses.rpc_bad_data(BadData("wrong", "resource_logs[2]"))
    violation = BadRequest()
    assert Status.FromString(bad.details).details[0].Unpack(violation)
    assert (bad.code, violation.field_violations[0].field) == (3, "resource_logs[2]")
    busy = responses.rpc_overloaded(Overloaded("full", 0.25))
    retry = RetryInfo()
    assert Status.FromString(busy.details).details[0].Unpack(retry)
    assert (busy.code, retry.retry_delay.ToMilliseconds()) == (14, 250)
    assert Status.FromString(responses.rpc_internal("bug").details).code == 13
