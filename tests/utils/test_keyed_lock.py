"""One holder per key, no waiting between keys, and nothing left behind."""

from __future__ import annotations

import asyncio

from syntra.utils.keyed_lock import KeyedLock


async def test_holders_of_one_key_take_turns_in_the_order_they_came() -> None:
    lock, order, most, inside = KeyedLock(), [], 0, 0

    async def one(number: int) -> None:
        nonlocal most, inside
        async with lock.holding("key"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            order.append(number)
            inside -= 1

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(one(number))
    assert order == [0, 1, 2, 3, 4]
    assert most == 1
    assert len(lock) == 0


async def test_keys_do_not_wait_for_each_other() -> None:
    lock = KeyedLock()
    async with lock.holding("a"), asyncio.timeout(1), lock.holding("b"):
        assert len(lock) == 2
    assert len(lock) == 0


async def test_a_cancelled_waiter_leaves_the_holder_and_the_next_as_they_are() -> None:
    lock, held = KeyedLock(), []

    async def wait(name: str) -> None:
        async with lock.holding("key"):
            held.append(name)

    async with asyncio.TaskGroup() as group, lock.holding("key"):
        gone = group.create_task(wait("gone"))
        group.create_task(wait("next"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        assert held == []
    assert held == ["next"]
    assert len(lock) == 0


async def test_an_error_inside_frees_the_key() -> None:
    lock = KeyedLock()
    try:
        async with lock.holding("key"):
            raise ValueError
    except ValueError:
        pass
    async with asyncio.timeout(1), lock.holding("key"):
        pass
    assert len(lock) == 0
