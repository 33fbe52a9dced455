"""Views ask the health watch first, and probe only what it does not know."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from syntra.agent.api.service_views import ServiceViews
from syntra.model.ids import ContainerId
from syntra.model.spec import ServiceSpec
from syntra.model.status import Health, Replica
from tests.agent.agent_rig import running
from tests.agent.fake_adapter import FakeAdapter
from tests.agent.virtual_time import virtual_time

CHECKED = {"health_check": {"type": "exec", "command": ["wget"]}, "replicas": 2}


@dataclass
class Watch:
    """What it was told it knows; with `unchecked` a live change has taken the check away."""

    health: dict[ContainerId, Health] = field(default_factory=dict)
    unchecked: bool = False

    def known(self, replica: Replica) -> Health:
        return self.health.get(replica.container_id, Health.UNKNOWN)

    def asked(self, spec: ServiceSpec) -> ServiceSpec:
        return dataclasses.replace(spec, health=None) if self.unchecked else spec


@virtual_time
async def test_what_the_watch_knows_is_shown_and_only_the_rest_is_probed(tmp_path: Path) -> None:
    adapter = FakeAdapter()
    async with running(tmp_path, adapter) as agent:
        await agent.deployed("d1", config=CHECKED)
        known, unknown = (container.container_id for container in adapter.of("web"))
        watch = Watch({known: Health.UNHEALTHY})
        views = ServiceViews(agent.journal, adapter, agent.tools.gate, watch, asyncio.get_running_loop().time)
        adapter.forget_the_past()
        [view] = await views.all()
        assert view.health == {known: Health.UNHEALTHY, unknown: Health.HEALTHY}
        assert adapter.calls.count("execute") == 1
        # The watch has found out by now: nothing is probed, however old the last view's own result is.
        watch.health[unknown] = Health.HEALTHY
        await asyncio.sleep(60)
        [view] = await views.all()
        assert adapter.calls.count("execute") == 1
        watch.health.clear()
        watch.unchecked = True
        await asyncio.sleep(60)
        [view] = await views.all()
        assert set(view.health.values()) == {Health.UNKNOWN}
        assert adapter.calls.count("execute") == 1
