"""Logs of containers that are none of the agent's, with `containers = "all"`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.log_sink import LogBodies, log_sink
from tests.e2e.telemetry_stage import answers, free_ports
from tests.engine import busybox_image, cleanup, new_token, require_engine, start_container, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]


def test_another_container_is_read_as_soon_as_it_starts(tmp_path: Path) -> None:
    require_engine()
    token = new_token()
    grpc_port, http_port, sink_port = free_ports(3)
    config = (
        f"[telemetry]\notlp_grpc_port = {grpc_port}\notlp_http_port = {http_port}\nbatch_interval_secs = 1\n"
        f'[telemetry.logs]\ncontainers = "all"\n[telemetry.export]\nendpoint = "http://127.0.0.1:{sink_port}"\n'
    )
    sink = LogBodies()
    try:
        busybox_image(f"{token}:v1")
        with (
            log_sink(sink_port, sink.take),
            AgentProcess(tmp_path / "agent", config=config) as agent,
        ):
            wait_until(lambda: answers(http_port), "the receivers")
            wait_until(lambda: "container_logs" in str(agent.ask("telemetry_status", {})), "the collector")
            command = ["sh", "-c", f"echo {token} here; exec sleep 100"]
            start_container(token, f"{token}:v1", command=command)
            # Without an event it would be seen after 30 seconds.
            wait_until(lambda: f"{token} here" in sink.bodies(), "its line", 15)
    finally:
        cleanup(token)
