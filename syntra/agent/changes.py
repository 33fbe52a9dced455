"""One signal for everything that changes desired or observed state.

Engine events, commits, operations that end, health that changes and configuration all raise it. Whoever keeps
something true to that state follows it, each at its own pace, and looks for itself: the signal says when, never what.
"""

from __future__ import annotations

import asyncio


class Changes:
    """Everything on the event loop."""

    def __init__(self) -> None:
        self._count = 0
        self._news = asyncio.Event()

    def announce(self) -> None:
        """Something changed. Cheap; to be called after the change can be seen."""
        self._count += 1
        self._news.set()
        self._news = asyncio.Event()

    def follow(self) -> Follower:
        """A view of its own, which has seen everything until now."""
        return Follower(self)


class Follower:
    """One follower's view. `wait` between two looks: what changed during a look ends the next wait at once."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._seen = changes._count

    async def wait(self, at_most_secs: float) -> None:
        """Return when something changed since the last call returned, or after `at_most_secs`. Safe to cancel."""
        if self._seen == self._changes._count:
            try:
                async with asyncio.timeout(at_most_secs):
                    await self._changes._news.wait()
            except TimeoutError:
                pass
        self._seen = self._changes._count
