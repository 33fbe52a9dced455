"""Batches concurrent changes, so that one wait for the proxy covers all of them.

One caller at a time makes the changes of all callers in the queue; the others find theirs done when they get the lock.
So a proxy that takes seconds for one change takes as long for a hundred.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from syntra.utils.errors import AgentError

State = TypeVar("State")


@dataclass(slots=True, kw_only=True, eq=False)
class PendingChange(Generic[State]):
    """A change that a caller waits for: from one state to the next. `error` is its result once it `is_done`.

    With `insist` the caller waits for the proxy even when nothing changes.
    """

    change: Callable[[State], Awaitable[State]]
    insist: bool
    is_done: bool = False
    error: AgentError | None = None


class ChangeBatcher(Generic[State]):
    """The queue of changes that wait for `lock`. It holds at most one change for each running operation."""

    def __init__(self, lock: asyncio.Lock, make: Callable[[Sequence[PendingChange[State]]], Awaitable[None]]) -> None:
        """`make` is called with the lock held and marks changes done. Cancelled, it leaves the rest in the queue."""
        self._lock = lock
        self._make = make
        self._queue: list[PendingChange[State]] = []

    async def make(self, change: Callable[[State], Awaitable[State]], *, insist: bool) -> None:
        """Return once the change is made; raises its error. When cancelled, it may be made; the other changes are."""
        pending = PendingChange(change=change, insist=insist)
        self._queue.append(pending)
        try:
            async with self._lock:
                if not pending.is_done:
                    await self._make_all()
        finally:
            if pending in self._queue:
                self._queue.remove(pending)
        if pending.error is not None:
            raise pending.error

    async def _make_all(self) -> None:
        batch, self._queue = self._queue, []
        try:
            await self._make(batch)
        finally:
            self._queue[:0] = [one for one in batch if not one.is_done]
