"""Numbered lines of containers while the engine rotates and agent and telemetry process are killed: each one once.

The destination is away until the end, so that everything is decided by the ring. What is under way to a destination
when the agent is killed may arrive twice, as for all telemetry.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.log_sink import LogBodies, log_sink
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


@pytest.mark.parametrize("driver", ["json-file", pytest.param("local", marks=pytest.mark.soak)])
@pytest.mark.parametrize(("containers", "lines", "kills"), [(3, 2000, 4)])
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
            sink = LogBodies()
            with log_sink(sink_port, sink.take):
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
