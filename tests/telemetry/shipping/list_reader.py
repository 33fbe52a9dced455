"""A reader of the ring that is a list, with faults and counts for tests."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from syntra.telemetry.shipping.destination import Part, Pending
from syntra.telemetry.signals import Signal


@dataclass
class Waiting:
    """As the ring has it: batches that are out are included."""

    items: int
    bytes: int


class ListReader:
    """Hands out what `add` was given, oldest first; returned batches come first again."""

    def __init__(self) -> None:
        self._waiting: deque[Part] = deque()
        self._new = asyncio.Event()
        self.out: list[Part] = []
        self._records: dict[int, list[Part]] = {}
        """Of each batch that is out, by its identity."""
        self.done: list[Part] = []
        self.returns = 0

    def add(self, items: int, *, block: bytes = b"x", signal: Signal = Signal.TRACES) -> None:
        """Let one record of `items` items arrive, of one byte each."""
        self._waiting.append(Part(signal=signal, blocks=(block,), items=items, raw_bytes=items))
        self._new.set()

    def next(self, *, max_items: int, max_bytes: int) -> Part | None:
        """Join records of one signal up to the limits; a record is never split."""
        joined: list[Part] = []
        while self._waiting:
            first = self._waiting[0]
            items = first.items + sum(each.items for each in joined)
            size = first.raw_bytes + sum(each.raw_bytes for each in joined)
            if joined and (items > max_items or size > max_bytes or first.signal is not joined[0].signal):
                break
            joined.append(self._waiting.popleft())
        if not joined:
            return None
        batch = Part(
            signal=joined[0].signal,
            blocks=tuple(block for each in joined for block in each.blocks),
            items=sum(each.items for each in joined),
            raw_bytes=sum(each.raw_bytes for each in joined),
        )
        self.out.append(batch)
        self._records[id(batch)] = joined
        return batch

    def taken(self, batch: Part) -> None:
        self._forget(batch)
        self.done.append(batch)

    def returned(self, batch: Part) -> None:
        self.returns += 1
        self._waiting.extendleft(reversed(self._forget(batch)))
        self._new.set()

    def pending(self) -> Pending:
        kept = [*self._waiting, *self.out]
        return Waiting(items=sum(each.items for each in kept), bytes=sum(each.raw_bytes for each in kept))

    async def wait_async(self, timeout: float) -> bool:
        self._new.clear()
        if self._waiting:
            return True
        try:
            async with asyncio.timeout(timeout):
                await self._new.wait()
        except TimeoutError:
            return False
        return True

    def _forget(self, batch: Part) -> list[Part]:
        for number, each in enumerate(self.out):
            if each is batch:
                del self.out[number]
                return self._records.pop(id(batch))
        raise AssertionError("a batch was given back twice, or was never handed out")
