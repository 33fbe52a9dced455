"""A real OpenTelemetry Collector receives what the exporters send, and passes on the same records."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from syntra.telemetry.shipping.blocks import joined
from syntra.telemetry.shipping.bodies import Compression
from syntra.telemetry.shipping.export import ExportSettings, Protocol, open_exporter
from syntra.telemetry.shipping.shipper import BatchLimits, Shipper
from syntra.telemetry.signals import Signal
from tests.telemetry.real_collector import RealCollector, free_port, program
from tests.telemetry.shipping.list_reader import ListReader
from tests.telemetry.shipping.samples import KINDS, SAMPLES, batch, span_names, traces
from tests.telemetry.shipping.sinks import HttpSink

CONFIG = """
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:GRPC_PORT"}
      http: {endpoint: "127.0.0.1:HTTP_PORT"}
exporters:
  otlp_http:
    endpoint: http://127.0.0.1:SINK_PORT
    compression: none
    sending_queue: {enabled: false}
    retry_on_failure: {enabled: false}
service:
  telemetry: {metrics: {level: none}, logs: {level: error}}
  pipelines:
    traces: {receivers: [otlp], exporters: [otlp_http]}
    metrics: {receivers: [otlp], exporters: [otlp_http]}
    logs: {receivers: [otlp], exporters: [otlp_http]}
"""
OF_THE_COLLECTOR = (Signal.TRACES, Signal.METRICS, Signal.LOGS)
"""Its profiles are behind a feature gate."""
WAYS = list(itertools.product(Protocol, Compression))


@pytest.fixture(scope="module")
def ports() -> tuple[int]:
    return (free_port(),)


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory, ports: tuple[int]) -> Iterator[RealCollector]:
    folder: Path = tmp_path_factory.mktemp("collector")
    with RealCollector(folder, CONFIG.replace("SINK_PORT", str(ports[0])), path=program()) as started:
        yield started


def endpoint(collector: RealCollector, protocol: Protocol) -> str:
    port = collector.grpc_port if protocol is Protocol.GRPC else collector.http_port
    return f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("signal", OF_THE_COLLECTOR)
@pytest.mark.parametrize(("protocol", "compression"), WAYS)
async def test_every_signal_passes_through_a_collector(
    collector: RealCollector, ports: tuple[int], signal: Signal, protocol: Protocol, compression: Compression
) -> None:
    settings = ExportSettings(endpoint=endpoint(collector, protocol), protocol=protocol, compression=compression)
    async with HttpSink().listen(ports[0]) as sink:
        destination = open_exporter(settings)
        sent = await destination.send(SAMPLES[signal])
        await destination.aclose()
    assert (sent.taken, sent.refused, sent.retry) == (SAMPLES[signal].items, 0, None), sent.reason
    assert [each.request for each in sink.received] == [KINDS[signal].FromString(joined(SAMPLES[signal]))]


@pytest.mark.parametrize("protocol", Protocol)
async def test_a_collector_without_its_backend_is_a_retry(collector: RealCollector, protocol: Protocol) -> None:
    settings = ExportSettings(endpoint=endpoint(collector, protocol), protocol=protocol)
    destination = open_exporter(settings)
    sent = await destination.send(SAMPLES[Signal.TRACES])
    await destination.aclose()
    assert sent.retry is not None, sent.reason


@pytest.mark.parametrize("protocol", Protocol)
async def test_an_outage_of_the_collector_loses_nothing(
    collector: RealCollector, ports: tuple[int], protocol: Protocol, tmp_path: Path
) -> None:
    names = [f"span-{number}" for number in range(60)]
    reader = ListReader()
    mine = RealCollector(tmp_path, CONFIG.replace("SINK_PORT", str(ports[0])), path=program())
    settings = ExportSettings(endpoint=endpoint(mine, protocol), protocol=protocol, timeout_secs=5.0)
    limits = BatchLimits(interval_secs=0.05, max_items=10, replay_items_per_sec=1000.0)
    async with HttpSink().listen(ports[0]) as sink:
        destination = open_exporter(settings)
        shipper = Shipper(reader, destination, limits, uniform=random.Random(1).uniform)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(shipper.run())
            for name in names[:30]:
                reader.add(1, block=block(name))
            while shipper.progress.failures < 2:
                await asyncio.sleep(0.02)
            assert not reader.done
            await asyncio.to_thread(mine.__enter__)
            try:
                for name in names[30:]:
                    reader.add(1, block=block(name))
                async with asyncio.timeout(30):
                    while sum(each.items for each in reader.done) < len(names):
                        await asyncio.sleep(0.02)
                shipper.finish(5.0)
                await running
            finally:
                await asyncio.to_thread(mine.stop)
        await destination.aclose()
    arrived = [name for each in sink.received for name in span_names(each.request)]
    assert sorted(arrived) == sorted(names)
    assert shipper.progress.failures == 0


def block(name: str) -> bytes:
    return batch(Signal.TRACES, [traces(name)], 1).blocks[0]
