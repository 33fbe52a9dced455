"""Who is asked what: each replica what its own deployment says, while one takes over from another."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.changes import Changes
from syntra.agent.health.watch import HealthWatch
from syntra.health.result import ProbeResult
from syntra.model.ids import RequestId
from syntra.model.spec import Deployment
from syntra.model.status import Health
from tests.agent.fake_engine import FakeEngine, replica
from tests.agent.journal.opened import Opened, opened
from tests.agent.journal.samples import accept, row
from tests.agent.samples import deployment

CHECK: dict[str, Any] = {"type": "exec", "command": ["wget"], "interval_seconds": 0.1, "retries": 1}
ANSWERED_SECS = 10.0
PASSED = ProbeResult(ok=True, detail="exit code 0", duration_secs=0.01)


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
        watch = HealthWatch(journal.journal, adapter, changes, min_healthy_secs=0.0)
        [container] = adapter.of("web")
        watch.passed(replica(container), PASSED)
        running = group.create_task(watch.run())
        await told.wait(ANSWERED_SECS)
        while watch.readiness(replica(container), of.spec) is Health.UNKNOWN:
            await told.wait(ANSWERED_SECS)
        assert watch.readiness(replica(container), of.spec) is Health.HEALTHY
        assert watch.detail(replica(container)) == PASSED.detail
        running.cancel()


@pytest.mark.parametrize("is_probed_before", [False, True], ids=["before its target", "after a probe that failed"])
async def test_a_replica_that_passes_its_gate_is_healthy_at_once_and_said_to_be_once(
    tmp_path: Path, is_probed_before: bool
) -> None:
    adapter = FakeEngine()
    # The interval is long: nothing but the gate tells that the replica has become healthy.
    check = {**CHECK, "interval_seconds": 60, "retries": 3}
    of = deployment("d1", env={"FAIL": "unhealthy"}, config={"health_check": check})
    async with opened(tmp_path) as journal, asyncio.TaskGroup() as group:
        await started(journal, adapter, "r0", of)
        changes = Changes()
        watch = HealthWatch(journal.journal, adapter, changes, min_healthy_secs=0.0)
        running = group.create_task(watch.run())
        [container] = adapter.of("web")
        if is_probed_before:
            await journal.journal.commit(RequestId("r0"), row(of.deployment_id))
            changes.announce()
            while not watch.detail(replica(container)):
                await asyncio.sleep(0.01)
            assert watch.readiness(replica(container), of.spec) is Health.UNKNOWN
        told = changes.follow()
        for _ in "twice":
            watch.passed(replica(container), PASSED)
        async with asyncio.timeout(1.0):
            await told.wait(ANSWERED_SECS)
        if not is_probed_before:
            await journal.journal.commit(RequestId("r0"), row(of.deployment_id))
            changes.announce()
        while watch.readiness(replica(container), of.spec) is not Health.HEALTHY:
            await asyncio.sleep(0.01)
        if is_probed_before:
            assert watch.detail(replica(container)) == PASSED.detail
        running.cancel()
        await journal.journal.events.flush()
        health = [event.text for event in await journal.journal.events.after(0, limit=100) if event.kind == "health"]
        assert health == ["replica 1 is healthy"]


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
