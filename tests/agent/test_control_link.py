"""The agent's side of the connection, against a WebSocket server on loopback and a fake engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from syntra.agent import control_link
from syntra.agent.config.settings import ControlPlaneSettings, Settings
from syntra.agent.control_link import ControlLink
from syntra.agent.queries import Identity
from syntra.utils.structured_log import LogHandle
from tests.agent.agent_rig import Agent, running
from tests.agent.fake_adapter import FakeAdapter
from tests.connection.rig import ControlPlane


@asynccontextmanager
async def linked(directory: Path, plane: ControlPlane, agent: Agent, adapter: FakeAdapter) -> AsyncIterator[None]:
    """The agent's router linked to the control plane."""
    link = ControlLink(
        Settings(data_dir=directory, control_plane=ControlPlaneSettings(endpoint=plane.endpoint(), token="syn_agt_x")),
        Identity(agent_id="agt_1", server_id="srv_1", data_dir=directory, started_at=0.0),
        adapter=adapter,
        views=agent.views,
        outbox=agent.journal.outbox,
        log_handle=cast(LogHandle, None),
    )
    link.route_to(agent.router)
    async with asyncio.TaskGroup() as group:
        group.create_task(link.run(), name="link")
        yield
        await link.stop()


async def test_an_engine_that_hangs_costs_its_own_figures_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_link, "ENGINE_SECS", 0.05)
    adapter = FakeAdapter()
    adapter.hold("info")
    adapter.hold("observe")
    async with running(tmp_path, adapter) as agent, ControlPlane().serving() as plane:
        async with linked(tmp_path, plane, agent, adapter):
            hello = (await plane.next("agent_hello"))["payload"]
            assert (hello["runtime"], hello["runtime_version"]) == ("docker", "unavailable")
            assert (await plane.next("heartbeat"))["payload"]["services"] == []
        adapter.holds["observe"].release.set()
