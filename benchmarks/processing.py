"""Measures the CPU time of a span between receiver and ring: validation, identity, RED metrics and sampling.

The peer is protobuf's own parser (upb, in C) on the same requests, which any receiver that reads spans must run at
least. For each number of spans per request there are two sides: everything is kept, and a tenth is kept. The sides
and the peer take turns; each figure is the median of the rounds, so a ratio compares what ran at the same time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.figures import ratio, result, say
from benchmarks.spans import traces_request
from syntra.telemetry.processing.identity import Identity
from syntra.telemetry.processing.outcome import ErrorExtractor
from syntra.telemetry.processing.processor import ProcessingSettings, Processor
from syntra.telemetry.signals import Signal

SIZES = (512, 100, 10)
TARGETS = {512: 600_000, 100: 500_000, 10: 400_000}
SENDER = Identity(
    service_id="srv-1",
    service_name="checkout",
    deployment_id="dep-1",
    project="shop",
    container_id="c" * 64,
    replica="checkout-1",
)
NO_ERRORS = ErrorExtractor(
    from_span=lambda span, resource: [], from_log=lambda record, resource: None, encode=lambda errors: b""
)


class Side:
    """A processor and requests for it. Its clock moves by a second for each request."""

    def __init__(self, requests: list[bytes], identity: Identity | None, *, tenth: bool) -> None:
        self.requests = requests
        self.identity = identity
        self.now = 0.0
        target = 1e12
        if tenth:
            # Loads of one request each second; the floors exceed the target and stay below the hard cap.
            target = 0.09 * _spans(requests[0])
        settings = ProcessingSettings(target_spans_per_sec=target, sampling_rate=0.1)
        self.processor = Processor(settings, NO_ERRORS, clock=lambda: self.now)
        self.kept = self.received = 0
        for _ in range(200 // len(requests) + 1):
            self.run()
        self.kept = self.received = 0

    def run(self) -> None:
        """Process all requests once."""
        for request in self.requests:
            self.now += 1.0
            done = self.processor.process(Signal.TRACES, request, self.identity)
            self.received += done.received
            self.kept += done.received - done.sampled_out


def _spans(request: bytes) -> int:
    return len(ExportTraceServiceRequest.FromString(request).resource_spans[0].scope_spans[0].spans)


def cpu_secs(work: Callable[[], None]) -> float:
    """CPU time of this process, user and kernel."""
    before = time.process_time()
    work()
    return time.process_time() - before


def measure(size: int, rounds: int) -> dict[str, object]:
    """The figures for one number of spans per request."""
    requests = [traces_request(size, seed) for seed in range(max(2, 4096 // size))]
    spans = size * len(requests)
    sides = {
        "all": Side(requests, None, tenth=False),
        "all_identified": Side(requests, SENDER, tenth=False),
        "tenth": Side(requests, SENDER, tenth=True),
    }

    def parse() -> None:
        for request in requests:
            ExportTraceServiceRequest.FromString(request)

    work: dict[str, Callable[[], None]] = {name: side.run for name, side in sides.items()} | {"parse": parse}
    samples: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds):
        for name in work if number % 2 == 0 else reversed(work):
            samples[name].append(cpu_secs(work[name]) / spans)
    costs = {name: statistics.median(seconds) for name, seconds in samples.items()}
    rates = {name: round(1 / cost) for name, cost in costs.items()}
    say(f"{size} spans per request: " + ", ".join(f"{name} {rate}/s" for name, rate in rates.items()))
    return {
        "spans_per_request": size,
        "spans_per_cpu_s": rates,
        "best_spans_per_cpu_s": {name: round(1 / min(seconds)) for name, seconds in samples.items()},
        "ratio": ratio(costs["all"], costs["parse"]),
        "ratio_tenth": ratio(costs["tenth"], costs["parse"]),
        "kept_share": round(sides["tenth"].kept / sides["tenth"].received, 3),
        "target": TARGETS[size],
    }


def run(rounds: int) -> None:
    """Run the benchmark and print the result. `ratio` is the cost of a span as a multiple of parsing it."""
    load = os.getloadavg()[0]
    sizes = [measure(size, rounds) for size in SIZES]
    result("processing", {"ratio": sizes[0]["ratio"], "sizes": sizes, "rounds": rounds}, load_before=load)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="scripts/bench processing", description="Measure the CPU time that the pipeline spends on a span."
    )
    parser.add_argument("--rounds", type=int, default=40, help="rounds for each side (default 40)")
    run(parser.parse_args().rounds)
