"""What arrived and waits for the router: one bounded queue that outlives connections.

A command is sent at most once, so one that was received is delivered though its connection broke meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from syntra.connection.codec import Envelope
from syntra.utils.errors import AgentError

_log = logging.getLogger(__name__)

INBOX_LIMIT = 64
"""Messages waiting at most. When it is full the socket is not read: the peer waits, memory does not grow."""


class Inbox:
    """Filled by the reader of the connection of the day, emptied by one task for the whole run."""

    def __init__(self, deliver: Callable[[Envelope], Awaitable[None]]) -> None:
        self._deliver = deliver
        self._queue: asyncio.Queue[Envelope] = asyncio.Queue(INBOX_LIMIT)
        self.full = False
        """Whether the reader waits for room. The silence of the peer is our own then."""

    async def put(self, envelope: Envelope) -> None:
        """Queue a message; waits while the queue is full."""
        self.full = self._queue.full()
        try:
            await self._queue.put(envelope)
        finally:
            self.full = False

    async def run(self) -> None:
        """Deliver one message after the other until cancelled. An AgentError of the router costs its message only."""
        while True:
            envelope = await self._queue.get()
            try:
                await self._deliver(envelope)
            except AgentError as exc:
                _log.error("cannot deliver a message", extra={"type": envelope.type, "reason": str(exc)})
