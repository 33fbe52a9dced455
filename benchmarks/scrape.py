"""Compares the agent's scrapes of Prometheus endpoints with the OpenTelemetry Collector's: same targets, in turns.

Ten targets of a thousand series are scraped every second; half of the series are histograms, and all values change.
Both sides keep what they scrape on disk and export it to the same sink with zstd. The CPU time of all processes of a
side counts over the measured time, also what it uses while idle. Targets and sink are processes of their own and do not
count. The Collector asks for gzip, as Prometheus does; the agent asks for it only from other machines.

Needs `otelcol-contrib` in $SYNTRA_PEERS or on PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.agent import BINARY, ROOT, SOURCE, AgentProcess
from benchmarks.figures import ratio, result, say
from benchmarks.metrics_pages import page, samples_of
from benchmarks.otlp import Sink
from benchmarks.processes import cpu_secs, memory_kb, tree
from syntra.utils.frozen import frozen
from tests.telemetry.real_collector import RealCollector, free_port

GOAL = 1.0
"""Ratio of samples per CPU-second, agent to Collector."""
WARM_SECS = 5.0

COLLECTOR = """
extensions:
  file_storage: {directory: FOLDER/queue, create_directory: true}
receivers:
  prometheus:
    config:
      scrape_configs:
        - {job_name: bench, scrape_interval: 1s, scrape_timeout: 1s, static_configs: [{targets: TARGETS}]}
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:GRPC_PORT"}
      http: {endpoint: "127.0.0.1:HTTP_PORT"}
exporters:
  otlp_http:
    endpoint: SINK
    compression: zstd
    sending_queue: {storage: file_storage, queue_size: 10000, block_on_overflow: true}
service:
  extensions: [file_storage]
  telemetry: {metrics: {level: none}, logs: {level: error}}
  pipelines:
    metrics: {receivers: [prometheus, otlp], exporters: [otlp_http]}
"""

AGENT = """
[telemetry]
otlp_grpc_port = GRPC_PORT
otlp_http_port = HTTP_PORT
batch_interval_secs = 1
[telemetry.export]
endpoint = "SINK"
protocol = "http/protobuf"
compression = "zstd"
signals = ["metrics"]
[telemetry.prometheus]
interval_secs = 1
timeout_secs = 1
"""


@frozen
class Taken:
    """What one side did in one run."""

    samples: int
    secs: float
    cpu: float
    pss_kb: int
    requests: int
    bytes: int

    @property
    def samples_per_cpu(self) -> float:
        """Samples scraped per second of CPU time."""
        return self.samples / self.cpu


class Targets:
    """The endpoints."""

    def __init__(self, targets: int, series: int) -> None:
        command = [sys.executable, "-m", "benchmarks.metrics_pages", "--targets", str(targets), "--series", str(series)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None, "cannot happen: it was asked for"
        self.ports: list[int] = json.loads(self._process.stdout.readline())

    def pages(self) -> int:
        """Pages sent since the start."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[0]}/count", timeout=30) as answer:
            return int(json.load(answer)["pages"])

    def __enter__(self) -> Targets:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=10)


@contextmanager
def collector(folder: Path, ports: Sequence[int], sink: str) -> Iterator[int]:
    """The Collector; its pid."""
    peers = Path(os.environ.get("SYNTRA_PEERS") or Path.home() / ".cache" / "syntra-peers")
    path = shutil.which(peers / "otelcol-contrib") or shutil.which("otelcol-contrib")
    if path is None:
        raise SystemExit(
            "cannot compare: there is no `otelcol-contrib` in $SYNTRA_PEERS or on PATH; build the Collector"
        )
    targets = json.dumps([f"127.0.0.1:{port}" for port in ports])
    with RealCollector(folder, COLLECTOR.replace("SINK", sink).replace("TARGETS", targets), path=path) as started:
        yield started.pid


@contextmanager
def agent(folder: Path, ports: Sequence[int], sink: str, command: Sequence[str]) -> Iterator[int]:
    """The agent; its pid."""
    config = AGENT.replace("SINK", sink)
    config = config.replace("GRPC_PORT", str(free_port())).replace("HTTP_PORT", str(free_port()))
    config += "".join(f'[[telemetry.scrape]]\nurl = "http://127.0.0.1:{port}/metrics"\n' for port in ports)
    with AgentProcess(folder, config=config, command=command) as started:
        yield started.pid


def measured(pid: int, targets: Targets, sink: Sink, samples: int, secs: float) -> Taken:
    """One side over some time, once its scrapes are in step."""
    deadline = time.monotonic() + 60.0
    while targets.pages() == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(WARM_SECS)
    pids = tree(pid)
    before, pages, counts, began = cpu_secs(pids), targets.pages(), sink.counts(), time.monotonic()
    time.sleep(secs)
    used, sent, elapsed = cpu_secs(pids) - before, targets.pages() - pages, time.monotonic() - began
    now, memory = sink.counts(), memory_kb(pids)["pss"]
    if not sent or now["requests"] == counts["requests"]:
        raise SystemExit("nothing was scraped or exported: the comparison means nothing")
    return Taken(
        samples=sent * samples,
        secs=elapsed,
        cpu=used,
        pss_kb=memory,
        requests=now["requests"] - counts["requests"],
        bytes=now["bytes"] - counts["bytes"],
    )


def side(name: str, options: argparse.Namespace, samples: int) -> Taken:
    """One run of one side, with targets and sink of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Targets(options.targets, options.series) as targets,
        Sink(with_spans=False) as sink,
    ):
        command = (str(BINARY),) if options.binary else SOURCE
        started = (
            agent(Path(folder), targets.ports, sink.url, command)
            if name == "agent"
            else collector(Path(folder), targets.ports, sink.url)
        )
        with started as pid:
            taken = measured(pid, targets, sink, samples, options.secs)
    say(
        f"  {name}: {taken.samples_per_cpu:,.0f} samples per CPU-second, {taken.cpu / taken.secs:.2%} of a core, "
        f"PSS {taken.pss_kb / 1024:.0f} MiB, {taken.bytes / taken.samples:.1f} bytes a sample"
    )
    return taken


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench scrape", description=__doc__)
    parser.add_argument("--targets", type=int, default=10)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--secs", type=float, default=30.0, help="measured time of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--binary", action="store_true", help="measure dist/syntra-agent instead of the source")
    parser.add_argument("--alone", action="store_true", help="without the Collector")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    samples = samples_of(page(options.series, 0))
    say(f"{options.targets} targets of {samples} samples, every second")
    sides = ["agent"] if options.alone else ["agent", "collector"]
    taken: dict[str, list[Taken]] = {name: [] for name in sides}
    for round_ in range(options.rounds):
        for name in sides if round_ % 2 == 0 else sides[::-1]:
            taken[name].append(side(name, options, samples))
    figures: dict[str, object] = {"targets": options.targets, "series": samples, "rounds": options.rounds}
    for name, runs in taken.items():
        figures[name] = {
            "samples_per_cpu_second": round(statistics.median(run.samples_per_cpu for run in runs)),
            "pss_mib": round(statistics.median(run.pss_kb for run in runs) / 1024, 1),
            "bytes_per_sample": round(statistics.median(run.bytes / run.samples for run in runs), 1),
        }
    if not options.alone:
        rates = [statistics.median(run.samples_per_cpu for run in taken[name]) for name in sides]
        figures |= {"ratio": ratio(*rates), "goal": GOAL}
    result("scrape", figures, load_before=load)


if __name__ == "__main__":
    main()
