"""Takes the agent's samples of host and containers, and keeps them as metrics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from syntra.telemetry.collect.figures.message import FiguresMessage, parse_message
from syntra.telemetry.collect.figures.records import records
from syntra.telemetry.processing.identity import Identity
from syntra.telemetry.signals import Record
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

Keep = Callable[[Sequence[Record]], None]
"""See `Pipeline.keep`. May block as long as the disk."""


class Figures:
    """One sample waits at most: a newer one replaces it. Run `run` beside the link."""

    def __init__(self) -> None:
        self._waiting: Mapping[str, Any] | None = None
        self._news = asyncio.Event()
        self.samples = 0
        """Samples that were kept."""
        self.dropped = 0
        """Samples that a newer one replaced, or that the ring refused."""
        self.containers = 0
        """Containers in the last sample."""

    def take(self, fields: Mapping[str, Any]) -> None:
        """Take a `figures` message."""
        if self._waiting is not None:
            self.dropped += 1
        self._waiting = fields
        self._news.set()

    async def run(self, keep: Keep) -> None:
        """Keep what was taken until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            fields, self._waiting = self._waiting, None
            if fields is None:
                continue
            # Parsed, encoded and written in a thread: hundreds of containers take a while.
            try:
                self.containers = await asyncio.to_thread(_keep, fields, keep)
                self.samples += 1
            except AgentError as refused:
                self.dropped += 1
                log.warning("figures are lost", extra={"reason": str(refused)})


def _keep(fields: Mapping[str, Any], keep: Keep) -> int:
    message: FiguresMessage = parse_message(fields)
    keep(list(records(message, lambda identity: Identity(**identity).attributes())))
    return len(message.containers)
