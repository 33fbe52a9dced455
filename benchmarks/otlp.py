"""Compares the agent as an OTLP receiver with the OpenTelemetry Collector: same load, in turns, in one run.

Eight connections send pre-encoded requests of realistic spans (about 430 bytes, 10 attributes) over gRPC, HTTP with
protobuf and HTTP with JSON, with 512, 100 and 10 spans per request. Both sides export to the same sink with zstd. The
CPU time of all processes of a side counts, from the first request until the sink has everything. Generator and sink
are processes of their own and do not count. The pairs:

- durable: the Collector writes its exporter's queue to disk (file_storage); the agent answers from its ring.
- batch: the Collector's batch processor in front, which answers before anything is durable; the agent as in `durable`.
- sample: both keep 10 % of the traces; the Collector has its batch processor, too. `exported_spans_ratio` is the share
  that each kept.

Needs `otelcol` in $SYNTRA_PEERS or on PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from benchmarks.agent import BINARY, ROOT, SOURCE, AgentProcess
from benchmarks.figures import ratio, result, say
from benchmarks.processes import cpu_secs, memory_kb, tree
from syntra.utils.frozen import frozen
from tests.telemetry.real_collector import RealCollector, find, free_port

PAIRS = ("durable", "batch", "sample")
PROTOCOLS = ("grpc", "http/protobuf", "http/json")
SPANS = (512, 100, 10)
GOALS = {
    "durable": {512: 3.0, 100: 3.0, 10: 3.0},
    "batch": {512: 2.0, 100: 2.0, 10: 1.0},
    "sample": {512: 1.5, 100: 1.0, 10: 1.0},
}
"""Ratio of spans per CPU-second, agent to Collector, over gRPC and protobuf. Of JSON the goal of `sample` is 1."""
TARGETS = {512: 3000, 100: 2500, 10: 600}
"""With these targets the agent keeps its minimum, a tenth: they are below a tenth of the load and above a fortieth."""
CONNECTIONS = 8
INTERVAL_SECS = 1
QUIET_SECS = 1.5
"""The sink has everything when nothing came for this long: longer than either side waits for a batch."""
SAMPLE_SECS = 20.0
"""The least length of a turn of `sample`: the agent adjusts what it keeps every 15 s."""
DRAIN_SECS = 60.0
MEMORY_SECS = 0.5

COLLECTOR = """
extensions:
  file_storage: {directory: FOLDER/queue, create_directory: true}
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:GRPC_PORT"}
      http: {endpoint: "127.0.0.1:HTTP_PORT"}
processors:
  batch: {}
  probabilistic_sampler: {sampling_percentage: 10}
exporters:
  otlp_http:
    endpoint: SINK
    compression: zstd
    sending_queue: {storage: file_storage, queue_size: 10000, block_on_overflow: true}
service:
  extensions: [file_storage]
  telemetry: {metrics: {level: none}, logs: {level: error}}
  pipelines:
    traces: {receivers: [otlp], processors: [PROCESSORS], exporters: [otlp_http]}
