"""Gathers the appends of an event loop: what arrives in one cycle shares blocks, one write and one sync."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

from syntra.telemetry.signals import Record

GROUP_BYTES = 128 * 1024
"""Larger appends are compressed in a thread, so that the loop does not wait for them."""
GROUP_ITEMS = 1000
"""A block is what a batch consists of: with more items it would exceed the usual `batch_max_items`."""


class _Group(threading.local):
    """What one loop has gathered; a loop has a thread to itself."""

    def __init__(self) -> None:
        self.begin(None)

    def begin(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Begin with nothing."""
        self.loop = loop
        self.records: list[Record] = []
        self.callers: list[asyncio.Future[None]] = []
        self.size = 0
        self.items = 0


class Gatherer:
    """Calls `append` once for many callers.

    A group is appended in the next cycle of the loop, or after `gather_secs`: fewer writes, for a later answer.
    """

    def __init__(self, append: Callable[[Sequence[Record]], None], gather_secs: float) -> None:
        self._append = append
        self._gather_secs = gather_secs
        self._group = _Group()

    async def append(self, records: Sequence[Record]) -> None:
        """Return when the records are appended, or raise what `append` raises."""
        size = items = 0
        for record in records:
            size += len(record.data)
            items += record.items
        if size > GROUP_BYTES:
            await asyncio.to_thread(self._append, records)
            return
        group = self._group
        loop = asyncio.get_running_loop()
        if group.loop is not loop:
            # An earlier loop of this thread, which ended before its last cycle. Its callers got no answer.
            group.begin(loop)
        if group.size + size > GROUP_BYTES or group.items + items > GROUP_ITEMS:
            self._flush()
        caller: asyncio.Future[None] = loop.create_future()
        group.records.extend(records)
        group.size += size
        group.items += items
        group.callers.append(caller)
        if len(group.callers) == 1:
            if self._gather_secs:
                loop.call_later(self._gather_secs, self._flush)
            else:
                loop.call_soon(self._flush)
        await caller

    def _flush(self) -> None:
        group = self._group
        records, callers = group.records, group.callers
        if not callers:
            return
        group.begin(group.loop)
        try:
            self._append(records)
        except Exception as exc:  # noqa: BLE001 – the callers raise it
            for caller in callers:
                if not caller.done():
                    caller.set_exception(exc)
            return
        for caller in callers:
            if not caller.done():
                caller.set_result(None)
