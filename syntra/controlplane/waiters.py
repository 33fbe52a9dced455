"""Waiting until the state of a key changes, for `?wait=` of the API."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Waiters:
    """`notify(key)` wakes all waiters of the key. A notification without waiters is lost, so `until` looks first."""

    def __init__(self) -> None:
        self._events: dict[str, set[asyncio.Event]] = {}

    def notify(self, key: str) -> None:
        """Wake all waiters of the key, because its state has changed."""
        for event in self._events.get(key, ()):
            event.set()

    async def until(self, key: str, seconds: float, look: Callable[[], Awaitable[tuple[bool, T]]]) -> T:
        """Call `look` now and after each change, until its first result is true or the time is over.

        Returns the second result of the last call. A change during `look` is not missed. `look` needs its own deadline.
        """
        with self._watch(key) as changed:
            deadline = asyncio.get_running_loop().time() + seconds
            late = False
            while True:
                changed.clear()
                satisfied, value = await look()
                if satisfied or late:
                    return value
                try:
                    async with asyncio.timeout_at(deadline):
                        await changed.wait()
                except TimeoutError:
                    late = True

    @property
    def is_idle(self) -> bool:
        """Whether there are no waiters."""
        return not self._events

    @contextlib.contextmanager
    def _watch(self, key: str) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        self._events.setdefault(key, set()).add(event)
        try:
            yield event
        finally:
            self._events[key].discard(event)
            if not self._events[key]:
                del self._events[key]
