"""Measures appending to the telemetry buffer, next to a plain write() of the same bytes to a file.

The records are OTLP requests of spans, about 1 KB and 10 KB each, all different. The buffer compresses them, adds
length and checksum, and counts them; the plain side calls write() once for each. With `interval` one thread appends and
nothing waits for the disk. With `always` eight threads append, and each append waits until the disk has it: the buffer
syncs once for all that wait, the plain side calls fdatasync() after each write. The sides take turns, and the side that
begins alternates. MB are bytes before compression.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.figures import median, ratio, result, say
from syntra.telemetry.buffer.ring import Buffer
from syntra.telemetry.signals import Record, Signal

SIZES = {"1_kb": 3, "10_kb": 32}
"""Spans in a record."""
DIFFERENT = 200
BUDGET = 256 * 1024 * 1024
THREADS = {"interval": 1, "always": 8}


class Run(NamedTuple):
    """Seconds of one side, by the clock and of CPU time."""

    wall: float
    cpu: float


def request(rng: random.Random, spans: int) -> bytes:
    """An encoded request, of one service, with spans as an SDK sends them."""
    made = ExportTraceServiceRequest()
    resource = made.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "checkout"
    scope = resource.scope_spans.add()
    scope.scope.name = "opentelemetry.instrumentation.http"
    for _ in range(spans):
        span = scope.spans.add(trace_id=rng.randbytes(16), span_id=rng.randbytes(8), kind=2)
        span.name = f"GET /orders/{rng.randrange(20)}"
        span.start_time_unix_nano = 1_700_000_000_000_000_000 + rng.randrange(10**12)
        span.end_time_unix_nano = span.start_time_unix_nano + rng.randrange(10**9)
        for name in ("http.request.method", "url.path", "server.address", "user_agent.original", "http.route"):
            span.attributes.add(key=name).value.string_value = f"{name} value {rng.randrange(50)}"
        span.attributes.add(key="http.response.status_code").value.int_value = rng.choice((200, 200, 200, 404, 500))
    return made.SerializeToString()


def timed(threads: int, work: Callable[[int], None]) -> Run:
    """Run `work` with the numbers 0 to `threads` - 1 at once."""
    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    wall, cpu = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return Run(time.perf_counter() - wall, time.process_time() - cpu)


def ours(directory: Path, mode: str, datas: Sequence[bytes], spans: int, count: int) -> Run:
    """Append `count` records to a new ring."""
    records = [[Record(signal=Signal.TRACES, items=spans, data=data)] for data in datas]
    buffer = Buffer.open(directory, max_bytes=BUDGET, fsync=mode)
    threads = THREADS[mode]

    def work(worker: int) -> None:
        append = buffer.append
        for number in range(worker, count, threads):
            append(records[number % DIFFERENT])

    try:
        return timed(threads, work)
    finally:
        buffer.close()


def plain(file: Path, mode: str, datas: Sequence[bytes], count: int) -> Run:
    """Write the same records to a new file."""
    threads = THREADS[mode]
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)

    def work(worker: int) -> None:
        for number in range(worker, count, threads):
            os.write(handle, datas[number % DIFFERENT])
            if mode == "always":
                os.fdatasync(handle)

    try:
        return timed(threads, work)
    finally:
        os.close(handle)


def measure(mode: str, spans: int, count: int, rounds: int, directory: Path) -> dict[str, float]:
    """The figures of one size and mode."""
    rng = random.Random(1)
    datas = [request(rng, spans) for _ in range(DIFFERENT)]
    size = sum(map(len, datas)) / DIFFERENT
    agent: list[Run] = []
    peer: list[Run] = []
    for number in range(rounds + 1):
        place = Path(tempfile.mkdtemp(dir=directory))

        def run_ours(place: Path = place) -> Run:
            return ours(place / "ring", mode, datas, spans, count)

        def run_plain(place: Path = place) -> Run:
            return plain(place / "plain", mode, datas, count)

        if number % 2:
            one, other = run_ours(), run_plain()
        else:
            other, one = run_plain(), run_ours()
        if number:
            agent.append(one)
            peer.append(other)
    ours_rate = count * size / 1e6 / median([run.wall for run in agent])
    plain_rate = count * size / 1e6 / median([run.wall for run in peer])
    return {
        "record_bytes": round(size),
        "buffer_mb_per_second": round(ours_rate, 1),
        "write_mb_per_second": round(plain_rate, 1),
        "ratio": ratio(ours_rate, plain_rate),
        "buffer_cpu_us_per_append": round(1e6 * median([run.cpu for run in agent]) / count, 1),
        "write_cpu_us_per_append": round(1e6 * median([run.cpu for run in peer]) / count, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench buffer", description=__doc__)
    parser.add_argument("--records", type=int, default=20_000, help="records of each run (default 20000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each side (default 5)")
    parser.add_argument("--directory", type=Path, help="where to write (default: a temporary directory)")
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    figures: dict[str, object] = {}
    for mode in THREADS:
        for name, spans in SIZES.items():
            # A sync takes a thousand times as long as a write.
            count = chosen.records if mode == "interval" else max(THREADS[mode], chosen.records // 20)
            with tempfile.TemporaryDirectory(dir=chosen.directory) as directory:
                figures[f"{mode}_{name}"] = measured = measure(mode, spans, count, chosen.rounds, Path(directory))
            say(f"{mode}, {name}: {measured}")
    result("buffer", figures, load_before=load)


if __name__ == "__main__":
    main()
