"""Received messages that wait for the router: one bounded queue that outlives connections.

The control plane sends a command at most once, so a received command is delivered even if its connection has broken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from syntra.connection.codec import Envelope
from syntra.utils.errors import AgentError

_log = logging.getLogger(__name__)

INBOX_LIMIT = 64
"""The most messages that wait. When the queue is full, the socket is not read: the peer waits, memory does not grow."""


class Inbox:
    """Filled by the reader of the current connection; emptied by one task that lives as long as the agent."""

    def __init__(self, deliver: Callable[[Envelope], Awaitable[None]]) -> None:
        self._deliver = deliver
        self._queue: asyncio.Queue[Envelope] = asyncio.Queue(INBOX_LIMIT)
        self.full = False
        """Whether the reader waits for room. If so, the agent causes the silence, not the peer."""

    async def put(self, envelope: Envelope) -> None:
        """Queue a message. Waits while the queue is full."""
        self.full = self._queue.full()
        try:
            await self._queue.put(envelope)
        finally:
            self.full = False

    async def run(self) -> None:
        """Deliver messages in order until cancelled. An AgentError of the router is logged and loses one message."""
        while True:
            envelope = await self._queue.get()
            try:
                await self._deliver(envelope)
            except AgentError as exc:
                _log.error("cannot deliver a message", extra={"type": envelope.type, "reason": str(exc)})
