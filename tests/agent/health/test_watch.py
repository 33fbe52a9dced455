"""Who is asked what: each replica what its own deployment says, while one takes over from another."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from syntra.agent.changes import Changes
from syntra.agent.health.watch import HealthWatch
from syntra.model.ids import RequestId
from syntra.model.spec import Deployment
from syntra.model.status import Health
from tests.agent.fake_engine import FakeEngine, replica
from tests.agent.journal.opened import Opened, opened
from tests.agent.journal.samples import accept, row
from tests.agent.samples import deployment

CHECK: dict[str, Any] = {"type": "exec", "command": ["wget"], "interval_seconds": 0.1, "retries": 1}
ANSWERED_SECS = 10.0


async def started(journal: Opened, adapter: FakeEngine, request_id: str, of: Deployment) -> None:
    """A deployment under way with one replica that is up."""
    await accept(journal, request_id, of)
    await adapter.obtain_image(of, None, lambda *_: None)
    container_id, _ = await adapter.create(of, 1)
    await adapter.start(container_id)


async def test_a_replica_that_takes_over_is_asked_by_its_own_check(tmp_path: Path) -> None:
    adapter = FakeEngine()
    old, new = deployment("d1"), deployment("d2", env={"FAIL": "unhealthy"}, config={"health_check": CHECK})
    async with opened(tmp_path) as journal, asyncio.TaskGroup() as group:
        for number, of in enumerate((old, new)):
            await started(journal, adapter, f"r{number}", of)
        await journal.journal.commit(RequestId("r0"), row(old.deployment_id))
        changes = Changes()
        told = changes.follow()
        watch = HealthWatch(journal.journal, adapter, changes, min_healthy_secs=0.0)
        running = group.create_task(watch.run())
        await told.wait(ANSWERED_SECS)
        before, after = (replica(container) for container in adapter.of("web"))
        assert watch.readiness(after, new.spec) is Health.UNHEALTHY
        assert watch.readiness(before, old.spec) is Health.HEALTHY, "without a check it is the time that counts"
        running.cancel()


async def test_a_replica_that_passed_its_gate_is_ready_from_the_first_look_on_and_that_is_announced(
    tmp_path: Path,
) -> None:
    adapter = FakeEngine()
    of = deployment("d1", config={"health_check": {**CHECK, "interval_seconds": 60}})
    async with opened(tmp_path) as journal, asyncio.TaskGroup() as group:
        await started(journal, adapter, "r0", of)
        await journal.journal.commit(RequestId("r0"), row(of.deployment_id))
        changes = Changes()
        told = changes.follow()
        watch = HealthWatch(journal.journal, adapter, changes, min_healthy_secs=0.0, has_passed=lambda _: True)
        running = group.create_task(watch.run())
        await told.wait(ANSWERED_SECS)
        [container] = adapter.of("web")
        assert watch.readiness(replica(container), of.spec) is Health.HEALTHY
        running.cancel()


async def test_without_a_check_of_the_spec_the_image_s_own_is_followed(tmp_path: Path) -> None:
    adapter = FakeEngine()
    of = deployment("d1", env={"IMAGE_CHECK": "unhealthy", "IMAGE_CHECK_SAYS": "no\x07 database\n"})
    starting = deployment("d2", env={"IMAGE_CHECK": "healthy:60"})
    plain = deployment("d3")
    async with opened(tmp_path) as journal:
        watch = HealthWatch(journal.journal, adapter, Changes(), min_healthy_secs=0.0)
        for each in (of, starting, plain):
            await adapter.obtain_image(each, None, lambda *_: None)
            container_id, _ = await adapter.create(each, 1)
            await adapter.start(container_id)
        sick, new, unchecked = (replica(container) for container in adapter.of("web"))
        assert watch.readiness(sick, of.spec) is watch.known(sick) is Health.UNHEALTHY
        assert watch.detail(sick) == "the image's health check failed: no database"
        assert watch.readiness(new, starting.spec) is watch.known(new) is Health.UNKNOWN
        assert watch.readiness(unchecked, plain.spec) is Health.HEALTHY
        assert [watch.has_check(each, of.spec) for each in (sick, new, unchecked)] == [True, True, False]
