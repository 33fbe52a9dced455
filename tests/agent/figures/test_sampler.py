"""Samples: shared by all readers, with rates between them, and without a runtime."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from syntra.agent.figures.sampler import ENGINE_SECS, FRESH_SECS, NO_SAMPLE, Sampler
from syntra.utils.host_reading import HostReader, HostReading
from tests.agent.agent_rig import Agent, running
from tests.agent.fake_engine import FakeEngine

pytestmark = pytest.mark.virtual_time


class CountingHost:
    """The host, read so often."""

    def __init__(self) -> None:
        self.reads = 0
        self.is_readable = True

    def read(self) -> HostReading:
        self.reads += 1
        if not self.is_readable:
            raise PermissionError(13, "Permission denied")
        return HostReader().read()


@asynccontextmanager
async def sampled(directory: Path) -> AsyncIterator[tuple[Agent, Sampler, CountingHost]]:
    async with running(directory, FakeEngine()) as agent:
        host = CountingHost()
        yield agent, Sampler(agent.runtime, host, clock=asyncio.get_running_loop().time), host


async def test_all_who_ask_at_once_and_soon_after_share_one_sample(tmp_path: Path) -> None:
    async with sampled(tmp_path) as (agent, sampler, host):
        assert sampler.last is NO_SAMPLE
        await agent.deployed("d1")
        agent.engine.calls.clear()
        first, second = await asyncio.gather(sampler.sample(), sampler.sample())
        assert first is second is sampler.last
        assert await sampler.host() is first.host
        assert (host.reads, agent.engine.calls.count("readings")) == (1, 1)
        await asyncio.sleep(FRESH_SECS)
        assert await sampler.sample() is not first
        assert (host.reads, agent.engine.calls.count("readings")) == (2, 2)


async def test_rates_need_two_samples_and_a_new_container_waits_for_the_second(tmp_path: Path) -> None:
    async with sampled(tmp_path) as (agent, sampler, _):
        await agent.deployed("d1")
        [container] = agent.engine.of("web")
        first = await sampler.sample()
        found = first.containers[container.container_id]
        assert found.is_first and found.figures.cpu_percent == 0.0
        assert first.figures(container.container_id) == found.figures
        rated = await sampler.with_rates()
        assert rated is not first
        assert rated.containers[container.container_id].figures.cpu_percent == pytest.approx(1.25)
        assert await sampler.with_rates() is rated, "it has its rate already"


async def test_a_container_that_started_again_begins_again(tmp_path: Path) -> None:
    async with sampled(tmp_path) as (agent, sampler, _):
        await agent.deployed("d1")
        [container] = agent.engine.of("web")
        await sampler.with_rates()
        await agent.engine.stop(container.container_id, 0.0)
        await asyncio.sleep(FRESH_SECS)
        assert (await sampler.sample()).containers == {}
        await agent.engine.start(container.container_id)
        await asyncio.sleep(FRESH_SECS)
        assert (await sampler.sample()).containers[container.container_id].is_first


async def test_an_engine_that_hangs_or_is_away_costs_its_own_figures_only(tmp_path: Path) -> None:
    async with sampled(tmp_path) as (agent, sampler, _):
        await agent.deployed("d1")
        assert len((await sampler.sample()).containers) == 1
        await asyncio.sleep(FRESH_SECS)
        agent.engine.hold("observe")
        began = asyncio.get_running_loop().time()
        assert len((await sampler.sample()).containers) == 1, "as last known"
        assert asyncio.get_running_loop().time() - began == pytest.approx(ENGINE_SECS, abs=0.1)
        agent.engine.away = True
        found = await sampler.sample()
        assert found.host is not None and found.containers == {}


async def test_a_host_that_cannot_be_read_costs_its_own_figures_only(tmp_path: Path) -> None:
    async with sampled(tmp_path) as (agent, sampler, host):
        await agent.deployed("d1")
        host.is_readable = False
        found = await sampler.sample()
        assert found.host is None and len(found.containers) == 1
        with pytest.raises(OSError):
            await sampler.host()
        host.is_readable = True
        assert (await sampler.host()).memory["MemTotal"] > 0
