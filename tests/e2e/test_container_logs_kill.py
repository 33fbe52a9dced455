"""Numbered lines of containers while the engine rotates and agent and telemetry process are killed: each one once.

The destination is away until the end, so that everything is decided by the ring. What is under way to a destination
when the agent is killed may arrive twice, as for all telemetry.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from syntra.telemetry.shipping.endpoint import SIGNALS, method
from syntra.telemetry.signals import Signal
from tests.e2e.agent_process import AgentProcess
from tests.e2e.telemetry_stage import answers, free_ports, telemetry_pid
from tests.engine import busybox_image, cleanup, new_token, require_engine, start_container, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

# Ten lines in a row, then a pause. Of five numbers one is on stderr, with an indented line behind it.
PROGRAM = """
n=0
while [ $n -lt {lines} ]; do
  for i in 0 1 2 3 4 5 6 7 8 9; do
    if [ $((n % 5)) = 0 ]; then echo "$NAME $n {filler}" >&2; echo "  more of $n" >&2
    else echo "$NAME $n {filler}"; fi
    n=$((n + 1))
  done
  usleep {pause}
done
exec sleep 1000
"""


class LogSink:
    """An OTLP endpoint that keeps the bodies of log records."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bodies: Counter[str] = Counter()

    def bodies(self) -> Counter[str]:
        """Each body, and how often it came."""
        with self._lock:
            return Counter(self._bodies)

    def take(self, request: bytes) -> None:
        """Keep one request."""
        decoded = ExportLogsServiceRequest.FromString(request)
        scopes = [scope for resource in decoded.resource_logs for scope in resource.scope_logs]
        with self._lock:
            self._bodies.update(record.body.string_value for scope in scopes for record in scope.log_records)


@contextmanager
def log_sink(port: int) -> Iterator[LogSink]:
    """Listen on loopback until the context ends."""
    sink = LogSink()

    def handlers(wanted: Signal) -> Any:
        def answer(request: bytes, _context: grpc.ServicerContext) -> bytes:
            if wanted is Signal.LOGS:
                sink.take(request)
            return b""

        _, service, name = method(wanted).split("/")
        return grpc.method_handlers_generic_handler(service, {name: grpc.unary_unary_rpc_method_handler(answer)})

    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", 64 << 20)])
    server.add_generic_rpc_handlers([handlers(wanted) for wanted in SIGNALS])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield sink
    finally:
        server.stop(None).wait(10)


@pytest.mark.parametrize("driver", ["json-file", "local"])
@pytest.mark.parametrize(
    ("containers", "lines", "kills"), [(3, 2000, 4), pytest.param(20, 12_000, 10, marks=pytest.mark.soak)]
)
def test_every_number_arrives_exactly_once(
    tmp_path: Path, driver: str, containers: int, lines: int, kills: int
) -> None:
    require_engine()
    token = new_token()
    grpc_port, http_port, sink_port = free_ports(3)
    config = (
        f"[telemetry]\notlp_grpc_port = {grpc_port}\notlp_http_port = {http_port}\nbuffer_max_mb = 500\n"
        '[telemetry.logs]\ncontainers = "all"\nmax_lines_per_sec = 0\nmax_kb_per_sec = 0\n'
        f'[telemetry.export]\nendpoint = "http://127.0.0.1:{sink_port}"\n'
    )
    limits = {"Type": driver, "Config": {"max-size": "300k", "max-file": "9"}}
    try:
        busybox_image(f"{token}:v1")
        with AgentProcess(tmp_path / "agent", config=config) as agent:
            wait_until(lambda: answers(http_port), "the receivers")
            program = PROGRAM.format(lines=lines, filler="x" * 150, pause=30_000)
            for number in range(containers):
                start_container(
                    token,
                    f"{token}:v1",
                    command=["sh", "-c", program],
                    env={"NAME": f"{token}-{number}"},
                    host={"LogConfig": limits},
                )
            for turn in range(kills):
                time.sleep(1.5)
                if turn % 2:
                    agent.kill()
                    agent.start()
                else:
                    wait_until(lambda: telemetry_pid(agent) != 0, "the telemetry process runs")
                    os.kill(telemetry_pid(agent), signal.SIGKILL)
                wait_until(lambda: answers(http_port), "the receivers are back", 30)
            with log_sink(sink_port) as sink:
                wanted = containers * lines

                def numbers() -> Counter[str]:
                    return Counter(
                        {
                            " ".join(body.split()[:2]): count
                            for body, count in sink.bodies().items()
                            if body.startswith(token)
                        }
                    )

                wait_until(lambda: len(numbers()) >= wanted, "every number has arrived", 300)
                found = numbers()
                expected = {f"{token}-{number} {line}" for number in range(containers) for line in range(lines)}
                assert found.keys() == expected
                assert {number: count for number, count in found.items() if count > 1} == {}
                joined = [body for body in sink.bodies() if body.startswith(token) and "  more of" in body]
                assert len(joined) == wanted // 5
    finally:
        cleanup(token)
