"""Items of OTLP requests in the shape of the contract's TelemetryData. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from syntra.controlplane.telemetry.blocks import Kind
from syntra.controlplane.telemetry.lines import Item
from syntra.utils.timestamps import format_ns

_SPAN_KINDS = ("internal", "internal", "server", "client", "producer", "consumer")
_STATUSES = ("unset", "ok", "error")
# Severity numbers in steps of four (logs data model, "Field: SeverityNumber").
_LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")


def decode_items(kind: Kind, request: bytes) -> Iterator[Item]:
    """The items of an Export…ServiceRequest for traces, logs or metrics. Raises DecodeError."""
    return _DECODERS[kind](request)


def _spans(request: bytes) -> Iterator[Item]:
    for resource_spans in ExportTraceServiceRequest.FromString(request).resource_spans:
        identity = _identity(resource_spans.resource)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield _span(span, identity)


def _span(span: Span, identity: Mapping[str, str]) -> Item:
    status: dict[str, str] = {"code": _named(_STATUSES, span.status.code)}
    if span.status.message:
        status["message"] = span.status.message
    item: dict[str, object] = {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        **identity,
        "operation_name": span.name,
        "span_kind": _named(_SPAN_KINDS, span.kind),
        "start_time_ns": span.start_time_unix_nano,
        "duration_ns": max(0, span.end_time_unix_nano - span.start_time_unix_nano),
        "status": status,
        "attributes": _flat(span.attributes),
        "events": [
            {"name": event.name, "timestamp_ns": event.time_unix_nano, "attributes": _flat(event.attributes)}
            for event in span.events
        ],
    }
    if span.parent_span_id:
        item["parent_span_id"] = span.parent_span_id.hex()
    return item


def _log_records(request: bytes) -> Iterator[Item]:
    for resource_logs in ExportLogsServiceRequest.FromString(request).resource_logs:
        identity = _identity(resource_logs.resource)
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                yield _log_record(record, identity)


def _log_record(record: LogRecord, identity: Mapping[str, str]) -> Item:
    body = _plain(record.body)
    attributes = _flat(record.attributes)
    stream = attributes.get("log.iostream")
    item: dict[str, object] = {
        "timestamp": _timestamp(record.time_unix_nano or record.observed_time_unix_nano),
        **identity,
        "level": _LEVELS[min(max(record.severity_number - 1, 0) // 4, 5)] if record.severity_number else "info",
        "message": body if isinstance(body, str) else "" if body is None else json.dumps(body),
        "attributes": attributes,
        "source": stream if stream in ("stdout", "stderr") else "sdk",
    }
    if record.trace_id:
        item["trace_id"] = record.trace_id.hex()
    if record.span_id:
        item["span_id"] = record.span_id.hex()
    return item


def _metrics(request: bytes) -> Iterator[Item]:
    for resource_metrics in ExportMetricsServiceRequest.FromString(request).resource_metrics:
        service = _identity(resource_metrics.resource)["service_id"]
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                yield from _points(metric, service)


def _points(metric: Metric, service: str) -> Iterator[Item]:
    data = metric.WhichOneof("data")
    if data is None:
        return
    values = getattr(metric, data)
    is_counter = data == "sum" and values.is_monotonic
    kind = "counter" if is_counter else "gauge" if data in ("gauge", "sum") else "histogram"
    for point in values.data_points:
        item: dict[str, object] = {
            "timestamp": _timestamp(point.time_unix_nano),
            "service_id": service,
            "name": metric.name,
            "type": kind,
            "labels": {key: str(value) for key, value in _flat(point.attributes).items()},
        }
        if kind != "histogram":
            number = point.WhichOneof("value")
            item["value"] = getattr(point, number) if number is not None else None
        else:
            item["value"] = point.sum
            if data == "histogram":
                item["histogram_buckets"] = list(_buckets(point.explicit_bounds, point.bucket_counts))
        if getattr(values, "aggregation_temporality", 0) == AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA:
            item["temporality"] = "delta"
        yield item


def _buckets(bounds: Iterable[float], counts: Iterable[int]) -> Iterator[dict[str, object]]:
    """Cumulative, as Prometheus has them: `le` is the upper bound."""
    below = 0
    for bound, count in zip([*bounds, "+Inf"], counts, strict=False):
        below += count
        yield {"le": bound, "count": below}


def _identity(resource: Resource) -> dict[str, str]:
    attributes = _flat(resource.attributes)
    service = attributes.get("syntra.service.id") or attributes.get("service.name") or ""
    return {"service_id": str(service), "deployment_id": str(attributes.get("syntra.deployment.id", ""))}


def _flat(attributes: Iterable[KeyValue]) -> dict[str, str | int | float | bool]:
    """Strings, numbers and booleans as they are, other values as JSON text."""
    flat: dict[str, str | int | float | bool] = {}
    for attribute in attributes:
        value = _plain(attribute.value)
        flat[attribute.key] = value if isinstance(value, str | int | float) else json.dumps(value)
    return flat


def _plain(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [_plain(member) for member in value.array_value.values]
        case "kvlist_value":
            return {member.key: _plain(member.value) for member in value.kvlist_value.values}
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case name:
            return getattr(value, name)


def _timestamp(time_ns: int) -> str | None:
    return format_ns(time_ns) if time_ns else None


def _named(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else names[0]


_DECODERS: dict[Kind, Callable[[bytes], Iterator[Item]]] = {
    Kind.TRACES: _spans,
    Kind.LOGS: _log_records,
    Kind.METRICS: _metrics,
}
