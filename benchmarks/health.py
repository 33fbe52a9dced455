"""Measures the cost of continuous health checks: 500 HTTP checks every 10 s by the scheduler, next to bare loops.

One web server in a separate process answers all of them on loopback. Only the CPU time of the probing process counts,
user and kernel. On loopback the kernel does part of the server's work in the sender's time, so the real cost is lower.
The peers make the same probes with the same code:

- `bare`: one after another without a pause, as many as one second of the schedule contains, times the seconds. It has
  no schedule at all, and its caches stay warm.
- `loops`: one task per target that probes and sleeps, as one would write it without a scheduler.

The sides take turns and alternate in starting. The scheduler's first round is not measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import contextmanager

from benchmarks.figures import median, ratio, result, say
from syntra.health.checks import CheckTiming, HttpCheck
from syntra.health.probes import probe_http
from syntra.health.result import ProbeResult
from syntra.health.scheduler import AT_ONCE, HealthScheduler, Target, Transition

TARGET_PERCENT = 2.0
HOME = "127.0.0.1"
TIMEOUT_SECS = 5.0
SERVER = """
import asyncio

class Web(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.head = transport, b""

    def data_received(self, data):
        self.head += data
        if self.head.endswith(b"\\r\\n\\r\\n"):
            self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok")
            self.transport.close()

async def main():
    server = await asyncio.get_running_loop().create_server(Web, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@contextmanager
def web_server() -> Iterator[int]:
    """Start a process that answers every request with 200; return its port."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None, "cannot happen: it was asked for"
            yield int(process.stdout.readline())
        finally:
            process.terminate()


class Work:
    """Probes of one server, and their number."""

    def __init__(self, port: int, targets: int, interval: float) -> None:
        self.check = HttpCheck(path="/health", port=port)
        self.targets = targets
        self.interval = interval
        self.done = 0

    def took(self, outcome: ProbeResult) -> None:
        """Count a probe; it must have succeeded."""
        assert outcome.ok, f"a probe failed: {outcome.detail}"
        self.done += 1

    async def probe(self) -> None:
        """One probe."""
        self.took(await probe_http(HOME, self.check, TIMEOUT_SECS))

    @contextlib.asynccontextmanager
    async def scheduled(self) -> AsyncIterator[None]:
        """Put all targets in the scheduler."""

        def on_result(key: Hashable, outcome: ProbeResult, transition: Transition | None) -> None:
            self.took(outcome)

        scheduler = HealthScheduler(on_result, asyncio.get_running_loop().time, random.Random(1), AT_ONCE)
        timing = CheckTiming(interval_secs=self.interval, timeout_secs=TIMEOUT_SECS, retries=3, start_period_secs=0.0)
        for key in range(self.targets):
            scheduler.put(Target(key=key, address=HOME, check=self.check, timing=timing))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(scheduler.run(), name="scheduler")
            yield
            assert not scheduler.missed, f"{scheduler.missed} probes were left out"
            task.cancel()

    @contextlib.asynccontextmanager
    async def loops(self) -> AsyncIterator[None]:
        """A task per target."""
        rng = random.Random(1)

        async def loop() -> None:
            await asyncio.sleep(rng.random() * self.interval)
            while True:
                await self.probe()
                await asyncio.sleep(self.interval)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(loop(), name=f"loop {key}") for key in range(self.targets)]
            yield
            for task in tasks:
                task.cancel()


async def paced(work: Work, kind: str, seconds: float) -> tuple[float, int]:
    """CPU seconds and number of probes in `seconds` on schedule, after one round that is not measured."""
    async with work.scheduled() if kind == "ours" else work.loops():
        await asyncio.sleep(work.interval * 1.6)
        probes, before = work.done, time.process_time()
        await asyncio.sleep(seconds)
        return time.process_time() - before, work.done - probes


async def bare(work: Work, seconds: float) -> tuple[float, int]:
    """CPU seconds and number of probes without a pause, as many as the schedule makes in `seconds`."""
    count = round(work.targets / work.interval * seconds)
    for _ in range(count // 10):
        await work.probe()
    before = time.process_time()
    for _ in range(count):
        await work.probe()
    return time.process_time() - before, count


def run(seconds: float, rounds: int, targets: int, interval: float) -> None:
    """Run the benchmark and print the result."""
    load = os.getloadavg()[0]
    costs: dict[str, list[float]] = {"ours": [], "loops": [], "bare": []}
    with web_server() as port:
        for number in range(rounds):
            kinds = list(costs) if number % 2 == 0 else list(reversed(costs))
            for kind in kinds:
                work = Work(port, targets, interval)
                measured = bare(work, seconds) if kind == "bare" else paced(work, kind, seconds)
                spent, probes = asyncio.run(measured)
                costs[kind].append(spent / probes)
                say(f"{kind}: {probes} probes, {1e6 * spent / probes:.0f} us each")
    per_second = targets / interval
    percents = {kind: [100 * per_second * cost for cost in samples] for kind, samples in costs.items()}
    figures: dict[str, object] = {f"{kind}_percent": median(samples) for kind, samples in percents.items()}
    ours = median(percents["ours"])
    figures |= {
        "target_percent": TARGET_PERCENT,
        "ratio": ratio(ours, median(percents["bare"])),
        "ratio_to_loops": ratio(ours, median(percents["loops"])),
        "checks": targets,
        "interval_s": interval,
        "seconds": seconds,
        "rounds": rounds,
    }
    result("health", figures, load_before=load)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="scripts/bench health", description="Measure the CPU time of continuous health checks."
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="length of one round (default 20)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds for each side (default 3)")
    parser.add_argument("--checks", type=int, default=500, help="number of health checks (default 500)")
    parser.add_argument(
        "--interval", type=float, default=10.0, help="seconds between two probes of a check (default 10)"
    )
    given = parser.parse_args()
    run(given.seconds, given.rounds, given.checks, given.interval)
