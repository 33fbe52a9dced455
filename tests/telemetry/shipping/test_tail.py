"""What `telemetry tail` shows of a record: a line for people, or JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.telemetry.otlp.json_decoder import decode_json
from syntra.telemetry.shipping import tail
from syntra.telemetry.signals import Signal
from tests.telemetry.otlp.messages import requests
from tests.telemetry.otlp.sdk_samples import BY_NAME


def lines(name: str) -> list[str]:
    sample = BY_NAME[name]
    data = decode_json(sample.signal, sample.body) if sample.is_json else sample.body
    return [tail.as_line(item) for item in tail.items(sample.signal, data)]


def test_spans() -> None:
    assert lines("otel-js-json.traces") == [
        "00:48:40.161  traces  shop              SELECT orders  client  509µs  error: gone"
        "  trace=ba54a18f001918264d1e15ee15a11cb1",
        "00:48:40.160  traces  shop              checkout  server  1.23ms  unset"
        "  trace=ba54a18f001918264d1e15ee15a11cb1",
    ]


def test_log_records() -> None:
    assert lines("otel-js-json.logs") == [
        "00:48:40.162  logs    shop              WARN   stock low  trace=ba54a18f001918264d1e15ee15a11cb1"
    ]


def test_metrics() -> None:
    assert lines("otel-js-json.metrics") == [
        "00:48:40.189  metrics shop              orders{country=nl}  3",
        "00:48:40.189  metrics shop              open  -1",
        "00:48:40.189  metrics shop              wait  count=2 sum=712.5",
    ]


def test_errors() -> None:
    data = (
        b'{"timestamp":"2026-01-02T03:04:05.678901234Z","service_id":"svc_1","type":"TypeError","message":"gone",'
        b'"stack_trace":[{"filename":"/app/a.js","lineno":3,"function":"pay"}]}\n{"type":"E","message":"m"}\n'
    )
    assert [tail.as_line(item) for item in tail.items(Signal.ERRORS, data)] == [
        "03:04:05.678  errors  svc_1             TypeError: gone  at /app/a.js:3 in pay",
        "  errors  -                 E: m",
    ]


def test_json_has_the_signal_and_the_item() -> None:
    sample = BY_NAME["otel-python-protobuf.traces"]
    shown = [json.loads(tail.as_json(item)) for item in tail.items(sample.signal, sample.body)]
    assert {item["signal"] for item in shown} == {"traces"}
    assert "checkout" in {item["operation_name"] for item in shown}


def test_one_service() -> None:
    sample = BY_NAME["otel-python-protobuf.traces"]
    assert list(tail.items(sample.signal, sample.body, service="other")) == []
    assert len(list(tail.items(sample.signal, sample.body, service="shop"))) == 2


def test_text_of_a_sender_cannot_control_the_terminal() -> None:
    document = {
        "resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "a\x1b[2J\nb\u202e" + "x" * 999}}]}]}]
    }
    data = decode_json(Signal.LOGS, json.dumps(document).encode())
    (line,) = [tail.as_line(item) for item in tail.items(Signal.LOGS, data)]
    assert "a·[2J·b·x" in line
    assert line.isprintable()
    assert len(line) < 400
    assert line.endswith("x…")


@pytest.mark.parametrize("signal", [Signal.TRACES, Signal.LOGS, Signal.METRICS, Signal.PROFILES])
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_any_request_is_printable_lines(signal: Signal, data: st.DataObject) -> None:
    for item in tail.items(signal, data.draw(requests(signal)).SerializeToString()):
        assert tail.as_line(item).isprintable()
        assert json.loads(tail.as_json(item))["signal"] == signal.value
