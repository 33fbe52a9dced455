"""The official Python SDK exports traces, metrics and logs to both receivers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcTraces
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpTraces
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from syntra.telemetry.otlp.grpc_server import GrpcReceiver
from syntra.telemetry.signals import Signal
from tests.telemetry.otlp.http_client import receiver
from tests.telemetry.otlp.running import running
from tests.telemetry.otlp.small_intake import SmallIntake


def export(traces: Any, metrics: Any, logs: Any) -> None:
    """Twenty spans, a counter and ten log records."""
    tracing = TracerProvider()
    tracing.add_span_processor(BatchSpanProcessor(traces))
    for number in range(20):
        with tracing.get_tracer("test").start_as_current_span(f"span {number}"):
            continue
    assert tracing.force_flush()
    metering = MeterProvider([PeriodicExportingMetricReader(metrics, export_interval_millis=600_000)])
    metering.get_meter("test").create_counter("requests").add(7)
    assert metering.force_flush()
    logging_provider = LoggerProvider()
    logging_provider.add_log_record_processor(BatchLogRecordProcessor(logs))
    for number in range(10):
        logging_provider.get_logger("test").emit(LogRecord(body=f"record {number}"))
    assert logging_provider.force_flush()
    tracing.shutdown()
    metering.shutdown()
    logging_provider.shutdown()


def encoded(intake: SmallIntake, signal: Signal) -> Iterator[bytes]:
    for kind, body, _ in intake.received:
        if kind is signal:
            assert isinstance(body, bytes)
            yield body


def check(intake: SmallIntake) -> None:
    spans = ExportTraceServiceRequest.FromString(b"".join(encoded(intake, Signal.TRACES)))
    names = [span.name for one in spans.resource_spans for scope in one.scope_spans for span in scope.spans]
    assert names == [f"span {number}" for number in range(20)]
    metrics = ExportMetricsServiceRequest.FromString(next(encoded(intake, Signal.METRICS)))
    assert metrics.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0].as_int == 7
    logs = ExportLogsServiceRequest.FromString(b"".join(encoded(intake, Signal.LOGS)))
    records = [record for one in logs.resource_logs for scope in one.scope_logs for record in scope.log_records]
    assert [record.body.string_value for record in records] == [f"record {number}" for number in range(10)]


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip, Compression.Deflate])
def test_over_http(compression: Compression) -> None:
    intake = SmallIntake()
    server = receiver(intake)
    base = f"http://127.0.0.1:{server.listen('127.0.0.1')}/v1"
    export(
        HttpTraces(f"{base}/traces", compression=compression),
        HttpMetrics(f"{base}/metrics", compression=compression),
        HttpLogs(f"{base}/logs", compression=compression),
    )
    server.close(1.0)
    check(intake)


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_over_grpc(compression: grpc.Compression) -> None:
    intake = SmallIntake()
    server = GrpcReceiver(intake, port=0)
    async with running(server):
        place = f"http://127.0.0.1:{await server.listen('127.0.0.1')}"
        exporters = [kind(place, compression=compression) for kind in (GrpcTraces, GrpcMetrics, GrpcLogs)]
        await asyncio.to_thread(export, *exporters)
    check(intake)
