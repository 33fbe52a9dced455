"""Compares the agent's reading of container logs with the OpenTelemetry Collector's: same files, in turns.

Lines are written to the log files of 16 containers, as the engine's driver `json-file` writes them, at a steady rate.
Both sides read the files, keep what they read on disk together with how far they have read, and export it to the same
sink with zstd. The agent joins and parses lines by itself; the Collector has its `container` parser, and the parser of
JSON for lines of JSON. The CPU time of all processes of a side counts, from the first line until the sink has the last.
Writer and sink do not count. The containers sleep, so the engine has nothing to do.

Needs root, `otelcol-contrib` in $SYNTRA_PEERS or on PATH, and an engine to run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.agent import BINARY, SOURCE, AgentProcess
from benchmarks.engine import PrivateEngine, enter_own_network
from benchmarks.figures import ratio, result, say
from benchmarks.log_containers import Writer, sleeping
from benchmarks.otlp import Sink
from benchmarks.processes import cpu_secs, memory_kb, tree
from syntra.cli.agent_client import ask
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen
from tests.telemetry.real_collector import RealCollector, free_port

GOAL = 2.0
"""Ratio of lines per CPU-second, agent to Collector."""
CONTAINERS = 16
SHAPES = ("plain-200", "json-200", "plain-1000", "json-1000")
READY_SECS = 60.0
SETTLE_SECS = 2.0
STUCK_SECS = 60.0
"""If nothing arrives for so long, nothing does."""

COLLECTOR = """
extensions:
  file_storage: {directory: FOLDER/queue, create_directory: true}
receivers:
  file_log:
    include: [LOGS]
    start_at: beginning
    storage: file_storage
    operators: [{type: container, format: docker, add_metadata_from_filepath: false}PARSER]
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:GRPC_PORT"}
      http: {endpoint: "127.0.0.1:HTTP_PORT"}
exporters:
  otlp_http:
    endpoint: SINK
    compression: zstd
    sending_queue:
      storage: file_storage
      queue_size: 10000
      block_on_overflow: true
      batch: {flush_timeout: 1s, min_size: 8192, sizer: items}
service:
  extensions: [file_storage]
  telemetry: {metrics: {level: none}, logs: {level: error}}
  pipelines:
    logs: {receivers: [file_log, otlp], exporters: [otlp_http]}
"""
JSON_PARSER = ", {type: json_parser, severity: {parse_from: attributes.level}}"

AGENT = """
[runtime]
docker_socket = "ENGINE"
[telemetry]
otlp_grpc_port = GRPC_PORT
otlp_http_port = HTTP_PORT
batch_interval_secs = 1
buffer_max_mb = 500
[telemetry.logs]
containers = "all"
max_lines_per_sec = 0
max_kb_per_sec = 0
[telemetry.export]
endpoint = "SINK"
protocol = "http/protobuf"
compression = "zstd"
signals = ["logs"]
"""


@frozen
class Taken:
    """What one side did in one run."""

    lines: int
    cpu: float
    pss_kb: int
    bytes: int

    @property
    def lines_per_cpu(self) -> float:
        """Lines per second of CPU time."""
        return self.lines / self.cpu


@contextmanager
def collector(folder: Path, files: Sequence[Path], sink: str, shape: str) -> Iterator[int]:
    """The Collector; its pid."""
    peers = Path(os.environ.get("SYNTRA_PEERS") or Path.home() / ".cache" / "syntra-peers")
    path = shutil.which(peers / "otelcol-contrib") or shutil.which("otelcol-contrib")
    if path is None:
        raise SystemExit(
            "cannot compare: there is no `otelcol-contrib` in $SYNTRA_PEERS or on PATH; build the Collector"
        )
    config = COLLECTOR.replace("SINK", sink).replace("LOGS", str(files[0].parent.parent / "*" / "*-json.log"))
    config = config.replace("PARSER", JSON_PARSER if shape.startswith("json") else "")
    with RealCollector(folder, config, path=path) as started:
        yield started.pid


@contextmanager
def agent(folder: Path, engine: PrivateEngine, sink: str, containers: int, command: Sequence[str]) -> Iterator[int]:
    """The agent, once it follows all containers; its pid."""
    config = AGENT.replace("ENGINE", str(engine.socket)).replace("SINK", sink)
    config = config.replace("GRPC_PORT", str(free_port())).replace("HTTP_PORT", str(free_port()))
    with AgentProcess(folder, config=config, command=command) as started:
        deadline = time.monotonic() + READY_SECS
        while followed(started) < containers:
            if time.monotonic() > deadline:
                raise SystemExit(f"the agent does not follow the containers:\n{started.log()}")
            time.sleep(0.2)
        yield started.pid


def followed(started: AgentProcess) -> int:
    """How many containers' logs the agent reads."""
    try:
        shown = ask(started.socket, "telemetry_status", {})
    except AgentError:  # the telemetry process does not run yet
        return 0
    logs = shown.get("container_logs")
    return int(logs["containers"]) if isinstance(logs, dict) else 0


