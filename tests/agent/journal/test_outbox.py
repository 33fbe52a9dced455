"""The outbox keeps order, numbers and bounds, and never stops over one message."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from syntra.agent.journal import outbox as outbox_module
from tests.agent.journal.opened import Opened, opened


async def test_messages_come_in_the_order_they_were_put_and_go_when_taken(journal: Opened) -> None:
    await journal.database.transact(lambda c: journal.outbox.put(c, ["one", "two"]))
    await journal.outbox.add("three")
    items = await journal.outbox.pending(2)
    assert [item.text for item in items] == ["one", "two"]
    await journal.outbox.taken(items[1].seq)
    await journal.outbox.taken(items[1].seq)
    assert [item.text for item in await journal.outbox.pending(10)] == ["one", "three"]
    assert await journal.outbox.size() == 2
    assert await journal.outbox.pending(0) == []


async def test_what_was_not_taken_is_there_after_a_restart_and_numbers_are_never_used_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for text in ("one", "two"):
            await journal.outbox.add(text)
        last = (await journal.outbox.pending(2))[1].seq
        await journal.outbox.taken(last)
    async with opened(tmp_path) as journal:
        await journal.outbox.add("three")
        items = await journal.outbox.pending(10)
        assert [item.text for item in items] == ["one", "three"]
        assert items[1].seq > last


async def test_the_oldest_go_first_when_there_are_too_many_and_are_counted(
    journal: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "MAX_MESSAGES", 5)
    await journal.database.transact(lambda c: journal.outbox.put(c, [str(n) for n in range(4)]))
    assert journal.outbox.dropped == 0
    await journal.database.transact(lambda c: journal.outbox.put(c, [str(n) for n in range(4, 8)]))
    assert journal.outbox.dropped == 3
    assert [item.text for item in await journal.outbox.pending(10)] == ["3", "4", "5", "6", "7"]


async def test_an_agent_without_a_control_plane_keeps_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, is_used=False) as journal:
        await journal.outbox.add("nobody will read this")
        assert await journal.outbox.size() == 0


async def test_an_unreadable_message_is_dropped_and_the_rest_goes_on(journal: Opened) -> None:
    for number in range(5):
        await journal.outbox.add(str(number))
    await journal.database.transact(lambda c: c.execute("UPDATE outbox SET message = x'00' WHERE seq IN (1, 2, 4)"))
    assert [item.text for item in await journal.outbox.pending(2)] == ["2"]
    assert [item.text for item in await journal.outbox.pending(10)] == ["2", "4"]
    assert (journal.outbox.dropped, await journal.outbox.size()) == (3, 2)
    await journal.database.transact(lambda c: c.execute("UPDATE outbox SET message = x'00'"))
    assert await journal.outbox.pending(1) == []


async def test_waiting_ends_at_once_when_something_is_there_and_else_when_it_comes(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(journal.outbox.wait(), name="wait")
            await journal.outbox.size()
            assert not waiting.done()
            await journal.outbox.add("news")
        await journal.outbox.wait()
    async with opened(tmp_path) as journal, asyncio.timeout(5):
        await journal.outbox.wait()


async def test_a_wait_that_was_cancelled_loses_no_news(journal: Opened) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(journal.outbox.wait(), name="wait")
        await journal.outbox.size()
        await journal.outbox.add("news")
        waiting.cancel()
    async with asyncio.timeout(5):
        await journal.outbox.wait()


async def test_a_message_is_replaced_in_its_place_or_dropped_and_counted(journal: Opened) -> None:
    for text in ("one", "two", "three"):
        await journal.outbox.add(text)
    first, second, _ = await journal.outbox.pending(3)
    await journal.outbox.replace(first.seq, "short")
    await journal.outbox.replace(second.seq, None)
    await journal.outbox.replace(second.seq, None)
    assert [(item.seq, item.text) for item in await journal.outbox.pending(3)] == [
        (first.seq, "short"),
        (first.seq + 2, "three"),
    ]
    assert journal.outbox.dropped == 1
