"""Holding a service's lane: only when it is idle, never for ever, and operations go on after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from syntra.agent.operations.job import Job
from syntra.agent.operations.service_queues import QueueInUse, ServiceQueues
from syntra.model.command import Restart
from syntra.model.ids import RequestId, ServiceId
from tests.agent.virtual_time import now

pytestmark = pytest.mark.virtual_time

WEB = ServiceId("web")


def job(request_id: str) -> Job:
    command = Restart(request_id=RequestId(request_id), service_id=WEB, grace_secs=1.0)
    return Job(command=command, kind="restart", origin="local", deployment=None, replicas=1)


@asynccontextmanager
async def lanes_of(ran: list[str], secs: float = 5.0) -> AsyncIterator[ServiceQueues]:
    async def carry_out(one: Job) -> None:
        await asyncio.sleep(secs)
        ran.append(one.command.request_id)

    async with asyncio.TaskGroup() as group:
        yield ServiceQueues(group, carry_out)


async def test_an_operation_that_arrives_waits_until_the_lane_is_let_go() -> None:
    ran: list[str] = []
    async with lanes_of(ran) as queues:
        async with queues.holding(WEB, 60):
            queues.add(job("a"))
            queues.add(job("b"))
            await asyncio.sleep(30)
            assert ran == []
            assert queues.is_busy(WEB)
        await asyncio.sleep(11)
        assert ran == ["a", "b"]
        assert not queues.is_busy(WEB)


async def test_a_lane_in_use_is_not_held() -> None:
    ran: list[str] = []
    async with lanes_of(ran) as queues:
        async with queues.holding(WEB, 60):
            with pytest.raises(QueueInUse):
                async with queues.holding(WEB, 60):
                    pass
            async with queues.holding(ServiceId("other"), 60):
                pass
        queues.add(job("a"))
        with pytest.raises(QueueInUse):
            async with queues.holding(WEB, 60):
                pass


async def test_a_lane_is_held_no_longer_than_asked_for() -> None:
    ran: list[str] = []
    async with lanes_of(ran) as queues:
        with pytest.raises(TimeoutError):
            async with queues.holding(WEB, 60):
                queues.add(job("a"))
                await asyncio.sleep(1000)
        await asyncio.sleep(6)
        assert ran == ["a"]


async def test_what_fails_inside_lets_the_lane_go() -> None:
    ran: list[str] = []
    async with lanes_of(ran) as queues:
        with pytest.raises(ValueError, match="inside"):
            async with queues.holding(WEB, 60):
                queues.add(job("a"))
                raise ValueError("inside")
        await asyncio.sleep(6)
        assert ran == ["a"]


async def test_a_shutdown_waits_for_its_grace_and_then_ends_the_hold() -> None:
    ran: list[str] = []
    async with lanes_of(ran) as queues, asyncio.TaskGroup() as group:

        async def hold(secs: float) -> None:
            with pytest.raises(TimeoutError):
                async with queues.holding(WEB, 600):
                    queues.add(job("a"))
                    await asyncio.sleep(secs)

        group.create_task(hold(300), name="holder")
        await asyncio.sleep(1)
        begun = now()
        await queues.drain(3.0)
        assert 3.0 <= now() - begun < 4.0
        assert ran == [], "what waits is taken up by the next start"
        with pytest.raises(QueueInUse):
            async with queues.holding(WEB, 60):
                pass


async def test_the_end_of_a_service_s_last_operation_is_told_when_it_is_idle() -> None:
    told: list[bool] = []

    async def carry_out(one: Job) -> None:
        await asyncio.sleep(1)

    async with asyncio.TaskGroup() as group:
        queues = ServiceQueues(group, carry_out, on_idle=lambda: told.append(queues.is_busy(WEB)))
        queues.add(job("a"))
        queues.add(job("b"))
        await asyncio.sleep(1.5)
        assert told == []
    assert told == [False]
