"""An engine that goes and comes back: said once each, to people and in the status."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from syntra.agent.alerts.engine_check import ENGINE_CHECK_SECS, EngineCheck
from tests.agent.agent_rig import running
from tests.agent.fake_engine import FakeEngine
from tests.agent.virtual_time import virtual_time


@virtual_time
async def test_an_engine_that_goes_and_comes_back_is_said_once_each(tmp_path: Path) -> None:
    adapter = FakeEngine()
    answers = 0

    async def answered() -> None:
        nonlocal answers
        answers += 1

    async with running(tmp_path, adapter) as agent, asyncio.TaskGroup() as group:
        check = EngineCheck(adapter, agent.journal, agent.reports, on_answer=answered)
        task = group.create_task(check.run())

        async def alerts() -> list[dict[str, Any]]:
            items = await agent.journal.outbox.pending(100)
            return [json.loads(item.text)["payload"] for item in items]

        await asyncio.sleep(ENGINE_CHECK_SECS)
        assert (check.warning, await alerts()) == ("", [])
        adapter.away, before = True, answers
        await asyncio.sleep(3 * ENGINE_CHECK_SECS)
        assert "cannot" in check.warning
        assert [alert["title"] for alert in await alerts()] == ["container engine does not answer"]
        assert answers == before
        adapter.away = False
        await asyncio.sleep(3 * ENGINE_CHECK_SECS)
        gone, back = await alerts()
        assert (check.warning, answers > before) == ("", True)
        assert (gone["type"], gone["severity"]) == (back["type"], back["severity"]) == ("resource_critical", "critical")
        assert gone["metadata"] == {"resource": "engine"}
        assert back["metadata"] == {"resource": "engine", "recovered": True}
        task.cancel()
