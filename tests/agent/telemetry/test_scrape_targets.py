"""Which replicas are scraped: all running ones whose deployment has an endpoint."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.telemetry.scrape_targets import ScrapeTargets, scrape_targets
from syntra.model.container import Container, ContainerState
from syntra.model.fields import Json
from syntra.model.ids import ContainerId
from syntra.model.spec import Deployment, MetricsSpec
from tests.agent.agent_rig import Machine
from tests.model.samples import deployment

FOUND = deployment()


def container(address: str) -> Container:
    return Container(
        container_id=ContainerId("c" * 64),
        name="syn-api-0",
        service_id=FOUND.spec.service_id,
        deployment_id=FOUND.deployment_id,
        index=0,
        spec_hash="",
        state=ContainerState.RUNNING,
        created_ns=0,
        addresses={"syntra-shop": address},
    )


def with_metrics(metrics: MetricsSpec | None) -> Deployment:
    return dataclasses.replace(FOUND, spec=dataclasses.replace(FOUND.spec, metrics=metrics, port=8080))


@pytest.mark.parametrize(
    ("address", "metrics", "url"),
    [
        ("172.18.0.2", MetricsSpec(port=9090), "http://172.18.0.2:9090/metrics"),
        ("172.18.0.2", MetricsSpec(path="/m?a=b"), "http://172.18.0.2:8080/m?a=b"),
        ("fd00::2", MetricsSpec(), "http://[fd00::2]:8080/metrics"),
    ],
)
def test_a_replica_is_reached_at_its_own_address(address: str, metrics: MetricsSpec, url: str) -> None:
    [target] = scrape_targets([(container(address), with_metrics(metrics))])
    assert isinstance(target, dict) and target["url"] == url
    assert isinstance(target["identity"], dict) and target["identity"]["replica"] == "syn-api-0"


def test_without_endpoint_or_address_there_is_no_target() -> None:
    assert scrape_targets([(container("172.18.0.2"), with_metrics(None))]) == []
    assert scrape_targets([(container(""), with_metrics(MetricsSpec(port=1)))]) == []


class Process:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.targets: list[Any] = []

    async def tell(self, kind: str, fields: Mapping[str, Json]) -> None:
        assert kind == "scrape_targets"
        self.targets.append(fields["targets"])


@pytest.mark.virtual_time
async def test_targets_follow_deploys_and_stops(tmp_path: Path) -> None:
    process = Process()
    machine = Machine(tmp_path / "data")
    async with machine.running() as agent, asyncio.TaskGroup() as group:
        task = group.create_task(ScrapeTargets(agent.engine, agent.journal, agent.changes, process).run())
        await asyncio.sleep(0.1)
        assert process.targets == [[]]
        metrics = {"port": 9090, "interval_seconds": 5, "metric_names": ["a*"], "native_histograms": True}
        await agent.deployed("d1", config={"metrics": metrics})
        await asyncio.sleep(1)
        told = process.targets[-1]
        assert told and all(":9090/metrics" in one["url"] for one in told)
        assert {(one["interval_secs"], tuple(one["metric_names"])) for one in told} == {(5.0, ("a*",))}
        assert all(one["native_histograms"] is True for one in told)
        # The same deployment with another endpoint needs no new container.
        again = await agent.deploy_to_end("again", "d1", config={"metrics": {"port": 9091}})
        assert again["status"] == "running"
        await asyncio.sleep(1)
        assert [one["url"] for one in process.targets[-1]] == [told[0]["url"].replace("9090", "9091")]
        assert process.targets[-1][0]["identity"]["container_id"] == told[0]["identity"]["container_id"]
        await agent.carry_out("stop", "s1")
        await asyncio.sleep(1)
        assert process.targets[-1] == []
        task.cancel()
