"""What peers answer: delays, partial success, and texts that are not trusted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceResponse

from syntra.telemetry.shipping.answers import (
    MESSAGE_MAX,
    error_message,
    partial_success,
    retry_after,
    shortened,
    status_of,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "secs"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("Fri, 02 Jan 2026 03:04:35 GMT", 30.0),
        ("Fri, 02 Jan 2026 03:04:00 GMT", 0.0),
        ("9" * 400, 999_999_999.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("²", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, secs: float | None) -> None:
    assert retry_after(value, NOW) == secs


def test_partial_success_is_read_for_every_signal() -> None:
    logs = ExportLogsServiceResponse()
    logs.partial_success.rejected_log_records = 4
    metrics = ExportMetricsServiceResponse()
    metrics.partial_success.rejected_data_points = 5
    profiles = ExportProfilesServiceResponse()
    profiles.partial_success.rejected_profiles = 6
    profiles.partial_success.error_message = "why"
    assert partial_success(logs.SerializeToString()) == (4, "")
    assert partial_success(metrics.SerializeToString()) == (5, "")
    assert partial_success(profiles.SerializeToString()) == (6, "why")
    assert partial_success(b"") == (0, "")


def test_a_body_cut_anywhere_is_no_error() -> None:
    logs = ExportLogsServiceResponse()
    logs.partial_success.rejected_log_records = 4
    logs.partial_success.error_message = "four are too old"
    body = logs.SerializeToString()
    for end in range(len(body)):
        assert partial_success(body[:end]) == (0, "")


def test_retry_info_is_found_among_other_details() -> None:
    status = Status(message="busy")
    status.details.add().Pack(BadRequest())
    status.details.add().Pack(RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000)))
    data = status.SerializeToString()
    assert status_of(data) == ("busy", 1.5)
    for end in range(len(data)):
        status_of(data[:end])  # never raises


def test_a_detail_that_cannot_be_decoded_is_skipped() -> None:
    status = Status()
    detail = status.details.add()
    detail.type_url, detail.value = "type.googleapis.com/google.rpc.RetryInfo", b"\xff"
    assert status_of(status.SerializeToString()) == ("", None)


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("text/plain; charset=utf-8", b"no\nsuch  tenant", "no such tenant"),
        ("application/json", b'{"message":"x"}', '{"message":"x"}'),
        ("application/x-protobuf", Status(message="m").SerializeToString(), "m"),
        ("text/html", b"<h1>no</h1>", ""),
        ("", b"raw", ""),
    ],
)
def test_the_text_of_an_error_body(kind: str, body: bytes, text: str) -> None:
    assert error_message(kind, body) == (text, None)


def test_texts_of_peers_become_one_short_printable_line() -> None:
    assert shortened("a\x1b[31m\r\nb\x00") == "a [31m b"
    assert len(shortened("x" * 10_000)) == MESSAGE_MAX
