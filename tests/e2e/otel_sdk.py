"""Sends with the official OpenTelemetry SDK: `python -m tests.e2e.otel_sdk PROTOCOL ENDPOINT SERVICE COMPRESSION`.

One trace of three spans (one fails with an exception), a counter and a histogram, and a log record through `logging`.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def exporters(protocol: str, endpoint: str, compression: str) -> tuple[Any, Any, Any]:
    """Exporters of traces, metrics and logs."""
    if protocol == "grpc":
        from grpc import Compression
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans

        packed = Compression.Gzip if compression == "gzip" else Compression.NoCompression
        options: dict[str, Any] = {"endpoint": endpoint, "insecure": True, "compression": packed}
        return GrpcSpans(**options), GrpcMetrics(**options), GrpcLogs(**options)
    from opentelemetry.exporter.otlp.proto.http import Compression as HttpCompression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans

    form = HttpCompression.Gzip if compression == "gzip" else HttpCompression.NoCompression
    return (
        HttpSpans(endpoint=f"{endpoint}/v1/traces", compression=form),
        HttpMetrics(endpoint=f"{endpoint}/v1/metrics", compression=form),
        HttpLogs(endpoint=f"{endpoint}/v1/logs", compression=form),
    )


def main(protocol: str, endpoint: str, service: str, compression: str) -> None:
    """Send everything once, and wait until it is sent."""
    resource = Resource.create({"service.name": service})
    of_traces, of_metrics, of_logs = exporters(protocol, endpoint, compression)
    tracing = TracerProvider(resource=resource)
    tracing.add_span_processor(BatchSpanProcessor(of_traces))
    measuring = MeterProvider([PeriodicExportingMetricReader(of_metrics)], resource=resource)
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(BatchLogRecordProcessor(of_logs))
    trace.set_tracer_provider(tracing)
    metrics.set_meter_provider(measuring)
    log = logging.getLogger("shop")
    log.addHandler(LoggingHandler(logger_provider=logs))
    tracer, meter = trace.get_tracer("shop"), metrics.get_meter("shop")
    with tracer.start_as_current_span("GET /cart", kind=trace.SpanKind.SERVER):
        with tracer.start_as_current_span("SELECT carts"):
            meter.create_counter("carts").add(3, {"kind": "new"})
            meter.create_histogram("duration", unit="s").record(0.25)
        try:
            with tracer.start_as_current_span("charge"):
                raise ValueError("card refused")
        except ValueError:
            log.exception("cannot charge")
    tracing.shutdown()
    measuring.shutdown()
    logs.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
