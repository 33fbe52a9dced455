"""A deploy that fails gives its domains back: the next service can have them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.proxy.routes import ProxyRoutes
from syntra.agent.traffic.switch import TrafficSettings, TrafficSwitch
from syntra.model.status import Health
from syntra.networking.file_writer import FileWriter
from syntra.networking.proxy import ProxyObserver
from tests.agent.agent_rig import Agent, running
from tests.agent.fake_readiness import FakeReadiness
from tests.agent.traffic.rig import NOBODY, PROXY, Addressed

pytestmark = pytest.mark.virtual_time

CHECK = {"type": "exec", "command": ["wget"], "interval_seconds": 1, "retries": 2}
DOMAINS: dict[str, Any] = {"networking": {"domains": ["shop.example.com"]}}


FAILURES: list[dict[str, Any]] = [
    {"image": "shop/web:none"},
    {"env": {"FAIL": "exit"}},
    {"env": {"FAIL": "unhealthy"}, "config": {"health_check": CHECK}},
]


@asynccontextmanager
async def routing(folder: Path) -> AsyncIterator[Agent]:
    """An agent that routes through a file, with a proxy that is not there."""
    adapter, traffic = Addressed(), Late()
    async with running(folder / "agent", adapter, traffic=traffic) as agent:
        traffic.switch = TrafficSwitch(
            TrafficSettings(drain_secs=1, state_dir=folder),
            proxy=ProxyRoutes(
                PROXY,
                writer=FileWriter(folder / "dynamic"),
                observer=ProxyObserver(NOBODY, PROXY),
                unobserved_secs=0,
            ),
            engine=adapter,
            changes=agent.changes,
            journal=agent.journal,
            is_busy=agent.deployer.queues.is_busy,
            readiness=FakeReadiness(otherwise=Health.HEALTHY),
        )
        yield agent


@pytest.mark.parametrize("failing", FAILURES)
async def test_a_failed_first_deploy_gives_its_domain_back_at_once(tmp_path: Path, failing: dict[str, Any]) -> None:
    async with routing(tmp_path) as agent:
        await agent.deploy("r1", "d1", "first", **failing, **DOMAINS)
        await agent.done("first")
        assert (await agent.end_of("r1"))["status"] == "failed"
        await agent.deployed("d2", "second", **DOMAINS)


async def test_a_failed_version_gives_back_its_own_domains_and_the_old_one_keeps_its(tmp_path: Path) -> None:
    other: dict[str, Any] = {"networking": {"domains": ["other.example.com"]}}
    async with routing(tmp_path) as agent:
        await agent.deployed("d1", "first", **DOMAINS)
        await agent.deploy("r1", "d2", "first", **FAILURES[1], **other)
        await agent.done("first")
        assert (await agent.end_of("r1"))["status"] == "rolled_back"
        await agent.deployed("d3", "second", **other)
        await agent.deploy("r2", "d4", "second", **DOMAINS)
        [refused] = await agent.responses("r2")
        assert refused["error"]["code"] == "ROUTE_CONFLICT"


class Late:
    """The switch, which needs the journal of the agent that it is given to."""

    switch: TrafficSwitch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.switch, name)
