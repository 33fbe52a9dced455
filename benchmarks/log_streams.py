"""Measures reading a container's log: lines per second of CPU time, the agent's client next to Docker's command line.

A container has written LINES lines of 100 characters. Both sides read all of them from the same engine, with
timestamps, in turns. Only the reader's CPU time counts (user and system), not the engine's: a reader takes it from the
services on its host. Docker's command line is a compiled program; its start, measured as `docker version --format x`,
is subtracted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import subprocess
import time

from benchmarks.figures import median, ratio, result, say
from syntra.model.ids import ContainerId
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.endpoint import find_endpoint
from syntra.runtime.docker.engine import DockerEngine
from syntra.runtime.runtime import LogRange
from tests.engine import api, busybox_image, cleanup, new_token, start_container

WRITE = "i=0; while [ $i -lt {lines} ]; do echo {text}; i=$((i+1)); done"


def written(token: str, lines: int) -> str:
    """A container that has written its lines and exited."""
    busybox_image(f"{token}:v1")
    command = ["sh", "-c", WRITE.format(lines=lines, text="x" * 100)]
    host = {"LogConfig": {"Type": "json-file", "Config": {}}}
    container = start_container(token, f"{token}:v1", command=command, host=host)
    api("POST", f"/containers/{container}/wait")
    return container


async def ours(container: str) -> tuple[int, float]:
    """Number of lines, and CPU seconds."""
    async with EngineClient(find_endpoint(os.environ)) as client:
        engine = DockerEngine(client, owner="benchmark")
        wanted = LogRange(tail=-1, follow=False)
        count, began = 0, time.process_time()
        async with engine.logs(ContainerId(container), wanted) as lines:
            async for _ in lines:
                count += 1
        return count, time.process_time() - began


def docker(*arguments: str) -> float:
    """CPU seconds of one run of Docker's command line."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["docker", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench log-streams", description=__doc__)
    parser.add_argument("--lines", type=int, default=50_000, help="lines of the log (default 50000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each side (default 5)")
    chosen = parser.parse_args()
    if shutil.which("docker") is None:
        raise SystemExit("no `docker` to compare with; install docker.io")
    load = os.getloadavg()[0]
    token = new_token()
    try:
        container = written(token, chosen.lines)
        agent, peer = [], []
        for number in range(chosen.rounds + 1):
            count, secs = asyncio.run(ours(container))
            assert count == chosen.lines, f"{count} lines came"
            beside = docker("logs", "--timestamps", container) - docker("version", "--format", "x")
            say(f"round {number}: agent {secs:.3f} s, docker {beside:.3f} s of processor time")
            if number:
                agent.append(secs)
                peer.append(max(beside, 1e-3))
    finally:
        cleanup(token)
    lines_agent, lines_peer = chosen.lines / median(agent), chosen.lines / median(peer)
    figures = {
        "lines": chosen.lines,
        "agent_lines_per_cpu_second": round(lines_agent),
        "docker_lines_per_cpu_second": round(lines_peer),
        "ratio": ratio(lines_agent, lines_peer),
    }
    result("log-streams", figures, load_before=load)


if __name__ == "__main__":
    main()
