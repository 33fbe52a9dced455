"""An agent without a control plane exports what it receives to a real OpenTelemetry Collector, also after an outage."""

from __future__ import annotations

import http.client
import json
import time
import uuid
from pathlib import Path

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.engine import require_engine, wait_until
from tests.telemetry import real_collector
from tests.telemetry.real_collector import RealCollector, free_port

pytestmark = pytest.mark.engine

COLLECTOR = """
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:GRPC_PORT"}
      http: {endpoint: "127.0.0.1:HTTP_PORT"}
exporters:
  debug: {verbosity: detailed}
service:
  pipelines:
    traces: {receivers: [otlp], exporters: [debug]}
    metrics: {receivers: [otlp], exporters: [debug]}
"""


def send(port: int, service: str) -> str:
    """One span; its trace id once the agent has acknowledged it."""
    trace_id, now = uuid.uuid4().hex, time.time_ns()
    span = {"traceId": trace_id, "spanId": trace_id[:16], "name": "buy", "kind": 2}
    span |= {"startTimeUnixNano": str(now), "endTimeUnixNano": str(now + 1000)}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    body = json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/v1/traces", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"{}")
    finally:
        connection.close()
    return trace_id


def said(collector: RealCollector) -> str:
    """Everything that its debug exporter has printed."""
    return (collector.folder / "collector.log").read_text(errors="replace")


@pytest.mark.parametrize(("protocol", "compression"), [("http/protobuf", "zstd"), ("grpc", "gzip")])
def test_what_is_received_is_exported_also_after_an_outage(tmp_path: Path, protocol: str, compression: str) -> None:
    require_engine()
    collector = RealCollector(tmp_path / "collector", COLLECTOR, path=real_collector.program())
    grpc_port, http_port = free_port(), free_port()
    endpoint = f"http://127.0.0.1:{collector.grpc_port if protocol == 'grpc' else collector.http_port}"
    config = (
        f"[telemetry]\notlp_grpc_port = {grpc_port}\notlp_http_port = {http_port}\nbatch_interval_secs = 1\n"
        f'[telemetry.export]\nendpoint = "{endpoint}"\nprotocol = "{protocol}"\ncompression = "{compression}"\n'
    )
    with AgentProcess(tmp_path / "agent", config=config) as agent:
        with collector:
            wait_until(lambda: agent.ask("telemetry_status", {})["success"], "the telemetry process")
            first = send(http_port, "shop")
            wait_until(lambda: first in said(collector), "the first span at the Collector")
        missed = [send(http_port, "shop") for _ in range(5)]
        agent.kill()
        agent.start()
        wait_until(lambda: agent.ask("telemetry_status", {})["success"], "the telemetry process again")
        missed.append(send(http_port, "shop"))
        with collector:
            wait_until(lambda: all(one in said(collector) for one in missed), "the spans of the outage", 60)
            # Request metrics come from the agent itself, every 15 s.
            wait_until(lambda: "traces.span.metrics.calls" in said(collector), "the request metrics", 40)
        view = agent.ask("telemetry_status", {})["data"]
        [destination] = view["destinations"]
        assert destination["name"] == "export"
