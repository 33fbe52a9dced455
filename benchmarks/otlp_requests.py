"""Realistic trace requests, encoded once; every request that leaves has ids of its own, written over those before."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from syntra.utils.frozen import frozen

TEMPLATES = 64
"""Different requests; the first has a trace with an error."""
SPANS_PER_TRACE = 8
SERVICES = ("frontend", "checkout", "payment", "catalogue")
OPERATIONS = ("GET /api/cart", "POST /api/checkout", "GET /api/products/{id}", "charge", "query orders", "reserve")
START_NS = 1_790_000_000_000_000_000


@frozen
class Place:
    """Where an id stands in a request: `size` bytes at `offset`, from `source` on in the pool of new ids."""

    offset: int
    size: int
    source: int


class Template:
    """One encoded request whose ids change."""

    def __init__(self, body: bytes, ids: list[bytes], *, is_json: bool) -> None:
        self._body = bytearray(body)
        self._is_json = is_json
        self._pool_size = sum(map(len, ids))
        self._plan: list[tuple[slice, slice]] = []
        source = 0
        for each in ids:
            text = each.hex().encode() if is_json else each
            begin = source * (2 if is_json else 1)
            for offset in _occurrences(body, text):
                self._plan.append((slice(offset, offset + len(text)), slice(begin, begin + len(text))))
            source += len(each)

    def next(self, chance: random.Random) -> bytes:
        """The request with new ids."""
        pool = chance.randbytes(self._pool_size)
        if self._is_json:
            pool = pool.hex().encode()
        body = self._body
        for place, source in self._plan:
            body[place] = pool[source]
        return bytes(body)


def templates(spans: int, *, is_json: bool) -> list[Template]:
    """The same requests at every call, with `spans` spans each."""
    chance = random.Random(11)
    made = []
    for number in range(TEMPLATES):
        request, ids = _request(spans, chance, with_error=number == 0)
        body = _json(request) if is_json else request.SerializeToString()
        made.append(Template(body, ids, is_json=is_json))
    return made


def _request(spans: int, chance: random.Random, *, with_error: bool) -> tuple[ExportTraceServiceRequest, list[bytes]]:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    service = chance.choice(SERVICES)
    for key, value in (
        ("service.name", service),
        ("service.version", "2.14.0"),
        ("service.instance.id", f"{service}-7f9c-{chance.randrange(4)}"),
        ("telemetry.sdk.language", "python"),
        ("telemetry.sdk.name", "opentelemetry"),
        ("telemetry.sdk.version", "1.45.2"),
    ):
        resource.resource.attributes.add(key=key).value.string_value = value
    scope = resource.scope_spans.add()
    scope.scope.name, scope.scope.version = "opentelemetry.instrumentation.asgi", "0.66b2"
    ids: list[bytes] = []
    trace_id = root = b""
    for number in range(spans):
        if number % SPANS_PER_TRACE == 0:
            trace_id, root = chance.randbytes(16), b""
            ids.append(trace_id)
        span_id = chance.randbytes(8)
        ids.append(span_id)
        _fill(scope.spans.add(trace_id=trace_id, span_id=span_id, parent_span_id=root), chance)
        if with_error and number == 0:
            scope.spans[0].status.code = Status.STATUS_CODE_ERROR
        root = root or span_id
    return request, ids


def _fill(span: Span, chance: random.Random) -> None:
    """Ten attributes, about 430 bytes in all."""
    span.name = chance.choice(OPERATIONS)
    span.kind = Span.SPAN_KIND_SERVER
    span.flags = 0x101
    span.start_time_unix_nano = START_NS + chance.randrange(10**9)
    span.end_time_unix_nano = span.start_time_unix_nano + int(chance.lognormvariate(16.0, 0.5))
    customer = chance.randrange(10**6)
    for key, text in (
        ("http.request.method", "GET"),
        ("url.path", f"/api/products/{chance.randrange(10**5)}"),
        ("url.scheme", "https"),
        ("server.address", "shop.example.org"),
        ("client.address", f"10.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(256)}"),
        ("network.protocol.version", "1.1"),
        ("user_agent.original", "Mozilla/5.0 Firefox/147.0"),
        ("enduser.id", f"customer-{customer}"),
    ):
        span.attributes.add(key=key).value.string_value = text
    span.attributes.add(key="http.response.status_code").value.int_value = 200
    span.attributes.add(key="http.response.body.size").value.int_value = chance.randrange(10**5)


def _json(request: ExportTraceServiceRequest) -> bytes:
    """As the OTLP specification has it: ids in hexadecimal, enums as numbers."""
    found = MessageToDict(request, use_integers_for_enums=True)
    for resource in found["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                _with_hex_ids(span)
    return json.dumps(found, separators=(",", ":")).encode()


def _with_hex_ids(span: dict[str, Any]) -> None:
    for name in ("traceId", "spanId", "parentSpanId"):
        if name in span:
            span[name] = base64.b64decode(span[name]).hex()


def _occurrences(body: bytes, text: bytes) -> Iterator[int]:
    offset = body.find(text)
    while offset >= 0:
        yield offset
        offset = body.find(text, offset + len(text))
