"""The gate before the commit: proven, failed with a reason, or still waited for; on a fake engine in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from syntra.agent.health.gate import HealthGate
from syntra.health.result import ProbeResult
from syntra.model.ids import ContainerId
from syntra.model.status import Health
from syntra.runtime.errors import RuntimeUnavailable, StepFailed
from tests.agent.fake_engine import FakeEngine, replica
from tests.agent.samples import deployment
from tests.agent.virtual_time import now
from tests.runtime.containers import world

pytestmark = pytest.mark.virtual_time

EXEC: dict[str, Any] = {"type": "exec", "command": ["wget"], "interval_seconds": 2, "retries": 3, "timeout_seconds": 1}


async def started(adapter: FakeEngine, count: int = 1, **changes: Any) -> list[ContainerId]:
    """Replicas of one deployment, running."""
    wanted = deployment(**changes)
    await adapter.obtain_image(wanted, None, lambda *_: None)
    ids = [(await adapter.create(wanted, index))[0] for index in range(1, count + 1)]
    for container_id in ids:
        await adapter.start(container_id)
    return ids


def gate(adapter: FakeEngine, min_healthy_secs: float = 2.0) -> HealthGate:
    return HealthGate(adapter, min_healthy_secs=min_healthy_secs, clock=asyncio.get_running_loop().time)


async def secs_to_pass(adapter: FakeEngine, ids: list[ContainerId], **changes: Any) -> float:
    begun = now()
    await gate(adapter).wait(ids, deployment(**changes).spec)
    return now() - begun


async def test_without_a_check_staying_up_is_the_proof() -> None:
    adapter = FakeEngine()
    assert 2.0 <= await secs_to_pass(adapter, await started(adapter)) < 2.2
    await gate(adapter).wait(await started(adapter), None)


async def test_with_a_check_passing_it_for_a_while_is_the_proof() -> None:
    adapter = FakeEngine()
    check: dict[str, Any] = {"config": {"health_check": EXEC}}
    assert 2.0 <= await secs_to_pass(adapter, await started(adapter, **check), **check) < 4.1
    slow: dict[str, Any] = {"env": {"FAIL": "slow", "SLOW": "4"}, **check}
    assert 6.0 <= await secs_to_pass(adapter, await started(adapter, **slow), **slow) < 9


async def test_who_passed_is_told_with_its_answer_when_there_is_a_check() -> None:
    adapter = FakeEngine()
    told: list[tuple[ContainerId, ProbeResult]] = []
    clock = asyncio.get_running_loop().time
    gate = HealthGate(
        adapter,
        min_healthy_secs=2.0,
        clock=clock,
        on_passed=lambda one, answer: told.append((one.container_id, answer)),
    )
    check: dict[str, Any] = {"config": {"health_check": EXEC}}
    ids = await started(adapter, 2, **check)
    await gate.wait(ids, deployment(**check).spec)
    assert sorted(one for one, _ in told) == sorted(ids) and all(answer.ok for _, answer in told)
    await gate.wait(await started(adapter), deployment().spec)
    assert len(told) == 2, "staying up is no answer"


async def test_replicas_are_watched_at_once_and_the_first_failure_counts() -> None:
    adapter = FakeEngine()
    assert await secs_to_pass(adapter, await started(adapter, 20)) < 2.2
    good = await started(adapter, 2)
    [bad] = await started(adapter, env={"FAIL": "exit"})
    begun = now()
    with pytest.raises(StepFailed) as caught:
        await gate(adapter).wait([*good, bad], deployment().spec)
    assert now() - begun < 1
    assert (caught.value.code, caught.value.container_id) == ("CONTAINER_CRASHED", bad)


@pytest.mark.parametrize(
    ("fail", "code", "word"),
    [
        ("exit", "CONTAINER_CRASHED", "exited with code 3; see its log"),
        ("crash", "CONTAINER_CRASHED", "crash loop: restarted 2 times, last time it exited with code 4; see its log"),
        (
            "unhealthy",
            "HEALTH_CHECK_FAILED",
            "the health check failed 3 times in a row: exit code 1; "
            "see its log, and whether health_check fits (path, port, retries)",
        ),
    ],
)
async def test_a_failure_names_the_container_and_why(fail: str, code: str, word: str) -> None:
    adapter = FakeEngine()
    changes: dict[str, Any] = {"env": {"FAIL": fail}, "config": {"health_check": EXEC}}
    [container_id] = await started(adapter, **changes)
    with pytest.raises(StepFailed) as caught:
        await gate(adapter).wait([container_id], deployment(**changes).spec)
    assert (caught.value.code, caught.value.container_id) == (code, container_id)
    assert "syn-web-d1: " in str(caught.value)
    assert word in str(caught.value)


IMAGE: dict[str, Any] = {"env": {"IMAGE_CHECK": "healthy:5"}}
IMAGE_FAILS: dict[str, Any] = {"env": {"IMAGE_CHECK": "unhealthy:5", "IMAGE_CHECK_SAYS": "no\x1b[31m database\n"}}


async def test_without_a_check_of_the_spec_the_image_s_own_has_to_pass() -> None:
    adapter = FakeEngine()
    assert 5.0 <= await secs_to_pass(adapter, await started(adapter, 2, **IMAGE), **IMAGE) < 6.5


async def test_an_image_whose_own_check_fails_is_refused_with_what_it_said() -> None:
    adapter = FakeEngine()
    [container_id] = await started(adapter, **IMAGE_FAILS)
    begun = now()
    with pytest.raises(StepFailed) as caught:
        await gate(adapter).wait([container_id], deployment(**IMAGE_FAILS).spec)
    assert 5.0 <= now() - begun < 6.5
    assert (caught.value.code, caught.value.container_id) == ("HEALTH_CHECK_FAILED", container_id)
    assert str(caught.value) == (
        "syn-web-d1: the image's health check failed: no[31m database; see its log, or the image's HEALTHCHECK"
    )


async def test_a_check_of_the_spec_takes_the_place_of_the_image_s() -> None:
    adapter = FakeEngine()
    both: dict[str, Any] = {**IMAGE_FAILS, "config": {"health_check": EXEC}}
    ids = await started(adapter, **both)
    await asyncio.sleep(6)
    assert await secs_to_pass(adapter, ids, **both) < 5


async def test_failing_takes_the_retries_and_the_start_period_that_were_given() -> None:
    adapter = FakeEngine()
    check = {**EXEC, "start_period_seconds": 20}
    changes: dict[str, Any] = {"env": {"FAIL": "unhealthy"}, "config": {"health_check": check}}
    ids = await started(adapter, **changes)
    begun = now()
    with pytest.raises(StepFailed):
        await gate(adapter).wait(ids, deployment(**changes).spec)
    assert now() - begun == pytest.approx(20 + 2 * 2, abs=1.5)


async def test_a_container_that_somebody_removes_is_not_waited_for() -> None:
    adapter = FakeEngine()
    [container_id] = await started(adapter)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_failure(adapter, container_id), name="gate")
        await asyncio.sleep(1)
        await adapter.remove(container_id)
    assert waiting.result() == "CONTAINER_NOT_FOUND"


async def _failure(adapter: FakeEngine, container_id: ContainerId) -> str:
    with pytest.raises(StepFailed) as caught:
        await gate(adapter).wait([container_id], deployment().spec)
    return caught.value.code


async def test_an_answer_of_a_container_that_is_gone_proves_nothing() -> None:
    class Removing(FakeEngine):
        async def execute(self, container_id: ContainerId, *args: Any, **kwargs: Any) -> Any:
            result = await super().execute(container_id, *args, **kwargs)
            await self.remove(container_id)
            return result

    adapter = Removing()
    changes: dict[str, Any] = {"config": {"health_check": EXEC}}
    ids = await started(adapter, **changes)
    with pytest.raises(StepFailed) as caught:
        await gate(adapter, min_healthy_secs=0.0).wait(ids, deployment(**changes).spec)
    assert caught.value.code == "CONTAINER_NOT_FOUND"


async def test_an_engine_that_goes_away_is_not_the_containers_failure() -> None:
    adapter = FakeEngine()
    ids = await started(adapter, 3)
    adapter.away_at = {len(adapter.calls) + 5}
    with pytest.raises(RuntimeUnavailable):
        await gate(adapter).wait(ids, deployment().spec)


async def test_a_wait_can_be_left_at_any_moment() -> None:
    adapter = FakeEngine()
    ids = await started(adapter, 3, env={"FAIL": "slow", "SLOW": "1000"}, config={"health_check": EXEC})
    for seconds in (0.0, 0.01, 0.5, 1.7):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await gate(adapter).wait(ids, deployment(config={"health_check": {**EXEC, "retries": 99}}).spec)


async def test_looking_does_not_tire_the_engine() -> None:
    adapter = FakeEngine()
    changes: dict[str, Any] = {
        "env": {"FAIL": "slow", "SLOW": "60"},
        "config": {"health_check": {**EXEC, "interval_seconds": 10, "retries": 99}},
    }
    ids = await started(adapter, **changes)
    adapter.calls.clear()
    await gate(adapter).wait(ids, deployment(**changes).spec)
    assert adapter.calls.count("inspect") < 120
    assert adapter.calls.count("execute") < 60


@pytest.mark.virtual_time(False)
async def test_http_and_tcp_checks_are_made_from_here_to_the_containers_own_address() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            status = b"200 OK" if head.startswith(b"GET /health ") else b"503 No"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    adapter = FakeEngine()
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        expected = {
            ("http", "/health", port): Health.HEALTHY,
            ("http", "/other", port): Health.UNHEALTHY,
            ("tcp", "/", port): Health.HEALTHY,
            ("tcp", "/", 1): Health.UNHEALTHY,
        }
        for (kind, path, at), health in expected.items():
            wanted = deployment(config={"health_check": {"type": kind, "path": path, "port": at}})
            [container_id] = await started(adapter, config={"health_check": {"type": kind, "path": path, "port": at}})
            found = replica(adapter.containers[container_id])
            checker = HealthGate(adapter, min_healthy_secs=0.0, clock=asyncio.get_running_loop().time)
            assert await checker.health_now(found, wanted.spec, 2.0) is health
            if health is Health.HEALTHY:
                await checker.wait([container_id], wanted.spec)


async def test_a_view_does_not_wait_for_a_slow_answer_and_needs_an_address() -> None:
    adapter = FakeEngine()
    adapter.hold("execute")
    [container_id] = await started(adapter)
    found = replica(adapter.containers[container_id])
    spec = deployment(config={"health_check": {**EXEC, "timeout_seconds": 100}}).spec
    begun = now()
    assert await gate(adapter).health_now(found, spec, 2.0) is Health.UNHEALTHY
    assert now() - begun < 4
    assert await gate(adapter).health_now(found, deployment().spec, 2.0) is Health.UNKNOWN
    homeless = world.replica(
        container_id=container_id, deployment_id=deployment().deployment_id, service_id=spec.service_id
    )
    http = deployment(config={"health_check": {"type": "http", "path": "/"}}).spec
    assert await gate(adapter).health_now(homeless, http, 2.0) is Health.UNHEALTHY
