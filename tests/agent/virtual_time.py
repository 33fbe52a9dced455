"""An event loop whose clock stands still while anything can happen and jumps to the next timer when nothing can.

Tests with minutes of deadlines take milliseconds and their order does not depend on the machine. Work in threads (the
journal's) counts as something that can happen: the clock waits for it. Real peers outside the process do not. The mark
`virtual_time` runs a test, or all of a module, on such a loop.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any, TypeVarTuple, Unpack

STUCK_SECS = 20.0
Args = TypeVarTuple("Args")


class _Selector(selectors.BaseSelector):
    """A real selector that asks the loop before it sleeps."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.loop: VirtualLoop | None = None

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        assert self.loop is not None, "cannot happen because the loop sets itself"
        if ready or timeout == 0:
            return ready
        if self.loop.in_threads:
            return self._real.select(STUCK_SECS)
        if timeout is None:
            ready = self._real.select(STUCK_SECS)
            assert ready, "nothing can happen any more: every task waits and there is no timer"
            return ready
        self.loop.jump(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._now = 1000.0
        self.in_threads = 0
        selector = _Selector()
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        self._now += max(seconds, 1e-9)

    def run_in_executor(self, executor: Any, func: Callable[[Unpack[Args]], Any], *args: *Args) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)
        self.in_threads += 1
        future.add_done_callback(self._returned)
        return future

    def _returned(self, _: asyncio.Future[Any]) -> None:
        self.in_threads -= 1


def now() -> float:
    """The virtual time."""
    return asyncio.get_running_loop().time()
