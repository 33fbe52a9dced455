"""What is wrong with the proxy, looked at now and then, so that `status` can say it without asking anybody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

EVERY_SECS = 30.0
DEADLINE_SECS = 10.0


class ProxyWatch:
    """Keeps the last answer of `look` in `warnings`. An answer that cannot be had leaves none."""

    def __init__(self, look: Callable[[], Awaitable[tuple[str, ...]]]) -> None:
        self._look = look
        self._nudge = asyncio.Event()
        self.warnings: tuple[str, ...] = ()

    def nudge(self) -> None:
        """Something was done to the proxy: look at once."""
        self._nudge.set()

    async def run(self) -> None:
        """Look every EVERY_SECS until cancelled."""
        while True:
            self._nudge.clear()
            try:
                async with asyncio.timeout(DEADLINE_SECS):
                    self._say(await self._look())
            except (AgentError, TimeoutError) as unknown:
                # An engine that is away is a warning of its own.
                log.debug("proxy could not be looked at", extra={"reason": str(unknown)})
                self.warnings = ()
            try:
                async with asyncio.timeout(EVERY_SECS):
                    await self._nudge.wait()
            except TimeoutError:
                continue

    def _say(self, warnings: tuple[str, ...]) -> None:
        for warning in warnings:
            if warning not in self.warnings:
                log.warning("proxy", extra={"reason": warning})
        self.warnings = warnings
