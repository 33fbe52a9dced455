"""Views ask the health watch first, and probe only what it does not know."""

from __future__ import annotations

import asyncio

import pytest

from syntra.agent.api.service_views import ServiceViews
from syntra.model.status import Health
from tests.agent.agent_rig import Agent
from tests.agent.fake_readiness import FakeReadiness

pytestmark = pytest.mark.virtual_time

CHECKED = {"health_check": {"type": "exec", "command": ["wget"]}, "replicas": 2}


async def test_what_the_watch_knows_is_shown_and_only_the_rest_is_probed(agent: Agent) -> None:
    await agent.deployed("d1", config=CHECKED)
    known, unknown = (container.container_id for container in agent.engine.of("web"))
    watch = FakeReadiness({known: Health.UNHEALTHY})
    clock = asyncio.get_running_loop().time
    views = ServiceViews(agent.journal, agent.engine, watch, clock, prober=agent.gate)
    agent.engine.forget_the_past()
    [view] = await views.all()
    assert view.health == {known: Health.UNHEALTHY, unknown: Health.HEALTHY}
    assert agent.engine.calls.count("execute") == 1
    # The watch has found out by now: nothing is probed, however old the last view's own result is.
    watch.health[unknown] = Health.HEALTHY
    await asyncio.sleep(60)
    [view] = await views.all()
    assert agent.engine.calls.count("execute") == 1
    watch.health.clear()
    watch.unchecked = True
    await asyncio.sleep(60)
    [view] = await views.all()
    assert set(view.health.values()) == {Health.UNKNOWN}
    assert agent.engine.calls.count("execute") == 1
