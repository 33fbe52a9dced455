"""OTLP requests for tests, and a processor that reads them with a clock in the test's hands."""

from __future__ import annotations

import random
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from syntra.telemetry.processing.identity import Identity
from syntra.telemetry.processing.outcome import ErrorExtractor, Processed
from syntra.telemetry.processing.processor import ProcessingSettings, Processor
from syntra.telemetry.sampling.threshold import adjusted_count, read
from syntra.telemetry.signals import Signal

START = 1_790_000_000_000_000_000
MS = 1_000_000
ERRORS = ErrorExtractor(
    from_span=lambda span, resource: [
        {"type": "span", "name": span.name, "service": resource.get("service.name")}
        for event in span.events
        if event.name == "exception"
    ],
    from_log=lambda record, resource: {"type": "log", "service": resource.get("service.name")},
    encode=lambda errors: "".join(f"{error}\n" for error in errors).encode(),
)
"""Small errors, so that tests of the pipeline do not depend on the contract's shape."""

IDENTITY = Identity(
    service_id="srv-1",
    service_name="checkout",
    deployment_id="dep-9",
    project="shop",
    container_id="c0ffee",
    replica="checkout-2",
)


def resource_of(**attributes: str) -> Resource:
    """A resource; `service_name` becomes `service.name`."""
    made = Resource()
    for key, value in attributes.items():
        made.attributes.append(text(key.replace("_", "."), value))
    return made


def text(key: str, value: str) -> KeyValue:
    """A string attribute."""
    made = KeyValue(key=key)
    made.value.string_value = value
    return made


def span(rng: random.Random, *, name: str = "GET /", duration_ms: float = 10, kind: int = 2, **given: Any) -> Span:
    """A valid span as SDKs send it. `error` sets the status, `exception` adds the event."""
    error, exception = given.pop("error", False), given.pop("exception", False)
    fields: dict[str, Any] = {
        "trace_id": rng.randbytes(16),
        "span_id": rng.randbytes(8),
        "name": name,
        "kind": kind,
        "start_time_unix_nano": START,
        "end_time_unix_nano": START + int(duration_ms * MS),
        "flags": 0x101,
        "attributes": [text("url.path", "/x"), text("user", "a" * rng.randrange(40))],
    } | given
    made = Span(**fields)
    made.status.SetInParent()
    if error:
        made.status.code, made.status.message = Status.STATUS_CODE_ERROR, "it failed"
    if exception:
        made.events.add(name="exception", time_unix_nano=START)
    return made


def traces(*spans: Span, service: str = "web") -> bytes:
    """An encoded request of one service."""
    request = ExportTraceServiceRequest()
    one = request.resource_spans.add(resource=resource_of(service_name=service))
    one.scope_spans.add(spans=spans).scope.name = "test"
    return request.SerializeToString()


def logs(*records: LogRecord, service: str = "web") -> bytes:
    """An encoded request of one service."""
    request = ExportLogsServiceRequest()
    one = request.resource_logs.add(resource=resource_of(service_name=service))
    one.scope_logs.add(log_records=records).scope.name = "test"
    return request.SerializeToString()


def spans_in(done: Processed) -> list[Span]:
    """The spans that were kept."""
    return [
        one
        for record in done.records
        if record.signal is Signal.TRACES
        for resource in ExportTraceServiceRequest.FromString(record.data).resource_spans
        for scope in resource.scope_spans
        for one in scope.spans
    ]


def logs_in(done: Processed) -> list[LogRecord]:
    """The log records that were kept."""
    return [
        one
        for record in done.records
        if record.signal is Signal.LOGS
        for resource in ExportLogsServiceRequest.FromString(record.data).resource_logs
        for scope in resource.scope_logs
        for one in scope.log_records
    ]


def represented(kept: list[Span]) -> float:
    """The estimate of how many spans there were: the sum of adjusted counts."""
    return sum(adjusted_count(read(one.trace_state).threshold or 0) for one in kept)


class Harness:
    """A processor, and the clock that it sees."""

    def __init__(self, **settings: float) -> None:
        self.now = 1000.0
        rng = random.Random(7)
        self.processor = Processor(
            ProcessingSettings(**settings),  # type: ignore[arg-type]  # counts are integers, rates are not
            ERRORS,
            clock=lambda: self.now,
            randomness=lambda: rng.getrandbits(56),
        )

    def traces(self, request: bytes, identity: Identity | None = None) -> Processed:
        """Process a traces request."""
        return self.processor.process(Signal.TRACES, request, identity)

    def logs(self, request: bytes, identity: Identity | None = None) -> Processed:
        """Process a logs request."""
        return self.processor.process(Signal.LOGS, request, identity)

    def settle(self, rng: random.Random, *, per_sec: int, secs: int = 60, service: str = "web") -> None:
        """Send this load for a time, so that the thresholds fit it."""
        for _ in range(secs):
            self.now += 1.0
            self.traces(traces(*(span(rng) for _ in range(per_sec)), service=service))
