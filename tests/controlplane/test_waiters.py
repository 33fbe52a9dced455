"""Waiting by key: nothing missed, nothing kept."""

from __future__ import annotations

import asyncio

import pytest

from syntra.controlplane.waiters import Waiters


async def test_a_change_during_the_look_is_not_missed() -> None:
    waiters = Waiters()
    looks = 0

    async def look() -> tuple[bool, int]:
        nonlocal looks
        looks += 1
        if looks == 1:
            waiters.notify("key")
        return looks == 2, looks

    async with asyncio.timeout(5):
        assert await waiters.until("key", 60, look) == 2


async def test_every_waiter_of_the_key_and_no_other_wakes() -> None:
    waiters = Waiters()
    ready = {"a": False, "b": False}

    async def wait(key: str) -> str:
        async def look() -> tuple[bool, str]:
            return ready[key], key

        return await waiters.until(key, 60, look)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        first, second = (group.create_task(wait("a"), name="waiter") for _ in range(2))
        other = group.create_task(wait("b"), name="other")
        await asyncio.sleep(0)
        ready["a"] = True
        waiters.notify("a")
        assert await first == await second == "a"
        assert not other.done()
        ready["b"] = True
        waiters.notify("b")


async def test_without_a_wait_it_looks_and_returns() -> None:
    async def look() -> tuple[bool, str]:
        return False, "now"

    assert await Waiters().until("key", 0, look) == "now"


async def test_at_the_end_of_the_time_it_looks_once_more() -> None:
    looks = 0

    async def look() -> tuple[bool, int]:
        nonlocal looks
        looks += 1
        return False, looks

    assert await Waiters().until("key", 0.01, look) == 2


async def test_a_failing_look_and_a_cancelled_wait_leave_nothing() -> None:
    waiters = Waiters()

    async def fail() -> tuple[bool, str]:
        raise KeyError("look")

    async def never() -> tuple[bool, str]:
        return False, ""

    with pytest.raises(KeyError):
        await waiters.until("key", 60, fail)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(waiters.until("key", 60, never), name="waiter")
        await asyncio.sleep(0)
        waiting.cancel()
    assert waiters.is_idle
