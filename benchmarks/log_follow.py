"""Compares following container logs through the engine: the agent beside `docker logs --follow`, in turns.

Sixteen containers with the log driver `local`, whose files only the engine reads, print the same lines at once. The
agent joins, parses and keeps the lines on disk and exports them to a sink; `docker logs --follow --timestamps` writes
them to files. The CPU time of the side's processes and of the engine counts, from the first line until all are there.
The engine's own work, with no reader, is measured in the same way.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.agent import BINARY, SOURCE
from benchmarks.engine import PrivateEngine, enter_own_network
from benchmarks.figures import ratio, result, say
from benchmarks.log_containers import texts
from benchmarks.logs import CONTAINERS, SETTLE_SECS, STUCK_SECS, agent
from benchmarks.otlp import Sink
from benchmarks.processes import cpu_secs, tree
from syntra.utils.frozen import frozen

SIDES = ("agent", "docker", "alone")
DRIVER = {"Type": "local", "Config": {}}
PROGRAM = "while [ ! -e /go/go ]; do sleep 0.2; done; cat /go/lines; touch /go/done-$NAME; exec sleep 100000"


@frozen
class Taken:
    """CPU seconds of one run."""

    reader: float
    engine: float


def prepared(folder: Path, lines: int) -> None:
    """What the containers print."""
    folder.mkdir()
    some = texts("plain", 200)
    (folder / "lines").write_text("".join(some[number % len(some)] + "\n" for number in range(lines)))


def started(engine: PrivateEngine, go: Path, count: int) -> list[str]:
    """Containers that wait; their ids."""
    found = []
    for number in range(count):
        command = ["sh", "-c", PROGRAM.replace("$NAME", str(number))]
        found.append(engine.run(f"follow-{number}", "service:1", command, log=DRIVER, binds=[f"{go}:/go"]))
    return found


@contextmanager
def docker(folder: Path, engine: PrivateEngine, containers: list[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """`docker logs --follow` for each, writing to files."""
    processes = []
    try:
        for container in containers:
            with (folder / container).open("wb") as output:
                command = ["docker", "-H", f"unix://{engine.socket}", "logs", "--follow", "--timestamps", container]
                processes.append(subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL))
        yield processes
    finally:
        for one in processes:
            one.kill()
            one.wait()


def printed(folder: Path) -> int:
    """Lines in the files."""
    return sum(file.read_bytes().count(b"\n") for file in folder.iterdir())


def measured(go: Path, engine: PrivateEngine, pids: list[int], arrived: Callable[[], int], wanted: int) -> Taken:
    """One run: from the sign to begin until so many lines are there."""
    # What the start has set off does not count.
    time.sleep(SETTLE_SECS)
    before, engine_before = sum(cpu_secs(tree(pid)) for pid in pids), cpu_secs(engine.processes)
    (go / "go").touch()
    last, since = 0, time.monotonic()
    while (now := arrived()) < wanted:
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > STUCK_SECS:
            raise SystemExit(f"only {now} of {wanted} lines have arrived: the figures mean nothing")
        # Asking costs the sink, which shares the processors.
        time.sleep(0.2)
    used = sum(cpu_secs(tree(pid)) for pid in pids) - before
    return Taken(reader=used, engine=cpu_secs(engine.processes) - engine_before)


def side(name: str, engine: PrivateEngine, options: argparse.Namespace) -> Taken:
    """One run of one side, with containers of its own."""
    wanted = options.containers * options.lines
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        go, output = folder / "go", folder / "output"
        prepared(go, options.lines)
        output.mkdir()
        containers = started(engine, go, options.containers)
        try:
            if name == "agent":
                command = (str(BINARY),) if options.binary else SOURCE
                with (
                    Sink(with_logs=True) as sink,
                    agent(folder / "agent", engine, sink.url, options.containers, command) as pid,
                ):
                    taken = measured(go, engine, [pid], lambda: sink.counts()["logs"], wanted)
            elif name == "docker":
                with docker(output, engine, containers) as processes:
                    pids = [one.pid for one in processes]
                    taken = measured(go, engine, pids, lambda: printed(output), wanted)
            else:
                done = measured(go, engine, [], lambda: len(list(go.glob("done-*"))), options.containers)
                taken = Taken(reader=0.0, engine=done.engine)
        finally:
            engine.remove_all()
    per_line = 1e6 / wanted
    say(f"  {name}: {taken.reader * per_line:.1f} µs a line, the engine {taken.engine * per_line:.1f} µs")
    return taken


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench log-follow", description=__doc__)
    parser.add_argument("--lines", type=int, default=10_000, help="lines of each container (default 10000)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--containers", type=int, default=CONTAINERS)
    parser.add_argument("--binary", action="store_true", help="measure dist/syntra-agent instead of the source")
    options = parser.parse_args()
    if shutil.which("docker") is None:
        raise SystemExit("no `docker` to compare with; install docker.io")
    enter_own_network()
    load = os.getloadavg()[0]
    taken: dict[str, list[Taken]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as folder, PrivateEngine(Path(folder) / "engine") as engine:
        engine.import_image("service", "1")
        for round_ in range(options.rounds):
            for name in SIDES if round_ % 2 == 0 else SIDES[::-1]:
                taken[name].append(side(name, engine, options))
    wanted = options.containers * options.lines
    whole = {name: statistics.median(run.reader + run.engine for run in runs) for name, runs in taken.items()}
    figures: dict[str, object] = {"containers": options.containers, "lines": wanted, "rounds": options.rounds}
    for name, runs in taken.items():
        figures[name] = {
            "lines_per_cpu_second": round(wanted / whole[name]),
            "reader_us_per_line": round(1e6 * statistics.median(run.reader for run in runs) / wanted, 1),
            "engine_us_per_line": round(1e6 * statistics.median(run.engine for run in runs) / wanted, 1),
        }
    result("log-follow", {**figures, "ratio": ratio(whole["docker"], whole["agent"])}, load_before=load)


if __name__ == "__main__":
    main()
