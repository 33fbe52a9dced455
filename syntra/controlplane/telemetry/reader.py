"""Answers queries for telemetry: reads blocks a few at a time, and decodes them outside of the event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from syntra.controlplane.pages import FRAMING_BYTES, Page
from syntra.controlplane.settings import Limits
from syntra.controlplane.store_thread import StoreThread
from syntra.controlplane.telemetry.query import Query, beyond, matches
from syntra.controlplane.telemetry.store import StoredBlock, blocks

# What one operation of the store reads, when it is decompressed. The store's thread has other work too.
_READ_BYTES = 8 * 1024 * 1024
_AT_A_TIME = 2


class TelemetryReader:
    """For all clients."""

    def __init__(self, store: StoreThread, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._turns = asyncio.Semaphore(_AT_A_TIME)

    async def answer(self, query: Query) -> bytes:
        """A page of items in the order in which they were received. Raises StoreError.

        A query that has read `telemetry_query_bytes` answers with what it has found, which may be nothing.
        """
        async with self._turns:
            filling = _Filling(query, self._limits)
            first, others = query.first_block, True
            at_once = min(_READ_BYTES, self._limits.telemetry_query_bytes)
            while others and not filling.is_over:
                found, others = await self._store.run(blocks, query.wanted, first, at_once)
                if not found:
                    break
                await asyncio.to_thread(filling.take, found)
                first = found[-1].seq + 1
            page = Page(records=filling.records, next=filling.next, more=filling.is_full or others)
        return page.answer(query.wanted.kind.value, {})


class _Filling:
    """The records of an answer while it fills."""

    def __init__(self, query: Query, limits: Limits) -> None:
        self.records: list[bytes] = []
        self.next = query.after
        self.is_full = False
        self._query = query
        self._limits = limits
        self._room = limits.answer_bytes - FRAMING_BYTES
        self._read = 0

    @property
    def is_over(self) -> bool:
        """Whether no more blocks should be read."""
        return self.is_full or self._read >= self._limits.telemetry_query_bytes

    def take(self, found: list[StoredBlock]) -> None:
        """Add the matching items of blocks until the answer is full."""
        for block in found:
            for cursor, item in matches(block, self._query):
                text = _json(item)
                if self.records and (len(text) + 1 > self._room or len(self.records) == self._query.limit):
                    self.is_full = True
                    return
                self.records.append(text)
                self._room -= len(text) + 1
                self.next = cursor
            self.next = beyond(block)
            self._read += block.raw_bytes


def _json(item: Mapping[str, object]) -> bytes:
    """Compact ASCII JSON. Numbers that are too large for a double, as JSON may have them, become null."""
    try:
        return json.dumps(item, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        finite = json.loads(json.dumps(item), parse_constant=lambda name: None)
        return json.dumps(finite, separators=(",", ":")).encode()
