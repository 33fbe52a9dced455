"""Samples of the agent in the telemetry process: kept as records, the newest if it cannot keep up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from syntra.telemetry.buffer.errors import RecordTooLarge
from syntra.telemetry.collect.figures.message import message_fields
from syntra.telemetry.process.figures import Figures
from syntra.telemetry.signals import Record
from tests.telemetry.collect.figures.test_records import MESSAGE

SAMPLE: dict[str, Any] = message_fields(MESSAGE)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_sample_becomes_records_and_a_newer_one_replaces_one_that_waits() -> None:
    kept: list[Sequence[Record]] = []
    may_keep = threading.Event()

    def keep(records: Sequence[Record]) -> None:
        may_keep.wait(10)
        kept.append(records)

    figures = Figures()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(figures.run(keep), name="figures")
        figures.take(SAMPLE)
        await asyncio.sleep(0.1)
        for number in range(3):
            figures.take({**SAMPLE, "containers": SAMPLE["containers"] * number})
        may_keep.set()
        await until(lambda: figures.samples == 2)
        task.cancel()
    assert [len(records) for records in kept] == [2, 2]
    assert (figures.dropped, figures.containers) == (2, 2)


async def test_a_ring_that_refuses_loses_one_sample() -> None:
    kept: list[Sequence[Record]] = []

    def keep(records: Sequence[Record]) -> None:
        if figures.dropped == 0:
            raise RecordTooLarge("the record is too large")
        kept.append(records)

    figures = Figures()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(figures.run(keep), name="figures")
        figures.take(SAMPLE)
        await until(lambda: figures.dropped == 1)
        figures.take(SAMPLE)
        await until(lambda: figures.samples == 1)
        task.cancel()
    assert len(kept) == 1
