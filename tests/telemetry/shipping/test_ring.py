"""The shipper on the real ring: nothing that was kept is lost, neither by an outage nor by a restart."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from syntra.telemetry.buffer.reader import Batch
from syntra.telemetry.buffer.ring import Buffer
from syntra.telemetry.shipping.endpoint import SIGNALS, parse_endpoint
from syntra.telemetry.shipping.otlp_http import OtlpHttpExporter
from syntra.telemetry.shipping.shipper import BatchLimits, Shipper
from syntra.telemetry.signals import Record, Signal
from tests.telemetry.shipping.samples import logs, span_names, traces
from tests.telemetry.shipping.sinks import HttpReply, HttpSink

LIMITS = BatchLimits(interval_secs=0.05, max_items=50, replay_items_per_sec=100_000.0)
RING_BYTES = 4 * 1024 * 1024


def record(*names: str) -> Record:
    return Record(signal=Signal.TRACES, items=len(names), data=traces(*names))


def shipper_to(sink: HttpSink, buffer: Buffer) -> Shipper[Batch]:
    """A shipper without jitter."""
    exporter = OtlpHttpExporter(parse_endpoint(f"http://127.0.0.1:{sink.port}", is_grpc=False))
    reader = buffer.reader("export", SIGNALS)
    return Shipper(reader, exporter, LIMITS, uniform=lambda low, high: low + (high - low) / 50)


async def emptied(buffer: Buffer, shipper: Shipper[Batch]) -> None:
    """Run the shipper until the ring has nothing for it."""
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(shipper.run())
        while shipper.progress.waiting or shipper.progress.in_flight:
            await asyncio.sleep(0.01)
        shipper.finish(5.0)
        await running


def arrived(sink: HttpSink) -> Counter[str]:
    """How often each span was taken."""
    taken = (each for each in sink.received if each.signal is Signal.TRACES and each.status == 200)
    return Counter(name for each in taken for name in span_names(each.request))


async def test_everything_arrives_once_after_an_outage(tmp_path: Path) -> None:
    names = [f"span-{number}" for number in range(1000)]
    buffer = Buffer.open(tmp_path, max_bytes=RING_BYTES)
    async with HttpSink().listen() as sink:
        sink.replies += [HttpReply(503), HttpReply(cut=True), HttpReply(429, {"retry-after": "0"}), HttpReply(502)]
        for start in range(0, len(names), 10):
            buffer.append([record(*names[start : start + 10])])
        buffer.append([Record(signal=Signal.LOGS, items=2, data=logs("one", "two"))])
        shipper = shipper_to(sink, buffer)
        await emptied(buffer, shipper)
    buffer.close()
    assert arrived(sink) == Counter(names)
    counts = shipper.progress.counts
    assert (counts[Signal.TRACES].items, counts[Signal.LOGS].items) == (1000, 2)
    # The connection that was cut was an idle one: its request is sent again at once, on a new one.
    assert sum(count.retries for count in counts.values()) == 3
    assert shipper.problem is None


async def test_what_was_in_flight_at_a_stop_is_sent_again_by_the_next_start(tmp_path: Path) -> None:
    names = [f"span-{number}" for number in range(300)]
    async with HttpSink().listen() as sink:
        buffer = Buffer.open(tmp_path, max_bytes=RING_BYTES)
        for start in range(0, len(names), 10):
            buffer.append([record(*names[start : start + 10])])
        sink.replies += [HttpReply(), HttpReply(), HttpReply(silent=True)]
        first = shipper_to(sink, buffer)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(first.run())
            while len(sink.received) < 3:
                await asyncio.sleep(0.01)
            running.cancel()
        buffer.close()
        again = Buffer.open(tmp_path, max_bytes=RING_BYTES)
        await emptied(again, shipper_to(sink, again))
        again.close()
    found = arrived(sink)
    assert set(found) == set(names)
    # Only the batch that was in flight may come twice.
    assert sum(count - 1 for count in found.values()) <= LIMITS.max_items
