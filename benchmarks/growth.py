"""Measures how the cost of an idle agent grows with the number of its containers.

Services of ten sleeping replicas each, without health checks, are deployed through the agent. Then the agent is
restarted, connected to the reference control plane, with its receivers and figures on. CPU time is that of all the
agent's processes in a minute; memory is their proportional set size at its end. Linear growth means that a container
of the largest measurement costs at most what one of the smallest does. The engine is private to the benchmark.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import uuid
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.agent import BINARY, SOURCE, AgentProcess
from benchmarks.engine import PrivateEngine, enter_own_network
from benchmarks.figures import result, say
from benchmarks.idle import await_connected, configuration, control_plane
from benchmarks.processes import cpu_secs, memory_kb, tree
from syntra.cli.agent_client import ask, operate

CONTAINERS = (10, 50, 200)
REPLICAS = 10
OPERATION_SECS = 300.0
SETTLE_SECS = 10.0
"""Wait before measuring, until the work of starting is done."""


def fill(agent: AgentProcess, first: int, services: int) -> None:
    """Deploy services of REPLICAS sleeping containers."""
    for number in range(first, services):
        payload = {
            "deployment_id": f"dep_{uuid.uuid4().hex}",
            "service_id": f"growth-{number}",
            "image": "service:1",
            "strategy": "instant",
            "config": {"port": 8080, "replicas": REPLICAS},
        }
        *_, last = operate(agent.socket, "deploy", payload, idle=OPERATION_SECS)
        assert last["status"] == "running", f"a deployment failed: {last}"


def measure(agent: AgentProcess, seconds: float) -> dict[str, float]:
    """One interval of an idle agent."""
    time.sleep(SETTLE_SECS)
    processes = tree(agent.pid)
    before = cpu_secs(processes)
    time.sleep(seconds)
    used = cpu_secs(processes) - before
    return {
        "cpu_secs_a_minute": round(used * 60 / seconds, 3),
        "pss_mb": round(memory_kb(processes)["pss"] / 1024, 1),
    }


def slopes(figures: Sequence[tuple[int, dict[str, float]]], name: str) -> list[float]:
    """What each further container costs, between one measurement and the next."""
    return [round((after[name] - before[name]) / (b - a), 5) for (a, before), (b, after) in pairwise(figures)]


def run(seconds: float, counts: Sequence[int], command: Sequence[str]) -> None:
    """Run the benchmark and print the result."""
    load = os.getloadavg()[0]
    figures: list[tuple[int, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with PrivateEngine(folder / "engine") as engine, control_plane(folder) as (endpoint, operator):
            engine.import_image("service", "1")
            config = configuration(endpoint, operator, engine)
            made = 0
            try:
                for count in counts:
                    with AgentProcess(folder / "agent", config=config, command=command) as agent:
                        fill(agent, made, count // REPLICAS)
                        made = count // REPLICAS
                    with AgentProcess(folder / "agent", config=config, command=command) as agent:
                        await_connected(agent, operator)
                        figures.append((count, measure(agent, seconds)))
                        say(f"{count} containers: {figures[-1][1]}")
            finally:
                with AgentProcess(folder / "agent", config=config, command=command) as agent:
                    for number in range(made):
                        payload = {"service_id": f"growth-{number}", "remove_container": True, "timeout_seconds": 1}
                        ask(agent.socket, "stop", payload, timeout=OPERATION_SECS)
    result(
        "growth",
        {
            **{f"containers_{count}": found for count, found in figures},
            "cpu_secs_of_each_more": slopes(figures, "cpu_secs_a_minute"),
            "pss_mb_of_each_more": slopes(figures, "pss_mb"),
            "seconds": seconds,
        },
        load_before=load,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="scripts/bench growth", description="Measure how an idle agent's CPU time and memory grow with containers."
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each measurement (default 60)")
    parser.add_argument(
        "--containers", type=int, nargs="+", default=CONTAINERS, help="multiples of 10, rising (default 10 50 200)"
    )
    parser.add_argument("--binary", action="store_true", help="measure the compiled agent, dist/syntra-agent")
    given = parser.parse_args()
    enter_own_network()
    run(given.seconds, given.containers, (str(BINARY),) if given.binary else SOURCE)
