"""One signal for everything that changes desired or observed state.

Engine events, commits, the end of operations, health changes and configuration raise it. Each control loop follows it
at its own pace and reads the state for itself: the signal says when something changed, never what.

Loops that read the state after a fixed time, though nothing has changed, do so at the same moments. Then they share one
list of containers, and one wake-up of the processor, which costs more than a pass.
"""

from __future__ import annotations

import asyncio

_LEAST_SECS = 1.0


def until_next(secs: float, now: float) -> float:
    """How long to wait from `now` to a multiple of `secs`, at least a second. Pure."""
    left = secs - now % secs
    return left if left >= _LEAST_SECS else left + secs


class Changes:
    """The signal. Use it on the event loop only."""

    def __init__(self) -> None:
        self._count = 0
        self._news = asyncio.Event()

    def announce(self) -> None:
        """Wake all followers. Cheap; call it after the change is visible."""
        self._count += 1
        self._news.set()
        self._news = asyncio.Event()

    def follow(self) -> Follower:
        """A new follower, which ignores all earlier changes."""
        return Follower(self)


class Follower:
    """One follower. Call `wait` between two passes: a change during a pass ends the next wait at once."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._seen = changes._count

    async def wait(self, at_most_secs: float) -> None:
        """Wait until something changes after the last call returned, at most `at_most_secs`. Safe to cancel."""
        if self._seen == self._changes._count:
            try:
                async with asyncio.timeout(at_most_secs):
                    await self._changes._news.wait()
            except TimeoutError:
                pass
        self._seen = self._changes._count

    async def recheck(self, every_secs: float) -> None:
        """As `wait`, but at the latest at the next multiple of `every_secs`, as all with that interval."""
        await self.wait(until_next(every_secs, asyncio.get_running_loop().time()))
