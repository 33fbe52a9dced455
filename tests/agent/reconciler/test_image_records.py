"""Deployments of earlier versions get a record of their image at the start, where the image is here."""

from __future__ import annotations

import asyncio

import pytest

from syntra.agent.reconciler.image_records import RETRY_SECS, ImageRecords
from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.image import ResolvedImage
from tests.agent.agent_rig import Agent
from tests.agent.virtual_time import now

pytestmark = pytest.mark.virtual_time

WEB = ServiceId("web")


async def as_before(agent: Agent, *deployments: str) -> None:
    """Deploy these, and forget which images they are made of."""
    for deployment_id in deployments:
        await agent.deployed(deployment_id)
        await agent.journal.resolved(WEB, DeploymentId(deployment_id), ResolvedImage(image_id=""))


async def images(agent: Agent) -> dict[str, str]:
    found = {}
    for deployment_id in await agent.journal.kept(WEB):
        kept = await agent.journal.deployment(WEB, deployment_id)
        assert kept is not None
        found[str(deployment_id)] = kept.resolved.image_id if kept.resolved else ""
    return found


def records(agent: Agent) -> ImageRecords:
    return ImageRecords(agent.journal, agent.engine, agent.deployer.queues)


async def test_what_is_here_is_recorded_once_and_the_rest_is_left(agent: Agent) -> None:
    await as_before(agent, "d1", "d2", "d3")
    agent.engine.pins.discard((WEB, DeploymentId("d1")))
    assert set((await images(agent)).values()) == {""}
    assert await records(agent).record() == (2, True)
    found = await images(agent)
    assert found.pop("d1") == ""
    assert all(found.values())
    assert len(found) == 2
    assert await records(agent).record() == (0, True)


async def test_an_engine_that_is_away_is_asked_again(agent: Agent) -> None:
    await as_before(agent, "d1")
    agent.engine.refuse("resolved_image", "ENGINE_ERROR")
    begun = now()
    async with asyncio.timeout(3 * RETRY_SECS):
        await records(agent).run()
    assert now() - begun >= RETRY_SECS
    assert all((await images(agent)).values())


async def test_a_service_with_an_operation_is_left_to_it(agent: Agent) -> None:
    await as_before(agent, "d1")
    hold = await agent.reach("restart", agent.send("restart", "r", service_id="web"))
    assert await records(agent).record() == (0, False)
    hold.release.set()
    await agent.done()
    assert await records(agent).record() == (1, True)
