"""Records as items of the contract's TelemetryData 1.0, for control planes that know no more. Pure.

A record's data is what the ring gives back: encoded Export…ServiceRequests, one behind the other, or lines of JSON for
errors. Links of spans, scopes and resources have no place in the contract and are left out, except the ids of service
and deployment. Profiles have none either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from syntra.telemetry.attributes import flat, identity, text
from syntra.telemetry.intake import BadData
from syntra.telemetry.shipping.contract_metrics import points
from syntra.telemetry.signals import Signal
from syntra.utils.timestamps import format_ns

Item = dict[str, Any]

_SPAN_KINDS = ("internal", "internal", "server", "client", "producer", "consumer")
_STATUS_CODES = ("unset", "ok", "error")
_LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")
_LEVEL_OF_TEXT = {
    **{level: level for level in _LEVELS},
    **dict.fromkeys(("information", "informational", "notice", "log"), "info"),
    **dict.fromkeys(("warning",), "warn"),
    **dict.fromkeys(("err", "severe"), "error"),
    **dict.fromkeys(("critical", "crit", "alert", "emerg", "emergency", "panic"), "fatal"),
}
_THRESHOLD = re.compile(r"(?:^|,) *ot=(?:[^,]*;)?th:([0-9a-f]{1,14})(?:[;,]|$)")
_STREAMS = ("stdout", "stderr")


def items(signal: Signal, data: bytes) -> list[Item]:
    """The items of a record's data, in the shape of the list of that name in TelemetryData.

    Raises BadData when the data cannot be decoded. Lines of errors that are no objects are left out.
    """
    read = _READERS.get(signal)
    if read is None:
        return []
    try:
        return list(read(data))
    except DecodeError as exc:
        raise BadData(f"cannot decode {signal.value}: {exc}") from exc


def level(severity_number: int, severity_text: str) -> str:
    """The contract's level of a log record: by number in steps of four, else by the usual names, else `info`."""
    if severity_number > 0:
        return _LEVELS[min((severity_number - 1) // 4, 5)]
    return _LEVEL_OF_TEXT.get(severity_text.lower(), "info")


def _traces(data: bytes) -> Iterator[Item]:
    for resource_spans in ExportTraceServiceRequest.FromString(data).resource_spans:
        service_id, deployment_id = identity(flat(resource_spans.resource.attributes))
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield _span(span, service_id, deployment_id)


def _span(span: Span, service_id: str, deployment_id: str) -> Item:
    start = span.start_time_unix_nano
    status = {"code": _named(_STATUS_CODES, span.status.code)}
    if span.status.message:
        status["message"] = span.status.message
    attributes = flat(span.attributes)
    if span.trace_state and (threshold := _THRESHOLD.search(span.trace_state)):
        # By the name that OpenTelemetry has for it on logs: how many spans this one represents.
        attributes.setdefault("sampling.threshold", threshold[1])
    item = {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "service_id": service_id,
        "deployment_id": deployment_id,
        "operation_name": span.name,
        "span_kind": _named(_SPAN_KINDS, span.kind),
        "start_time_ns": start,
        "duration_ns": max(0, span.end_time_unix_nano - start),
        "status": status,
        "attributes": attributes,
        "events": [
            {"name": event.name, "timestamp_ns": event.time_unix_nano, "attributes": flat(event.attributes)}
            for event in span.events
        ],
    }
    if any(span.parent_span_id):
        item["parent_span_id"] = span.parent_span_id.hex()
    return item


def _logs(data: bytes) -> Iterator[Item]:
    for resource_logs in ExportLogsServiceRequest.FromString(data).resource_logs:
        resource = flat(resource_logs.resource.attributes)
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                yield _log_record(record, resource)


def _log_record(record: LogRecord, resource: Mapping[str, object]) -> Item:
    service_id, deployment_id = identity(resource)
    attributes = flat(record.attributes)
    stream = attributes.get("log.iostream")
    item: Item = {
        "timestamp": format_ns(record.time_unix_nano or record.observed_time_unix_nano),
        "service_id": service_id,
        "deployment_id": deployment_id,
        "level": level(record.severity_number, record.severity_text),
        "message": text(record.body),
        "attributes": attributes,
        "source": stream if stream in _STREAMS else "sdk",
    }
    if len(record.trace_id) == 16 and any(record.trace_id):
        item["trace_id"] = record.trace_id.hex()
    if len(record.span_id) == 8 and any(record.span_id):
        item["span_id"] = record.span_id.hex()
    return item


def _metrics(data: bytes) -> Iterator[Item]:
    for resource_metrics in ExportMetricsServiceRequest.FromString(data).resource_metrics:
        service_id, _ = identity(flat(resource_metrics.resource.attributes))
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                yield from points(metric, service_id)


def _errors(data: bytes) -> Iterator[Item]:
    for line in data.splitlines():
        try:
            item = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(item, dict):
            yield item


def _named(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else names[0]


_READERS: dict[Signal, Callable[[bytes], Iterator[Item]]] = {
    Signal.TRACES: _traces,
    Signal.LOGS: _logs,
    Signal.METRICS: _metrics,
    Signal.ERRORS: _errors,
}
