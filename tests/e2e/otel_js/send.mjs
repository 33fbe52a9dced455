// Sends with the official OpenTelemetry SDK: node send.mjs PROTOCOL ENDPOINT SERVICE COMPRESSION
// One trace of three spans (one fails with an exception), a counter and a histogram, and a log record.

import { SpanKind, SpanStatusCode, context, trace } from "@opentelemetry/api";
import { SeverityNumber } from "@opentelemetry/api-logs";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

const [protocol, endpoint, service, compression] = process.argv.slice(2);
const kind = { grpc: "grpc", "http/protobuf": "proto", "http/json": "http" }[protocol];

async function exporter(signal, path, name) {
  const found = await import(`@opentelemetry/exporter-${signal}-otlp-${kind}`);
  const url = kind === "grpc" ? endpoint : `${endpoint}/v1/${path}`;
  return new found[name]({ url, compression });
}

const resource = resourceFromAttributes({ "service.name": service });
const spans = await exporter("trace", "traces", "OTLPTraceExporter");
const tracing = new BasicTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(spans)] });
const points = await exporter("metrics", "metrics", "OTLPMetricExporter");
const reader = new PeriodicExportingMetricReader({ exporter: points, exportIntervalMillis: 60_000 });
const measuring = new MeterProvider({ resource, readers: [reader] });
const records = await exporter("logs", "logs", "OTLPLogExporter");
const logging = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter: records })] });

const tracer = tracing.getTracer("shop");
const root = tracer.startSpan("GET /cart", { kind: SpanKind.SERVER });
const inside = trace.setSpan(context.active(), root);
tracer.startSpan("SELECT carts", {}, inside).end();
const charge = tracer.startSpan("charge", {}, inside);
const error = new Error("card refused");
charge.recordException(error);
charge.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
const meter = measuring.getMeter("shop");
meter.createCounter("carts").add(3, { kind: "new" });
meter.createHistogram("duration", { unit: "s" }).record(0.25);
logging.getLogger("shop").emit({
  severityNumber: SeverityNumber.ERROR,
  body: "cannot charge",
  context: trace.setSpan(context.active(), charge),
});
charge.end();
root.end();
await Promise.all([tracing.shutdown(), measuring.shutdown(), logging.shutdown()]);