def measured(pid: int, files: Sequence[Path], sink: Sink, shape: str, options: argparse.Namespace) -> Taken:
    """One side over the time of writing, until all has arrived."""
    # What the start has set off does not count.
    time.sleep(SETTLE_SECS)
    kind, _, size = shape.partition("-")
    writer = Writer(files, kind, int(size))
    before, counts = cpu_secs(tree(pid)), sink.counts()
    lines = writer.write(options.rate, options.secs)
    writer.close()
    memory, arrived, since = 0, -1, time.monotonic()
    while (now := sink.counts())["logs"] - counts["logs"] < lines:
        if now["logs"] != arrived:
            arrived, since = now["logs"], time.monotonic()
        elif time.monotonic() - since > STUCK_SECS:
            raise SystemExit(f"only {arrived - counts['logs']} of {lines} lines have arrived: the figures mean nothing")
        memory = max(memory, memory_kb(tree(pid))["pss"])
        # Asking costs the sink, which shares the processors.
        time.sleep(0.1)
    memory = max(memory, memory_kb(tree(pid))["pss"])
    used = cpu_secs(tree(pid)) - before
    if now["logs"] - counts["logs"] != lines:
        raise SystemExit(f"{lines} lines were written, {now['logs'] - counts['logs']} arrived")
    return Taken(lines=lines, cpu=used, pss_kb=memory, bytes=now["bytes"] - counts["bytes"])


def side(name: str, shape: str, engine: PrivateEngine, files: Sequence[Path], options: argparse.Namespace) -> Taken:
    """One run of one side, with a sink of its own and empty files."""
    for file in files:
        os.truncate(file, 0)
    with tempfile.TemporaryDirectory() as folder, Sink(with_logs=True) as sink:
        command = (str(BINARY),) if options.binary else SOURCE
        started = (
            agent(Path(folder), engine, sink.url, len(files), command)
            if name == "agent"
            else collector(Path(folder), files, sink.url, shape)
        )
        with started as pid:
            taken = measured(pid, files, sink, shape, options)
    say(
        f"  {shape} {name}: {taken.lines_per_cpu:,.0f} lines per CPU-second, PSS {taken.pss_kb / 1024:.0f} MiB, "
        f"{taken.bytes / taken.lines:.1f} bytes a line"
    )
    return taken


def compare(shape: str, engine: PrivateEngine, files: Sequence[Path], options: argparse.Namespace) -> dict[str, object]:
    """All rounds of one shape."""
    sides = ["agent"] if options.alone else ["agent", "collector"]
    taken: dict[str, list[Taken]] = {name: [] for name in sides}
    for round_ in range(options.rounds):
        for name in sides if round_ % 2 == 0 else sides[::-1]:
            taken[name].append(side(name, shape, engine, files, options))
    figures: dict[str, object] = {}
    for name, runs in taken.items():
        figures[name] = {
            "lines_per_cpu_second": round(statistics.median(run.lines_per_cpu for run in runs)),
            "pss_mib": round(statistics.median(run.pss_kb for run in runs) / 1024, 1),
            "bytes_per_line": round(statistics.median(run.bytes / run.lines for run in runs), 1),
        }
    if not options.alone:
        figures["ratio"] = ratio(*(statistics.median(run.lines_per_cpu for run in taken[name]) for name in sides))
    return figures


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench logs", description=__doc__)
    parser.add_argument("--rate", type=float, default=30_000.0, help="lines a second of all containers together")
    parser.add_argument("--secs", type=float, default=10.0, help="how long each run writes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES, help="form and size of the lines")
    parser.add_argument("--containers", type=int, default=CONTAINERS)
    parser.add_argument("--binary", action="store_true", help="measure dist/syntra-agent instead of the source")
    parser.add_argument("--alone", action="store_true", help="without the Collector")
    options = parser.parse_args()
    enter_own_network()
    load = os.getloadavg()[0]
    figures: dict[str, object] = {"containers": options.containers, "rounds": options.rounds, "goal": GOAL}
    with tempfile.TemporaryDirectory() as folder, PrivateEngine(Path(folder) / "engine") as engine:
        engine.import_image("service", "1")
        try:
            files = sleeping(engine, options.containers)
            for shape in options.shapes:
                figures[shape] = compare(shape, engine, files, options)
        finally:
            engine.remove_all()
    result("logs", figures, load_before=load)


if __name__ == "__main__":
    main()
