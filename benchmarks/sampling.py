"""Measures the CPU time of one sample of the host and of each container, beside the engine's own statistics.

Containers that sleep run on an engine that is private to the benchmark. Reading, telling (JSON over the link) and
encoding (OTLP, in the telemetry process) are measured apart. The engine's statistics of the same containers are the
peer: one call of `GET /containers/ID/stats`, with the CPU time of dockerd and containerd. CPU time, so other work on
the machine matters little; the lowest of the rounds counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.engine import PrivateEngine, enter_own_network
from benchmarks.figures import ratio, result, say
from benchmarks.processes import cpu_secs
from syntra.model.figures import ContainerReading
from syntra.model.ids import ContainerId
from syntra.runtime.docker.cgroup import CgroupReader
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.containers import Containers
from syntra.runtime.docker.endpoint import find_endpoint
from syntra.telemetry.collect.figures.message import ContainerFigures, FiguresMessage, message_fields, parse_message
from syntra.telemetry.collect.figures.records import records
from syntra.telemetry.processing.identity import Identity
from syntra.utils.host_reading import HostReader, HostReading

TARGET_HOST_MS = 5.0
TARGET_CONTAINER_MS = 0.3
REPEATS = 20
AT_ONCE = 8
_MILLISECONDS = 1000.0


def cpu_ms(work: Callable[[], object], rounds: int, repeats: int = REPEATS) -> float:
    """CPU milliseconds of one call, system time included."""
    measured = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(repeats):
            work()
        measured.append((time.process_time() - began) / repeats)
    return min(measured) * _MILLISECONDS


async def start(client: EngineClient, count: int, pids: dict[ContainerId, int]) -> None:
    """Start sleeping containers, and note their pids as they come."""
    containers = Containers(client)
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with limit:
            body = {"Image": "service:1", "Cmd": ["sleep", "100000"], "HostConfig": {"Memory": 64 << 20}}
            made = ContainerId(await containers.create(f"sleeper-{number}", body))
            pids[made] = 0
            await containers.start(made)
            pids[made] = (await containers.inspect(made)).state.pid

    await asyncio.gather(*(one(number) for number in range(count)))


async def ended(client: EngineClient, found: Sequence[ContainerId]) -> None:
    """Remove them."""
    containers = Containers(client)
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(container_id: ContainerId) -> None:
        async with limit:
            await containers.remove(container_id, force=True)

    await asyncio.gather(*(one(container_id) for container_id in found))


async def stats_ms(client: EngineClient, engine: PrivateEngine, found: Sequence[ContainerId]) -> float:
    """CPU milliseconds of the engine and of this process for the statistics of one container."""
    containers = Containers(client)
    before, ours = cpu_secs(engine.processes), time.process_time()
    for container_id in found:
        await containers.stats(container_id)
    used = cpu_secs(engine.processes) - before + time.process_time() - ours
    return used / len(found) * _MILLISECONDS


def message(host: HostReading, readings: dict[ContainerId, ContainerReading]) -> FiguresMessage:
    """The sample as the agent tells it."""
    return FiguresMessage(
        time_ns=time.time_ns(),
        resource={"host.id": "b0a7", "host.name": "bench", "host.arch": "amd64", "os.type": "linux"},
        agent={"service.name": "syntra-agent"},
        host=host,
        containers=tuple(
            ContainerFigures(
                identity={
                    "service_id": f"svc_{number}",
                    "service_name": f"web-{number}",
                    "deployment_id": "d1",
                    "project": "shop",
                    "container_id": container_id,
                    "image": "shop/web:1",
                    "replica": f"syn-web-{number}",
                },
                name=f"syn-web-{number}",
                started_ns=time.time_ns(),
                restarts=0,
                cpus_used=0.1,
                reading=reading,
            )
            for number, (container_id, reading) in enumerate(readings.items())
        ),
    )


def sample_costs(pids: dict[ContainerId, int], rounds: int) -> dict[str, float]:
    """CPU milliseconds of one container, by part."""
    reader = CgroupReader()

    def read() -> dict[ContainerId, ContainerReading]:
        return {one: found for one, pid in pids.items() if (found := reader.read(one, pid)) is not None}

    told = message(HostReader().read(), read())
    assert len(told.containers) == len(pids), "the containers' cgroups are not visible here"
    alone = FiguresMessage(**{**vars(told), "containers": ()})
    text, no_text = json.dumps(message_fields(told)), json.dumps(message_fields(alone))

    def encode(given: str) -> None:
        parsed = parse_message(json.loads(given))
        list(records(parsed, lambda identity: Identity(**identity).attributes()))

    count = len(pids)
    parts = {
        "read_ms": cpu_ms(read, rounds) / count,
        "tell_ms": cpu_ms(lambda: json.dumps(message_fields(told)), rounds) / count,
        "encode_ms": (cpu_ms(lambda: encode(text), rounds) - cpu_ms(lambda: encode(no_text), rounds)) / count,
    }
    parts["sum_ms"] = sum(parts.values())
    return {name: round(value, 4) for name, value in parts.items()}


async def measure(counts: Sequence[int], rounds: int, folder: Path) -> dict[str, object]:
    """All figures."""
    reader = HostReader()
    figures: dict[str, object] = {"host_ms": round(cpu_ms(reader.read, rounds), 3), "target_host_ms": TARGET_HOST_MS}
    say(f"host: {figures['host_ms']} ms")
    with PrivateEngine(folder / "engine") as engine:
        engine.import_image("service", "1")
        async with EngineClient(find_endpoint({}, str(engine.socket))) as client:
            for count in counts:
                pids: dict[ContainerId, int] = {}
                try:
                    await start(client, count, pids)
                    costs = sample_costs(pids, rounds)
                    costs["stats_ms"] = round(await stats_ms(client, engine, list(pids)[:20]), 3)
                    costs["ratio"] = ratio(costs["sum_ms"], costs["stats_ms"])
                finally:
                    await ended(client, list(pids))
                figures[f"containers_{count}"] = costs
                say(f"{count} containers, each: {costs}")
    return {**figures, "target_container_ms": TARGET_CONTAINER_MS}


def run(counts: Sequence[int], rounds: int) -> None:
    """Run the benchmark and print the result."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        figures = asyncio.run(measure(counts, rounds, Path(name)))
    result("sampling", figures, load_before=load)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="scripts/bench sampling", description="Measure the CPU time of sampling the host and containers."
    )
    parser.add_argument("--containers", type=int, nargs="+", default=(10, 200), help="how many (default 10 200)")
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement; the lowest counts (default 5)")
    given = parser.parse_args()
    enter_own_network()
    run(given.containers, given.rounds)
