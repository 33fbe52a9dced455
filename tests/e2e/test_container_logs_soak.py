"""Numbered lines of many containers for minutes, while files rotate, the agent is killed and the engine restarts.

Every number that the engine wrote arrives exactly once. The destination is away until the end, so that everything is
decided by the ring. `SYNTRA_SOAK_SECS` sets how long the containers write; ten minutes without it.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections import defaultdict
from pathlib import Path

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.log_sink import bodies_of, log_sink
from tests.e2e.private_engine import PrivateEngine
from tests.e2e.telemetry_stage import answers, free_ports
from tests.engine import require_engine, wait_until

SECS = int(os.environ.get("SYNTRA_SOAK_SECS", "600"))
CONTAINERS = 20
KILLS = 10
BACK_SECS = 120.0
"""The longest that a start may take: the test is about lines, on a machine that may be busy."""
pytestmark = [pytest.mark.engine, pytest.mark.soak, pytest.mark.timeout(SECS + 900)]

# Ten lines in a row, then a pause: about 60 KB a second, so that each file rotates some times.
PROGRAM = """
n=0
while [ $(date +%s) -lt {until} ]; do
  for i in 0 1 2 3 4 5 6 7 8 9; do
    if [ $((n % 5)) = 0 ]; then echo "$NAME $n {filler}" >&2; else echo "$NAME $n {filler}"; fi
    n=$((n + 1))
  done
  usleep 30000
done
echo "$NAME end $n"
exec sleep 100000
"""
LINE = re.compile(r"(soak-\d+) (?:(\d+) x|end (\d+))")


class Numbers:
    """How often each number of each container has come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: dict[str, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
        self.ends: dict[str, int] = {}
        self.others: set[str] = set()

    def take(self, request: bytes) -> None:
        """Count one request."""
        self.add(bodies_of(request))

    def add(self, lines: list[str]) -> None:
        """Count lines."""
        with self._lock:
            for line in lines:
                if (found := LINE.match(line)) is None:
                    self.others.add(line)
                elif found[2]:
                    self.counts[found[1]][int(found[2])] += 1
                else:
                    self.ends[found[1]] = int(found[3])

    def total(self) -> int:
        """How many different numbers have come."""
        with self._lock:
            return sum(map(len, self.counts.values()))

    def doubled(self) -> list[tuple[str, int]]:
        """The numbers that came more than once."""
        return [(name, number) for name, found in self.counts.items() for number, count in found.items() if count > 1]

    def missing(self) -> set[tuple[str, int]]:
        """The numbers up to the end that have not come."""
        return {
            (name, number)
            for name, end in self.ends.items()
            for number in range(end)
            if number not in self.counts[name]
        }


def started(engine: PrivateEngine, until: float, max_size: str) -> list[str]:
    """Start the containers; their ids."""
    ids = []
    program = PROGRAM.format(until=int(until), filler="x" * 150)
    for number in range(CONTAINERS):
        log = {"Type": "json-file", "Config": {"max-size": max_size, "max-file": "3"}}
        wanted = {
            "Image": "soak:1",
            "Cmd": ["sh", "-c", program],
            "Env": ["PATH=/bin", f"NAME=soak-{number}"],
            "HostConfig": {"NetworkMode": "none", "LogConfig": log},
        }
        ids.append(engine.api("POST", "/containers/create", json.dumps(wanted).encode())["Id"])
        engine.api("POST", f"/containers/{ids[-1]}/start")
    return ids


def written(engine: PrivateEngine, ids: list[str]) -> Numbers:
    """What the engine's files still have."""
    numbers = Numbers()
    for one in ids:
        path = Path(engine.api("GET", f"/containers/{one}/json")["LogPath"])
        for file in path.parent.glob(f"{path.name}*"):
            with file.open() as lines:
                numbers.add([json.loads(line)["log"] for line in lines])
    return numbers


def test_every_number_that_the_engine_wrote_arrives_exactly_once(tmp_path: Path) -> None:
    require_engine()
    grpc_port, http_port, sink_port = free_ports(3)
    config = (
        f"[telemetry]\notlp_grpc_port = {grpc_port}\notlp_http_port = {http_port}\nbuffer_max_mb = 2000\n"
        '[telemetry.logs]\ncontainers = "all"\nmax_lines_per_sec = 0\nmax_kb_per_sec = 0\n'
        f'[telemetry.export]\nendpoint = "http://127.0.0.1:{sink_port}"\n'
    )
    with PrivateEngine(live_restore=True) as engine:
        engine.image("soak:1", "1")
        with AgentProcess(tmp_path / "agent", engine_socket=str(engine.socket), config=config) as agent:
            wait_until(lambda: answers(http_port), "the receivers")
            began = time.time()
            ids = started(engine, began + SECS, "10m" if SECS >= 300 else "1m")
            for turn in range(KILLS):
                time.sleep(max(0.0, began + SECS * (turn + 0.5) / KILLS - time.time()))
                agent.kill()
                if turn == KILLS * 7 // 10:
                    engine.stop()
                    engine.start()
                agent.launch()
                wait_until(lambda: answers(http_port), "the receivers are back", BACK_SECS)
            numbers = Numbers()
            with log_sink(sink_port, numbers.take):
                wait_until(
                    lambda: len(numbers.ends) == CONTAINERS, "every container has written its last line", SECS + 300
                )
                last, since = -1, time.monotonic()
                while numbers.missing() and time.monotonic() - since < 30:
                    if (total := numbers.total()) != last:
                        last, since = total, time.monotonic()
                    time.sleep(1)
            kept = written(engine, ids)
        assert numbers.others == set()
        assert numbers.doubled() == []
        assert numbers.total() > CONTAINERS * SECS * 30
        # When an engine ends, it may lose what it has read from a container and not written yet.
        missing = numbers.missing()
        assert {one for one in missing if one[1] in kept.counts[one[0]]} == set()
        assert len(missing) <= CONTAINERS
