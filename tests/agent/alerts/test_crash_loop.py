"""A crash loop is shown as one, also while the container is up between two crashes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from syntra.agent.alerts.ledger import LEAST_CALM_SECS
from syntra.agent.api.service_views import ServiceViews, listed
from syntra.health.crash_loops import LOOP_SECS
from tests.agent.agent_rig import Agent
from tests.agent.alerts.test_watch import crashed, healthy, watching

pytestmark = pytest.mark.virtual_time


async def test_two_crashes_are_a_loop_until_it_was_calm(agent: Agent) -> None:
    await agent.deployed("d1")
    [container] = agent.engine.of("web")
    async with watching(agent) as watch:
        clock = asyncio.get_running_loop().time
        views = ServiceViews(agent.journal, agent.engine, healthy(), clock, crash_loop=watch.crash_loop)

        async def shown() -> tuple[str, str, object, str]:
            entry: dict[str, Any] = listed((await views.all())[0], await agent.sampler.sample())
            return entry["status"], entry["status_detail"], entry["replicas"], entry["containers"][0]["status"]

        await crashed(agent, container)
        assert await shown() == ("running", "", {"desired": 1, "running": 1}, "running")
        assert [alert["is_ending"] for alert in agent.ledger.shown()] == [False]
        await crashed(agent, container)
        loop = ("restarting", "exit 7, 2 times", {"desired": 1, "running": 0}, "restarting")
        assert await shown() == loop
        assert [(alert["exit_code"], alert["is_ending"]) for alert in agent.ledger.shown()] == [(7, False)]
        await asyncio.sleep(LEAST_CALM_SECS)
        assert [alert["is_ending"] for alert in agent.ledger.shown()] == [True]
        await asyncio.sleep(LOOP_SECS - LEAST_CALM_SECS)
        assert (await shown())[0] == "running"
        # A service that is stopped by command is stopped, whatever it did before.
        await crashed(agent, container)
        await crashed(agent, container)
        await agent.carry_out("stop", "s1")
        assert (await shown())[:2] == ("stopped", "")