"""
PROCESSORS = {"durable": "", "batch": "batch", "sample": "probabilistic_sampler, batch"}

AGENT = """
[telemetry]
otlp_grpc_port = GRPC_PORT
otlp_http_port = HTTP_PORT
batch_interval_secs = INTERVAL
sampling_rate = RATE
target_spans_per_sec = TARGET
[telemetry.export]
endpoint = "SINK"
protocol = "http/protobuf"
compression = "zstd"
signals = ["traces"]
"""


class Side(Protocol):
    """A started receiver."""

    @property
    def pid(self) -> int:
        """The process whose tree is measured."""
        ...

    @property
    def grpc_port(self) -> int:
        """Where it takes OTLP/gRPC."""
        ...

    @property
    def http_port(self) -> int:
        """Where it takes OTLP/HTTP."""
        ...


@frozen
class Ports:
    """The agent as a side."""

    pid: int
    grpc_port: int
    http_port: int


@contextmanager
def collector(folder: Path, pair: str, sink: str) -> Iterator[Side]:
    """The Collector, ready for requests."""
    path = find()
    if path is None:
        raise SystemExit("cannot compare: there is no `otelcol` in $SYNTRA_PEERS or on PATH; build the Collector")
    config = COLLECTOR.replace("SINK", sink).replace("PROCESSORS", PROCESSORS[pair])
    with RealCollector(folder, config, path=path) as started:
        yield started


@contextmanager
def agent(folder: Path, pair: str, spans: int, sink: str, command: Sequence[str]) -> Iterator[Side]:
    """The agent, ready for requests of so many spans. Only `sample` leaves traces out."""
    grpc_port, http_port = free_port(), free_port()
    replaced = {
        "GRPC_PORT": grpc_port,
        "HTTP_PORT": http_port,
        "INTERVAL": INTERVAL_SECS,
        "RATE": 0.1 if pair == "sample" else 1.0,
        "TARGET": TARGETS[spans] if pair == "sample" else 10_000_000,
        "SINK": sink,
    }
    config = AGENT
    for name, value in replaced.items():
        config = config.replace(name, str(value))
    with AgentProcess(folder, config=config, command=command) as started:
        side = Ports(pid=started.pid, grpc_port=grpc_port, http_port=http_port)
        _await_ports(side, started)
        yield side


def _await_ports(side: Side, started: AgentProcess) -> None:
    import socket

    deadline = time.monotonic() + 30.0
    for port in (side.grpc_port, side.http_port):
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if started.ended or time.monotonic() > deadline:
                raise SystemExit(f"the agent does not listen on port {port}:\n{started.log()}")
            time.sleep(0.05)


class Sink:
    """The endpoint that both sides export to."""

    def __init__(self, *, with_spans: bool = False, with_logs: bool = False) -> None:
        options = ["--spans"] * with_spans + ["--logs"] * with_logs
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.otlp_sink", *options], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None, "cannot happen: it was asked for"
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def counts(self) -> dict[str, int]:
        """Requests, bytes, spans and log records since the start."""
        with urllib.request.urlopen(f"{self.url}/counts", timeout=30) as answer:
            found: dict[str, int] = json.load(answer)
            return found

    def wait_until_quiet(self) -> dict[str, int]:
        """The counts once nothing comes any more."""
        deadline, last, since = time.monotonic() + DRAIN_SECS, self.counts(), time.monotonic()
        while time.monotonic() - since < QUIET_SECS and time.monotonic() < deadline:
            time.sleep(0.1)
            found = self.counts()
            if found != last:
                last, since = found, time.monotonic()
        return last

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=10)


def measure(side: Side, sink: Sink, protocol: str, spans: int, seconds: float) -> dict[str, float]:
    """One turn of one side."""
    port = side.grpc_port if protocol == "grpc" else side.http_port
    command = [sys.executable, "-m", "benchmarks.otlp_load", "--protocol", protocol, "--port", str(port)]
    command += ["--spans", str(spans), "--seconds", str(seconds), "--connections", str(CONNECTIONS)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdin is not None and load.stdout is not None, "cannot happen: they were asked for"
        try:
            if load.stdout.readline() != "ready\n":
                raise SystemExit("the load generator failed; see above")
            before = sink.wait_until_quiet()
            processes = tree(side.pid)
            used = cpu_secs(processes)
            load.stdin.write("go\n")
            load.stdin.flush()
            memory, until = 0, time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0:
                time.sleep(min(left, MEMORY_SECS))
                memory = max(memory, memory_kb(tree(side.pid))["pss"])
            figures = json.loads(load.stdout.readline())
        finally:
            load.kill()
    after = sink.wait_until_quiet()
    used = cpu_secs(tree(side.pid)) - used
    return {
        "spans_per_cpu_sec": round(figures["spans"] / max(used, 0.01)),
        "spans_per_sec": round(figures["spans"] / figures["seconds"]),
        "pss_mb": round(memory / 1024, 1),
        "p50_ms": figures["p50_ms"],
        "p99_ms": figures["p99_ms"],
        "refused": figures["refused"],
        "exported_spans_ratio": round((after["spans"] - before["spans"]) / max(1, figures["spans"]), 4),
        "exported_bytes_per_span": round((after["bytes"] - before["bytes"]) / max(1, figures["spans"]), 1),
    }


def summary(turns: Sequence[Mapping[str, float]], *, with_spans: bool) -> dict[str, float]:
    """Medians of the turns of one side; memory is the largest."""
    found = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
    found["pss_mb"] = max(turn["pss_mb"] for turn in turns)
    if not with_spans:
        del found["exported_spans_ratio"]
    return found


def run(given: argparse.Namespace) -> None:
    """Run the benchmark and print the result."""
    load = os.getloadavg()[0]
    command = (str(BINARY),) if given.binary else SOURCE
    figures: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as name, Sink(with_spans=given.count_spans or "sample" in given.pairs) as sink:
        for pair in given.pairs:
            figures[pair] = {}
            for spans in given.spans:
                with ExitStack() as stack:
                    folder = Path(name) / f"{pair}-{spans}"
                    sides = {
                        "collector": stack.enter_context(collector(folder / "collector", pair, sink.url)),
                        "agent": stack.enter_context(agent(folder / "agent", pair, spans, sink.url, command)),
                    }
                    for protocol in given.protocols:
                        found = compare(sides, sink, pair, protocol, spans, given)
                        figures[pair][f"{protocol}_{spans}"] = found
    summary_line = {"connections": CONNECTIONS, "seconds": given.seconds, "rounds": given.rounds}
    result("otlp", {**figures, **summary_line}, load_before=load)


def compare(
    sides: Mapping[str, Side], sink: Sink, pair: str, protocol: str, spans: int, given: argparse.Namespace
) -> dict[str, object]:
    """Both sides in turns with one kind of request."""
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    is_sample = pair == "sample"
    seconds = max(given.seconds, SAMPLE_SECS) if is_sample else given.seconds
    for number in range(given.rounds):
        for name, side in sides.items():
            turns[name].append(measure(side, sink, protocol, spans, seconds))
            say(f"{pair} {protocol} {spans} round {number + 1} {name}: {turns[name][-1]}")
    found = {name: summary(each, with_spans=given.count_spans or is_sample) for name, each in turns.items()}
    goal = 1.0 if protocol == "http/json" and pair == "sample" else GOALS[pair][spans]
    reached = ratio(found["agent"]["spans_per_cpu_sec"], found["collector"]["spans_per_cpu_sec"])
    say(f"{pair} {protocol} {spans}: {reached} times the collector's spans per CPU-second (goal {goal})")
    return {**found, "ratio": reached, "goal": goal}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="scripts/bench otlp", description="Compare the agent as an OTLP receiver with the OpenTelemetry Collector."
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each turn (default 10)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (default 3)")
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=PAIRS)
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS)
    parser.add_argument("--spans", nargs="+", type=int, choices=SPANS, default=SPANS, help="spans of each request")
    parser.add_argument("--count-spans", action="store_true", help="the sink decodes everything and counts the spans")
    parser.add_argument("--binary", action="store_true", help="measure the compiled agent, dist/syntra-agent")
    run(parser.parse_args())
