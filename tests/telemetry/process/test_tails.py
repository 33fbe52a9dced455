"""Live views of what is kept."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from syntra.model.fields import Json
from syntra.telemetry.process.tails import MOST_ITEMS, Tails
from syntra.telemetry.signals import Record, Signal
from tests.telemetry.shipping.samples import logs, profiles, traces

pytestmark = pytest.mark.virtual_time


class Agent:
    """The agent's end of the link; `gate` holds it back."""

    def __init__(self) -> None:
        self.messages: list[Mapping[str, Any]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, kind: str, fields: Mapping[str, Json]) -> None:
        assert kind == "tail"
        await self.gate.wait()
        self.messages.append(fields)

    def lines(self, number: int) -> list[str]:
        return [item["line"] for one in self.messages if one["number"] == number for item in one["items"]]

    def missed(self, number: int) -> int:
        return sum(one["missed"] for one in self.messages if one["number"] == number)


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Tails, Agent]]:
    agent = Agent()
    tails = Tails(agent.send)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(tails.run())
        yield tails, agent
        await asyncio.sleep(1)
        task.cancel()


def spans(*names: str, service: str = "shop") -> Record:
    return Record(signal=Signal.TRACES, items=len(names), data=traces(*names, service=service))


def log_records(*bodies: str) -> Record:
    return Record(signal=Signal.LOGS, items=len(bodies), data=logs(*bodies))


async def test_a_view_shows_what_is_kept_from_its_begin_to_its_end() -> None:
    async with running() as (tails, agent):
        tails.offer([spans("before")])
        tails.begin(1, "", "")
        tails.offer([spans("GET /"), log_records("hello")])
        await asyncio.sleep(1)
        tails.end(1)
        tails.end(1)
        tails.offer([spans("after")])
    shown = agent.lines(1)
    assert len(shown) == 2
    assert "GET /" in shown[0] and "hello" in shown[1]
    [message] = agent.messages
    assert message["items"][0]["operation_name"] == "GET /"
    assert message["missed"] == 0


async def test_what_a_view_had_no_time_to_show_is_not_for_the_next_one() -> None:
    async with running() as (tails, agent):
        tails.begin(1, "", "")
        tails.offer([spans("of the first")])
        tails.end(1)
        await asyncio.sleep(1)
        tails.begin(2, "", "")
        tails.offer([spans("of the second")])
    assert len(agent.lines(2)) == 1
    assert "of the second" in agent.lines(2)[0]


async def test_filters_are_each_view_s_own() -> None:
    async with running() as (tails, agent):
        tails.begin(1, "shop", "")
        tails.begin(2, "", "logs")
        tails.begin(3, "shop", "logs")
        tails.offer([spans("a"), spans("b", service="other"), log_records("c")])
    assert ["a" in line for line in agent.lines(1)] == [True]
    assert ["c" in line for line in agent.lines(2)] == [True]
    assert agent.lines(3) == []
    assert [message["missed"] for message in agent.messages] == [0, 0]


async def test_more_than_can_be_shown_is_counted() -> None:
    names = [f"span{number}" for number in range(MOST_ITEMS - 10)]
    async with running() as (tails, agent):
        tails.begin(1, "", "")
        tails.begin(2, "", "logs")
        tails.offer([spans(*names), spans(*names), spans("last")])
        await asyncio.sleep(1)
        tails.offer([spans("later")])
    assert len(agent.messages[0]["items"]) == MOST_ITEMS
    assert agent.messages[0]["missed"] == 2 * len(names) + 1 - MOST_ITEMS
    assert "later" in agent.lines(1)[-1]
    assert agent.messages[1]["missed"] == 0
    assert agent.lines(2) == []


async def test_exactly_as_many_as_can_be_shown_miss_nothing() -> None:
    async with running() as (tails, agent):
        tails.begin(1, "", "")
        tails.offer([spans(*map(str, range(MOST_ITEMS)))])
    assert len(agent.lines(1)) == MOST_ITEMS
    assert agent.missed(1) == 0


async def test_while_the_agent_is_slow_records_are_counted_and_not_held() -> None:
    async with running() as (tails, agent):
        tails.begin(1, "", "traces")
        tails.begin(2, "", "logs")
        agent.gate.clear()
        tails.offer([spans("first"), log_records("first")])
        await asyncio.sleep(1)
        for _ in range(300):
            tails.offer([spans("x", "y")])
        agent.gate.set()
    # 64 records wait; a view counts only what it would have shown.
    assert len(agent.lines(1)) + agent.missed(1) == 1 + 600
    assert agent.missed(1) > 0
    assert len(agent.lines(2)) == 1
    assert agent.missed(2) == 0


async def test_records_without_lines_and_records_that_are_broken_stop_no_view() -> None:
    async with running() as (tails, agent):
        tails.begin(1, "", "")
        broken = Record(signal=Signal.TRACES, items=1, data=b"\xff\xff")
        tails.offer([Record(signal=Signal.PROFILES, items=1, data=profiles("p")), broken, spans("fine")])
    assert len(agent.lines(1)) == 1


async def test_threads_lose_no_count() -> None:
    async with running() as (tails, agent):
        tails.begin(1, "", "")
        record = spans("x")

        def offer() -> None:
            for _ in range(2000):
                tails.offer([record])

        threads = [threading.Thread(target=offer) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(agent.lines(1)) + agent.missed(1) == 8000
