"""The settings in docs/dashboards.md, with a real Collector: everything that the page names arrives."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.telemetry_stage import answers, free_ports
from tests.e2e.test_telemetry_export import said, send
from tests.engine import busybox_image, cleanup, new_token, require_engine, start_container, wait_until
from tests.telemetry import real_collector
from tests.telemetry.real_collector import RealCollector

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

PAGE = Path(__file__).resolve().parents[2] / "docs/dashboards.md"
RECEIVER = '      http: {endpoint: "0.0.0.0:4318"}\n'


def block(kind: str) -> str:
    """The first block of code of a kind on the page."""
    return PAGE.read_text().split(f"```{kind}\n", 1)[1].split("```", 1)[0]


def test_all_that_the_page_promises_reaches_the_collector(tmp_path: Path) -> None:
    require_engine()
    token = new_token()
    assert RECEIVER in block("yaml")
    ports = '      http: {endpoint: "127.0.0.1:HTTP_PORT"}\n      grpc: {endpoint: "127.0.0.1:GRPC_PORT"}\n'
    collector = RealCollector(
        tmp_path / "collector", block("yaml").replace(RECEIVER, ports), path=real_collector.program()
    )
    grpc_port, http_port = free_ports(2)
    export = block("toml").replace("collector.internal:4318", f"127.0.0.1:{collector.http_port}")
    config = f"[telemetry]\notlp_grpc_port = {grpc_port}\notlp_http_port = {http_port}\nbatch_interval_secs = 1\n"
    config += f'[telemetry.logs]\ncontainers = "all"\n{export}'
    try:
        busybox_image(f"{token}:v1")
        with collector, AgentProcess(tmp_path / "agent", config=config):
            wait_until(lambda: answers(http_port), "the receivers")
            trace_id = send(http_port, "shop")
            wait_until(lambda: trace_id in said(collector), "the span")
            start_container(token, f"{token}:v1", command=["sh", "-c", f"echo {token} said; exec sleep 100"])
            expected = (f"{token} said", "log.iostream", "system.cpu.time", "system.filesystem.usage")
            for each in (*expected, "traces.span.metrics.duration", "traces.span.metrics.calls"):
                wait_until(lambda each=each: each in said(collector), each, 60)  # type: ignore[misc]
    finally:
        cleanup(token)
