"""A receiver on loopback with small limits, its intake, and a connection to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from syntra.telemetry.intake import BadData
from syntra.telemetry.otlp.http_server import HttpReceiver
from syntra.telemetry.otlp.json_pieces import memory_of_objects
from syntra.telemetry.signals import Signal
from tests.telemetry.otlp.http_client import LIMITS, RawClient
from tests.telemetry.otlp.small_intake import SmallIntake


def decode(signal: Signal, body: bytes, reserve: Callable[[int], None]) -> Message:
    """Uses the body as the schema URL, so that a test can see it."""
    reserve(memory_of_objects(body) + len(body))
    if not body.startswith(b"{"):
        raise BadData("the body is no JSON object", "schema_url")
    request = ExportTraceServiceRequest()
    request.resource_spans.add(schema_url=f"{signal.value} {body.decode()}")
    return request


@pytest.fixture
def intake() -> SmallIntake:
    return SmallIntake(budget=400_000)


@pytest.fixture
def server(intake: SmallIntake) -> Iterator[HttpReceiver]:
    made = HttpReceiver(intake, decode, port=0, limits=LIMITS, routes={"/metrics": lambda: ("text/plain", b"up 1\n")})
    made.port = made.listen("127.0.0.1")
    yield made
    made.close(1.0)
    assert made.connections == 0
    assert intake.reserved == 0


@pytest.fixture
def client(server: HttpReceiver) -> Iterator[RawClient]:
    with RawClient(server.port) as made:
        yield made
