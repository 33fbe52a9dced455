"""Measures the cost of an idle agent: its memory and CPU time, and the work that it causes in the engine.

The agent is connected to the reference control plane (a heartbeat every 30 s), first without containers, then with 20
services of one container, each with an HTTP health check. Memory is the proportional set size of all the agent's
processes at the end of the interval, next to that of a Python that only sleeps in asyncio, at the same moment. The
engine's part is the CPU time of dockerd and containerd with the agent minus the same without it: two consecutive
intervals of equal length, with the containers running in both. The engine is private to the benchmark, and everything
runs in its own network namespace, separate from other engines' bridges.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.agent import BINARY, ROOT, SOURCE, AgentProcess, environment
from benchmarks.engine import PrivateEngine, enter_own_network
from benchmarks.figures import ratio, result, say
from benchmarks.processes import cpu_secs, memory_kb, tree
from syntra.cli.agent_client import ask, operate
from tests.controlplane.client import ControlPlaneClient
from tests.engine import PORT

TARGET_PSS_MB = 60.0
CONTAINERS = (0, 20)
START_SECS = 75.0
"""Wait before measuring an agent: by then, memory is returned and garbage was collected for the first time."""
SETTLE_SECS = 3.0
"""Wait before measuring the engine alone."""
OPERATION_SECS = 30.0
SLEEPER = "import asyncio; asyncio.run(asyncio.sleep(100_000))"


@contextmanager
def control_plane(folder: Path) -> Iterator[tuple[str, ControlPlaneClient]]:
    """Start the reference control plane; return its address for agents, and a client for operators."""
    process = subprocess.Popen(
        [*SOURCE, "controlplane", "--listen", "127.0.0.1:0", "--data-dir", str(folder / "plane")],
        cwd=ROOT,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None, "cannot happen: it was asked for"
        base = process.stdout.readline().split()[-1]
        dialled = process.stdout.readline().split()[-1]
        yield dialled, ControlPlaneClient.from_token_file(base, Path(process.stdout.readline().split()[-1]))
    finally:
        process.terminate()
        process.communicate(timeout=30)


@contextmanager
def sleeper() -> Iterator[int]:
    """Start a Python that only sleeps; return its pid."""
    with subprocess.Popen([SOURCE[0], "-c", SLEEPER], cwd=ROOT) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def configuration(endpoint: str, operator: ControlPlaneClient, engine: PrivateEngine) -> str:
    """The agent's configuration, with a new token."""
    made = operator.create_token("srv_bench")
    control_plane = f'[control_plane]\nendpoint = "{endpoint}"\ntoken = "{made["token"]}"\n'
    return f'server_id = "{made["server_id"]}"\n{control_plane}[runtime]\ndocker_socket = "{engine.socket}"\n'


def await_connected(agent: AgentProcess, operator: ControlPlaneClient) -> None:
    """Wait until the control plane has accepted the agent."""
    deadline = time.monotonic() + OPERATION_SECS
    while not any(server["connected"] for server in operator.servers()):
        assert not agent.ended and time.monotonic() < deadline, f"the agent did not connect:\n{agent.log()}"
        time.sleep(0.1)


def fill(agent: AgentProcess, image: str, count: int) -> None:
    """Deploy services with one container each."""
    for number in range(1, count + 1):
        payload = {
            "deployment_id": f"dep_{uuid.uuid4().hex}",
            "service_id": f"idle-{number}",
            "image": image,
            "config": {"port": PORT, "health_check": {"type": "http", "path": "/health"}},
        }
        *_, last = operate(agent.socket, "deploy", payload, idle=OPERATION_SECS)
        assert last["status"] == "running", f"a deployment failed: {last}"


def empty(agent: AgentProcess, count: int) -> None:
    """Remove them, also from the agent's journal."""
    for number in range(1, count + 1):
        ask(agent.socket, "stop", {"service_id": f"idle-{number}", "remove_container": True}, timeout=OPERATION_SECS)


def measure(agent: AgentProcess, engine: PrivateEngine, seconds: float) -> dict[str, float]:
    """Measure one interval with the agent and one without."""
    time.sleep(START_SECS)
    processes = tree(agent.pid)
    with sleeper() as peer:
        before, engine_before = cpu_secs(processes), cpu_secs(engine.processes)
        time.sleep(seconds)
        used, with_agent = cpu_secs(processes) - before, cpu_secs(engine.processes) - engine_before
        memory, bare = memory_kb(processes), memory_kb([peer])
    agent.end()
    time.sleep(SETTLE_SECS)
    engine_before = cpu_secs(engine.processes)
    time.sleep(seconds)
    without = cpu_secs(engine.processes) - engine_before
    return {
        "pss_mb": round(memory["pss"] / 1024, 1),
        "private_mb": round(memory["private"] / 1024, 1),
        "bare_pss_mb": round(bare["pss"] / 1024, 1),
        "ratio": ratio(memory["pss"], bare["pss"]),
        "processes": len(processes),
        "agent_cpu_percent": percent(used, seconds),
        "engine_cpu_percent": percent(with_agent - without, seconds),
        "engine_alone_cpu_percent": percent(without, seconds),
    }


def percent(used: float, seconds: float) -> float:
    """Percent of one processor."""
    return round(100 * used / seconds, 3)


def run(seconds: float, containers: Sequence[int], command: Sequence[str]) -> None:
    """Run the benchmark and print the result."""
    load = os.getloadavg()[0]
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with PrivateEngine(folder / "engine") as engine, control_plane(folder) as (endpoint, operator):
            engine.import_image("service", "1")
            config = configuration(endpoint, operator, engine)
            for count in containers:
                with AgentProcess(folder / "agent", config=config, command=command) as agent:
                    fill(agent, "service:1", count)
                try:
                    # Restarted: memory that deploying has used is not part of idling.
                    with AgentProcess(folder / "agent", config=config, command=command) as agent:
                        await_connected(agent, operator)
                        figures[f"containers_{count}"] = measure(agent, engine, seconds)
                        say(f"{count} containers: {figures[f'containers_{count}']}")
                finally:
                    with AgentProcess(folder / "agent", config=config, command=command) as agent:
                        empty(agent, count)
    worst = max(part["pss_mb"] for part in figures.values())
    largest = max(part["ratio"] for part in figures.values())
    summary = {"pss_mb": worst, "target_pss_mb": TARGET_PSS_MB, "ratio": largest, "seconds": seconds}
    result("idle", {**figures, **summary}, load_before=load)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="scripts/bench idle", description="Measure the memory and CPU time of an idle agent."
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each measurement (default 60)")
    parser.add_argument(
        "--containers",
        type=int,
        nargs="+",
        default=CONTAINERS,
        help="services that run, in each measurement (default 0 20)",
    )
    parser.add_argument("--binary", action="store_true", help="measure the compiled agent, dist/syntra-agent")
    given = parser.parse_args()
    enter_own_network()
    run(given.seconds, given.containers, (str(BINARY),) if given.binary else SOURCE)
