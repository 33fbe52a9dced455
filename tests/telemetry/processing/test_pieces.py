"""Large requests are processed in pieces: nothing is lost, and hostile ones cost little memory and time."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from syntra.telemetry.intake import BadData
from syntra.telemetry.processing.pieces import MAX_ITEM_BYTES, PIECE_BYTES, pieces
from syntra.telemetry.signals import Signal
from tests.telemetry.processing.requests import IDENTITY, Harness, resource_of, span, spans_in, text

ROOT = Path(__file__).resolve().parents[3]


def large() -> ExportTraceServiceRequest:
    """Three resources with two scopes each, about 3 MB."""
    rng = random.Random(1)
    request = ExportTraceServiceRequest()
    for service in ("a", "b", "c"):
        resource = request.resource_spans.add(resource=resource_of(service_name=service), schema_url="resource-schema")
        for scope in ("x", "y"):
            added = resource.scope_spans.add(schema_url=f"scope-schema-{scope}")
            added.scope.name = scope
            added.spans.extend(span(rng, attributes=[text("k", "v" * 5000)]) for _ in range(100))
    return request


def test_the_pieces_have_every_span_with_its_resource_and_scope() -> None:
    request = large()
    found = []
    cut = list(pieces(request.SerializeToString()))
    for piece in cut:
        assert len(piece.data) < PIECE_BYTES * 1.1
        for resource in ExportTraceServiceRequest.FromString(piece.data).resource_spans:
            assert resource.schema_url == "resource-schema"
            for scope in resource.scope_spans:
                assert scope.schema_url == f"scope-schema-{scope.scope.name}"
                service = resource.resource.attributes[0].value.string_value
                found += [(service, scope.scope.name, one) for one in scope.spans]
    assert len(cut) in {3, 4}
    assert found == [
        (resource.resource.attributes[0].value.string_value, scope.scope.name, one)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for one in scope.spans
    ]


def test_a_large_request_is_kept_whole() -> None:
    request = large()
    request.resource_spans[1].scope_spans[0].spans[0].trace_id = b""
    done = Harness().traces(request.SerializeToString(), IDENTITY)
    assert (done.received, done.rejected, len(spans_in(done))) == (600, 1, 599)
    assert sum(record.items for record in done.records) == 599
    assert done.message == "rejected 1: a span's trace id is not 16 bytes other than zero"


def test_a_large_request_that_is_cut_is_refused() -> None:
    request = large().SerializeToString()
    for cut in (len(request) - 1, len(request) - 4000, PIECE_BYTES + 1):
        with pytest.raises(BadData, match="cannot"):
            Harness().traces(request[:cut])


def test_an_item_that_is_too_large_is_rejected_alone() -> None:
    rng = random.Random(2)
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    spans.extend([span(rng), span(rng, attributes=[text("k", "v" * MAX_ITEM_BYTES)]), span(rng)])
    done = Harness().traces(request.SerializeToString())
    assert (done.received, done.rejected, len(spans_in(done))) == (3, 1, 2)
    assert "larger than" in done.message


def nested(content: bytes) -> bytes:
    """A traces request whose only scope has this content."""
    for tag in (0x12, 0x0A):
        size, head = len(content), bytearray((tag,))
        while size > 127:
            head.append(size & 127 | 128)
            size >>= 7
        content = bytes([*head, size]) + content
    return content


HOSTILE = {
    "empty spans": nested(b"\x12\x00" * 8_000_000),
    "many without ids": nested(b"\x12\x08\x4a\x06\x0a\x04abcd" * 60_000),
    "no ids": nested(b"\x12\x08\x4a\x06\x0a\x04abcd" * 150_000),
    "a huge scope": nested(b"\x0a\x00" * 4_000_000 + b"\x1a\x00" * 4_000_000),
    "empty resources": b"\x0a\x00" * 600_000 + b"\x0b",
    "no protobuf": nested(b"\x5a" * 16_000_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_request_is_refused_within_little_memory(name: str) -> None:
    """In a process of its own, because protobuf's memory is not Python's and a maximum never falls."""
    script = f"""
import resource
from syntra.telemetry.intake import BadData
from tests.telemetry.processing.requests import Harness
from tests.telemetry.processing.test_pieces import HOSTILE
harness, request = Harness(), HOSTILE.pop({name!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    harness.traces(request)
except BadData:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(done.stdout) < 80_000


def test_a_span_of_empty_attributes_is_rejected_when_it_is_large() -> None:
    hostile = Span(trace_id=b"a" * 16, span_id=b"b" * 8).SerializeToString() + b"\x4a\x00" * 2_000_000
    size = len(hostile)
    encoded = bytes([0x12, size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21]) + hostile
    done = Harness().processor.process(Signal.TRACES, nested(encoded), None)
    assert (done.received, done.rejected, list(done.records)) == (1, 1, [])
