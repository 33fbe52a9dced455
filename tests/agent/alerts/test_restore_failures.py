"""Replicas that cannot be restored are one alert of their service."""

from __future__ import annotations

import time

import pytest

from syntra.health.restore_failures import RestoreFailure
from syntra.model.container import ContainerState
from tests.agent.agent_rig import Agent
from tests.agent.alerts.test_watch import alerts_of, quiet, watching

pytestmark = pytest.mark.virtual_time


async def test_replicas_that_cannot_be_restored_are_one_alert_of_their_service_until_all_run(agent: Agent) -> None:
    failures: list[RestoreFailure] = []
    await agent.deployed("d1", config={"replicas": 2})
    first, second = agent.engine.of("web")
    spec = first.deployment.spec

    def cannot(index: int, attempts: int) -> RestoreFailure:
        reason, since = "port 80 is in use", time.time()
        return RestoreFailure(
            spec=spec, index=index, reason=reason, since=since, attempts=attempts, next_at=1767323045.0
        )

    async with watching(agent, restore_failures=lambda: failures):
        second.state = ContainerState.EXITED
        failures[:] = [cannot(2, 1)]
        agent.changes.announce()
        await quiet()
        assert await alerts_of(agent) == [], "the first attempt may be a moment's problem"
        failures[:] = [cannot(1, 2), cannot(2, 2)]
        for _ in range(3):
            agent.changes.announce()
            await quiet()
        [alert] = await alerts_of(agent)
        assert (alert["type"], alert["severity"], alert["title"]) == (
            "container_crash",
            "critical",
            "web cannot be restored",
        )
        assert alert["message"] == ("cannot restore replica 1: port 80 is in use; next try at 03:04:05 UTC")
        # An agent that starts again knows of no failure, but sees that one is down.
        failures.clear()
        agent.changes.announce()
        await quiet()
        assert len(await alerts_of(agent)) == 1
        await agent.engine.start(second.container_id)
        await quiet()
        [_, end] = await alerts_of(agent)
        assert (end["metadata"]["recovered"], end["title"]) == (True, "web is restored")
        failures[:] = [cannot(1, 2)]
        agent.changes.announce()
        await quiet()
        await agent.send("stop", "s1", service_id="web")
        await agent.done()
        failures.clear()
        await quiet()
        assert (await alerts_of(agent))[-1]["message"] == "the service was stopped"
