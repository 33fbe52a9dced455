"""Telemetry as agents send it: OTLP requests, frames, and the contract's batches."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

import zstandard
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from syntra.telemetry.wire import telemetry_pb2 as wire

SECOND = 10**9
START = 1_767_323_045 * SECOND
"""2026-01-02T03:04:05Z, the time of the first item of each sample."""

EXTENSIONS = ["binary_telemetry", "telemetry_ack"]


def traces(count: int = 1, *, service: str = "api", service_id: str = "", first: int = 0) -> bytes:
    """Spans `first`, `first` + 1, …, a second apart; the number is in name, span id and trace id."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    _identify(resource_spans.resource, service, service_id)
    spans = resource_spans.scope_spans.add().spans
    for number in range(first, first + count):
        span = spans.add(trace_id=trace_id(number), span_id=number.to_bytes(8, "big"), name=f"span {number}", kind=2)
        span.start_time_unix_nano = START + number * SECOND
        span.end_time_unix_nano = span.start_time_unix_nano + 1000
    return request.SerializeToString()


def trace_id(number: int) -> bytes:
    return (number + 2**64).to_bytes(16, "big")


def logs(count: int = 1, *, service: str = "api", first: int = 0) -> bytes:
    request = ExportLogsServiceRequest()
    resource_logs = request.resource_logs.add()
    _identify(resource_logs.resource, service, "")
    records = resource_logs.scope_logs.add().log_records
    for number in range(first, first + count):
        record = records.add(time_unix_nano=START + number * SECOND, severity_number=17)
        record.body.string_value = f"line {number}"
    return request.SerializeToString()


def metrics(*values: float, service: str = "api") -> bytes:
    request = ExportMetricsServiceRequest()
    resource_metrics = request.resource_metrics.add()
    _identify(resource_metrics.resource, service, "")
    metric = resource_metrics.scope_metrics.add().metrics.add(name="requests")
    for number, value in enumerate(values):
        metric.gauge.data_points.add(time_unix_nano=START + number * SECOND, as_double=value)
    return request.SerializeToString()


def frame(
    batch_id: str, data: bytes, signal: int = wire.SIGNAL_TRACES, *, packed: bytes | None = None, **changes: Any
) -> bytes:
    """An encoded TelemetryFrame, its data as one zstd frame; or as `packed` says."""
    fields: dict[str, Any] = {
        "batch_id": batch_id,
        "agent_id": "agt_1",
        "signal": signal,
        "compression": wire.COMPRESSION_ZSTD,
        "data": zstandard.compress(data) if packed is None else packed,
        "items": 1,
        **changes,
    }
    return wire.TelemetryFrame(**fields).SerializeToString()


def lines(items: Iterable[object]) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def batch(batch_id: str, *, compress: bool = True, **lists: list[dict[str, Any]]) -> dict[str, Any]:
    """The payload of a `telemetry_batch`."""
    data: object = {"errors": [], "traces": [], "logs": [], "metrics": [], "health_checks": [], **lists}
    if compress:
        data = base64.b64encode(zstandard.compress(json.dumps(data).encode())).decode()
    return {
        "batch_id": batch_id,
        "agent_id": "agt_1",
        "compression": "zstd" if compress else "none",
        "data": data,
    }


def log_item(number: int, service: str = "api") -> dict[str, Any]:
    return {
        "timestamp": f"2026-01-02T03:04:{5 + number:02d}.000Z",
        "service_id": service,
        "level": "info",
        "message": f"line {number}",
    }


def _identify(resource: Resource, service: str, service_id: str) -> None:
    for key, value in (("service.name", service), ("syntra.service.id", service_id)):
        if value:
            resource.attributes.add(key=key).value.string_value = value
