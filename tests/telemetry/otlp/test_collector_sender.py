"""A real OpenTelemetry Collector sends over gRPC, with each of its compressions."""

from __future__ import annotations

import asyncio
import http.client
from pathlib import Path
from typing import cast

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from syntra.telemetry.otlp.grpc_limits import GrpcLimits
from syntra.telemetry.otlp.grpc_server import GrpcReceiver
from tests.telemetry.otlp.running import running
from tests.telemetry.otlp.small_intake import SmallIntake
from tests.telemetry.real_collector import RealCollector, program
from tests.telemetry.shipping.samples import traces

CONFIG = """
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:GRPC_PORT"}
      http: {endpoint: "127.0.0.1:HTTP_PORT"}
exporters:
  otlp_grpc:
    endpoint: 127.0.0.1:AGENT_PORT
    tls: {insecure: true}
    compression: COMPRESSION
    sending_queue: {enabled: false}
    retry_on_failure: {enabled: false}
service:
  telemetry: {metrics: {level: none}, logs: {level: error}}
  pipelines:
    traces: {receivers: [otlp], exporters: [otlp_grpc]}
"""
REQUESTS = 60
PADDING = (0, 100, 0, 20_000, 0, 1_500_000)


def send(collector: RealCollector, requests: list[bytes]) -> None:
    """Send requests to the Collector over HTTP, one after another."""
    connection = http.client.HTTPConnection("127.0.0.1", collector.http_port, timeout=20)
    for request in requests:
        connection.request("POST", "/v1/traces", request, {"Content-Type": "application/x-protobuf"})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        response.read()
    connection.close()


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
async def test_a_collector_sends(tmp_path: Path, compression: str) -> None:
    intake = SmallIntake()
    path = program()
    # Small ones, and some of several frames; 1.5 MB are more than the window of a stream.
    sent = [traces(f"span {number}", padding=PADDING[number % len(PADDING)]) for number in range(REQUESTS)]
    async with running(GrpcReceiver(intake, port=0, limits=GrpcLimits(silence_secs=0.5))) as receiver:
        config = CONFIG.replace("AGENT_PORT", str(await receiver.listen("127.0.0.1")))
        collector = RealCollector(tmp_path, config.replace("COMPRESSION", compression), path=path)
        await asyncio.to_thread(collector.__enter__)
        try:
            await asyncio.to_thread(send, collector, sent)
            # The receiver pings the silent Collector, which answers and stays.
            await asyncio.sleep(2.5)
            assert receiver.connections == 1
            await asyncio.to_thread(send, collector, sent[:1])
        finally:
            await asyncio.to_thread(collector.stop)
    assert not intake.refusals
    # The Collector encodes in another order.
    parse = ExportTraceServiceRequest.FromString
    assert [parse(cast(bytes, body)) for body in intake.bodies] == [parse(body) for body in [*sent, sent[0]]]
