"""Requests of each signal, and batches of them as the ring makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import zstandard
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from syntra.telemetry.shipping.destination import Part
from syntra.telemetry.signals import Signal

# Empty messages are set as the Collector sets them, so that what it passes on is equal.
KINDS: dict[Signal, Any] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
    Signal.PROFILES: ExportProfilesServiceRequest,
}


def traces(*names: str, service: str = "shop", padding: int = 0) -> bytes:
    """A request with one span for each name."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add(schema_url="r")
    attribute = resource.resource.attributes.add(key="service.name")
    attribute.value.string_value = service
    scope = resource.scope_spans.add(schema_url="s")
    scope.scope.name = "test"
    for number, name in enumerate(names, start=1):
        span = scope.spans.add(name=name, trace_id=number.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"))
        span.start_time_unix_nano, span.end_time_unix_nano = 1, 2
        span.status.SetInParent()
        if padding:
            span.attributes.add(key="padding").value.string_value = "x" * padding
    return request.SerializeToString()


def metrics(*names: str) -> bytes:
    """A request with one gauge of two data points for each name."""
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    resource.resource.SetInParent()
    scope = resource.scope_metrics.add()
    scope.scope.SetInParent()
    for name in names:
        gauge = scope.metrics.add(name=name).gauge
        for value in (1.0, 2.0):
            gauge.data_points.add(time_unix_nano=1, as_double=value)
    return request.SerializeToString()


def logs(*bodies: str) -> bytes:
    """A request with one log record for each body."""
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.SetInParent()
    scope = resource.scope_logs.add()
    scope.scope.SetInParent()
    for body in bodies:
        scope.log_records.add(time_unix_nano=1).body.string_value = body
    return request.SerializeToString()


def profiles(name: str) -> bytes:
    """A request with one profile and its own dictionary."""
    request = ExportProfilesServiceRequest()
    request.dictionary.string_table.extend(["", name])
    profile = request.resource_profiles.add().scope_profiles.add().profiles.add()
    profile.profile_id = bytes(range(16))
    return request.SerializeToString()


def batch(signal: Signal, requests: Sequence[bytes], items: int) -> Part:
    """A batch with one block for each request."""
    compressor = zstandard.ZstdCompressor(level=1)
    blocks = tuple(compressor.compress(each) for each in requests)
    return Part(signal=signal, blocks=blocks, items=items, raw_bytes=sum(map(len, requests)))


SAMPLES = {
    Signal.TRACES: batch(Signal.TRACES, [traces("a", "b"), traces("c")], 3),
    Signal.METRICS: batch(Signal.METRICS, [metrics("cpu"), metrics("memory", "disk")], 6),
    Signal.LOGS: batch(Signal.LOGS, [logs("one"), logs("two", "three")], 3),
    Signal.PROFILES: batch(Signal.PROFILES, [profiles("p"), profiles("q")], 2),
}


def span_names(request: Any) -> list[str]:
    """Names of all spans of a decoded request."""
    return [span.name for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
