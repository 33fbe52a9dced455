"""Encoded traces requests as an SDK sends them, for benchmarks: spans of about 430 bytes with ten attributes."""

from __future__ import annotations

import random

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_TEXTS = {
    "http.request.method": "GET",
    "url.path": "/api/v1/orders/12345",
    "server.address": "checkout.internal",
    "client.address": "10.1.2.3",
    "user_agent.original": "Mozilla/5.0 (X11; Linux)",
    "http.route": "/api/v1/orders/{id}",
    "network.protocol.version": "1.1",
}
_RESOURCE = {
    "service.name": "checkout",
    "telemetry.sdk.language": "python",
    "telemetry.sdk.name": "opentelemetry",
    "telemetry.sdk.version": "1.45.2",
    "host.name": "web-1",
}


def traces_request(spans: int, seed: int) -> bytes:
    """A request with this many spans: each fifth is a server span, the others are its calls, each in its own trace."""
    rng = random.Random(seed)
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    for key, value in _RESOURCE.items():
        resource_spans.resource.attributes.add(key=key).value.string_value = value
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name, scope_spans.scope.version = "io.opentelemetry.http", "1.2"
    start = 1_790_000_000_000_000_000
    for index in range(spans):
        span = scope_spans.spans.add(
            trace_id=rng.randbytes(16),
            span_id=rng.randbytes(8),
            parent_span_id=rng.randbytes(8) if index % 5 else b"",
            name=f"GET /api/v1/orders/{index % 10}",
            kind=3 if index % 5 else 2,
            start_time_unix_nano=start,
            end_time_unix_nano=start + int(rng.lognormvariate(17, 1)),
            flags=0x101,
        )
        span.status.SetInParent()
        for key, value in _TEXTS.items():
            span.attributes.add(key=key).value.string_value = value
        numbers = {"http.response.status_code": 200, "server.port": 8080, "body.size": rng.randrange(100_000)}
        for key, number in numbers.items():
            span.attributes.add(key=key).value.int_value = number
    return request.SerializeToString()
