"""An engine that goes and comes back: said once each, to people and in the status."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from syntra.agent.alerts.engine_check import ENGINE_CHECK_SECS, EngineCheck
from tests.agent.agent_rig import Agent

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize(("product", "called"), [("docker", "Docker"), ("kubernetes", "Kubernetes"), ("tiny", "tiny")])
async def test_an_engine_that_goes_and_comes_back_is_said_once_each(agent: Agent, product: str, called: str) -> None:
    answers = 0

    async def answered() -> None:
        nonlocal answers
        answers += 1

    async with asyncio.TaskGroup() as group:
        check = EngineCheck(agent.engine, agent.journal, agent.reports, name=lambda: product, on_answer=answered)
        task = group.create_task(check.run())

        async def alerts() -> list[dict[str, Any]]:
            items = await agent.journal.outbox.pending(100)
            return [json.loads(item.text)["payload"] for item in items]

        await asyncio.sleep(ENGINE_CHECK_SECS)
        assert (check.warning, await alerts()) == ("", [])
        agent.engine.away, before = True, answers
        await asyncio.sleep(3 * ENGINE_CHECK_SECS)
        assert "cannot" in check.warning
        assert [alert["title"] for alert in await alerts()] == [f"{called} does not answer"]
        assert answers == before
        agent.engine.away = False
        await asyncio.sleep(3 * ENGINE_CHECK_SECS)
        gone, back = await alerts()
        assert (check.warning, answers > before) == ("", True)
        assert back["title"] == f"{called} answers again"
        assert (gone["type"], gone["severity"]) == (back["type"], back["severity"]) == ("resource_critical", "critical")
        assert gone["metadata"] == {"resource": "engine"}
        assert back["metadata"] == {"resource": "engine", "recovered": True}
        task.cancel()
