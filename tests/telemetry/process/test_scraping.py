"""Scrapes by the telemetry process itself: from configuration and link to the ring and `telemetry status`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from syntra.agent.config.prometheus import PrometheusSettings
from syntra.telemetry.buffer.ring import Buffer
from syntra.telemetry.signals import Signal
from tests.telemetry.buffer.rings import plain
from tests.telemetry.collect.prometheus.decoded import all_metrics, labels, request, series
from tests.telemetry.collect.prometheus.endpoint import endpoint
from tests.telemetry.process.rigs import IDENTITY
from tests.telemetry.process.test_process import SOON_SECS, Process, process


async def until(made: Process, is_there: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any]:
    """The first row of a target of which this is true."""
    async with asyncio.timeout(SOON_SECS):
        while True:
            view: Mapping[str, Any] = await made.status()
            for row in view["scrapes"]["targets"]:
                if is_there(row):
                    return row  # type: ignore[no-any-return]
            await asyncio.sleep(0.05)


def kept(folder: Path) -> list[bytes]:
    """The metrics in the ring of a process that has ended."""
    ring = Buffer.open(folder / "data" / "telemetry", max_bytes=1 << 20)
    found = []
    try:
        reader = ring.reader("test", [Signal.METRICS])
        while (batch := reader.next(max_items=1_000_000, max_bytes=1 << 24)) is not None:
            found.append(plain(batch))
            reader.taken(batch)
    finally:
        ring.close()
    return found


def scrape(**entry: Any) -> tuple[str, ...]:
    return (json.dumps(entry),)


async def test_a_configured_endpoint_is_scraped_kept_and_shown(tmp_path: Path) -> None:
    with endpoint() as served:
        served.page = b"# TYPE hits_total counter\nhits_total 5\nother 1\n"
        entries = scrape(url=served.url(), job="shop", interval_secs=1, metric_names=["hits*"])
        async with process(tmp_path, scrape=entries) as made:
            await made.next("ready")
            row = await until(made, lambda row: row["scrapes"] >= 2)
            assert (row["url"], row["service"], row["problem"]) == (served.url(), "shop", "")
            assert (row["samples"], row["kept"], row["failures"]) == (2, 1, 0)
            view: Mapping[str, Any] = await made.status()
            assert [one["signal"] for one in view["signals"]] == ["metrics"]
            assert {one["service"] for one in view["services"]} == {"shop"}
            await made.link.send("stop")
            await made.ended()
    data = kept(tmp_path)
    values = series(data)
    assert values["hits_total {}"] == 5 and values["up {}"] == 1
    assert (values["scrape_samples_scraped {}"], values["scrape_samples_post_metric_relabeling {}"]) == (2, 1)
    assert 0 < values["scrape_duration_seconds {}"] < 5
    assert "other {}" not in values
    for resource in request(*data).resource_metrics:
        assert labels(resource.resource.attributes) == {
            "service.name": "shop",
            "service.instance.id": f"127.0.0.1:{served.port}",
            "server.address": "127.0.0.1",
            "server.port": str(served.port),
            "url.scheme": "http",
        }
    # One connection serves all scrapes.
    assert served.connections == 1


async def test_a_replica_is_scraped_with_its_identity_and_ends_with_it(tmp_path: Path) -> None:
    with endpoint() as served:
        served.page = b'# TYPE target_info gauge\ntarget_info{"service.name"="liar"} 1\nhits 5\n'
        told = {"url": served.url("/m"), "interval_secs": 1, "metric_names": [], "native_histograms": False}
        told["identity"] = IDENTITY
        async with process(tmp_path) as made:
            await made.next("ready")
            await made.link.send("scrape_targets", {"targets": [told]})
            row = await until(made, lambda row: row["scrapes"] >= 1)
            assert (row["service"], row["problem"]) == ("web", "")
            await made.link.send("scrape_targets", {"targets": []})
            async with asyncio.timeout(SOON_SECS):
                while True:
                    view: Mapping[str, Any] = await made.status()
                    if not view["scrapes"]["targets"]:
                        break
            await made.link.send("stop")
            await made.ended()
    data = kept(tmp_path)
    resource = labels(request(data[0]).resource_metrics[0].resource.attributes)
    assert (resource["service.name"], resource["syntra.service.id"]) == ("web", "svc_web")
    assert resource["service.instance.id"] == "syn-web-1"
    *_, last = [metric for metric in all_metrics(data) if metric.name == "hits"]
    assert last.gauge.data_points[0].flags == 1
    assert served.requests[0][0] == "/m"


async def test_a_target_that_fails_is_down_with_a_reason_and_its_series_end(tmp_path: Path) -> None:
    with endpoint() as served:
        async with process(tmp_path, scrape=scrape(url=served.url(), interval_secs=1)) as made:
            await made.next("ready")
            await until(made, lambda row: row["problem"] == "")
            served.page = b"a 1\nb is no number\n"
            await until(made, lambda row: row["problem"].startswith("cannot read"))
            served.status = 503
            row = await until(made, lambda row: "503" in row["problem"])
            assert row["problem"] == "it answers with HTTP status 503" and row["failures"] >= 2
            assert (await made.status())["problem"] is None
            served.status, served.page = 200, b"a 2\n"
            await until(made, lambda row: row["problem"] == "")
            await made.link.send("stop")
            await made.ended()
    data = kept(tmp_path)
    ups = [m.gauge.data_points[0].as_double for m in all_metrics(data) if m.name == "up"]
    assert ups[0] == ups[-1] == 1 and 0 in ups
    flags = [m.gauge.data_points[0].flags for m in all_metrics(data) if m.name == "a"]
    assert flags[0] == flags[-1] == 0 and flags.count(1) == 1


async def test_targets_above_the_limit_are_not_scraped_and_that_is_shown(tmp_path: Path) -> None:
    with endpoint() as served:
        entries = tuple(json.dumps({"url": served.url(f"/{number}"), "interval_secs": 1}) for number in range(3))
        async with process(tmp_path, scrape=entries, prometheus=PrometheusSettings(max_targets=2)) as made:
            await made.next("ready")
            await until(made, lambda row: row["scrapes"] >= 1)
            view: Mapping[str, Any] = await made.status()
            assert (len(view["scrapes"]["targets"]), view["scrapes"]["refused_targets"]) == (2, 1)
