"""Results of health checks: shipped while somebody is connected, kept while nobody is, lost only with a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from syntra.agent.health.results import HealthResult, HealthResults, HealthShipping
from syntra.agent.messages import PeerGone
from syntra.health.result import ProbeResult
from syntra.model.fields import Json
from syntra.model.ids import ServiceId

pytestmark = pytest.mark.virtual_time


class Plane:
    """Who is shipped to."""

    def __init__(self) -> None:
        self.connected = True
        self.breaks = False
        self.batches: list[list[Any]] = []
        self.results = HealthResults(most=3)

    def found(self, count: int) -> None:
        for number in range(count):
            probe = ProbeResult(ok=True, detail=str(number), duration_secs=0.0)
            self.results.add(HealthResult(service_id=ServiceId(f"s{number}"), at=0.0, probe=probe))

    async def send(self, kind: str, payload: Mapping[str, Json]) -> None:
        assert kind == "telemetry_batch"
        if self.breaks:
            raise PeerGone("the connection is lost")
        data: Any = payload["data"]
        self.batches.append([check["service_id"] for check in data["health_checks"]])

    def shipping(self) -> HealthShipping:
        return HealthShipping(
            "agt_1",
            drain=self.results.drain,
            is_connected=lambda: self.connected,
            send=self.send,
            pause_secs=lambda: 5.0,
        )


async def test_a_batch_is_filled_for_its_interval_and_an_empty_one_is_not_sent() -> None:
    plane = Plane()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(plane.shipping().run())
        plane.found(2)
        await asyncio.sleep(4.9)
        assert plane.batches == []
        await asyncio.sleep(11)
        assert plane.batches == [["s0", "s1"]]
        task.cancel()


async def test_results_wait_for_a_connection_within_their_bound() -> None:
    plane = Plane()
    plane.connected = False
    async with asyncio.TaskGroup() as group:
        task = group.create_task(plane.shipping().run())
        plane.found(5)
        await asyncio.sleep(60)
        assert (plane.batches, plane.results.dropped) == ([], 2)
        plane.connected = True
        await asyncio.sleep(6)
        assert plane.batches == [["s2", "s3", "s4"]]
        task.cancel()


async def test_a_connection_that_breaks_costs_one_batch_and_is_counted() -> None:
    plane = Plane()
    shipping = plane.shipping()
    plane.breaks = True
    async with asyncio.TaskGroup() as group:
        task = group.create_task(shipping.run())
        plane.found(2)
        await asyncio.sleep(6)
        plane.breaks = False
        plane.found(1)
        await asyncio.sleep(6)
        assert (shipping.lost, plane.batches) == (2, [["s0"]])
        task.cancel()
