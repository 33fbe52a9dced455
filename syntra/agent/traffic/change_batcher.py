"""Changes of several that ask at once, made together: what has to be waited for is waited for once.

One makes its change at a time. Whoever asks meanwhile finds, when its turn comes, that the one before it in the row has
made the changes of all that stood there. So a proxy that takes seconds for a change takes as long for a hundred.
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
    """A change that somebody waits for: from a state to the next one. `error` is what they are told once it `is_done`.

    With `insist` it counts as one even when it changes nothing.
    """

    change: Callable[[State], Awaitable[State]]
    insist: bool
    is_done: bool = False
    error: AgentError | None = None


class ChangeBatcher(Generic[State]):
    """The row of those that wait for `lock`; as long as it is, as many operations are under way."""

    def __init__(self, lock: asyncio.Lock, make: Callable[[Sequence[PendingChange[State]]], Awaitable[None]]) -> None:
        """`make` is called with the lock held and sees to each; what it has not done when it is cut off stays."""
        self._lock = lock
        self._make = make
        self._row: list[PendingChange[State]] = []

    async def make(self, change: Callable[[State], Awaitable[State]], *, insist: bool) -> None:
        """Return once the change is made; raises its error. Cancelled, it is made or not, and the others' is."""
        asked = PendingChange(change=change, insist=insist)
        self._row.append(asked)
        try:
            async with self._lock:
                if not asked.is_done:
                    await self._make_all()
        finally:
            if asked in self._row:
                self._row.remove(asked)
        if asked.error is not None:
            raise asked.error

    async def _make_all(self) -> None:
        row, self._row = self._row, []
        try:
            await self._make(row)
        finally:
            self._row[:0] = [one for one in row if not one.is_done]
