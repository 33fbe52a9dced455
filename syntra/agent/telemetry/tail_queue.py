"""What waits for one reader of `telemetry tail`: bounded, and what does not fit is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from syntra.model.fields import Json

MOST = 256
"""`tail` messages that may wait for a slow reader."""


class TailQueue:
    """The queue of one reader; use it on the event loop only."""

    def __init__(self, most: int = MOST) -> None:
        self._queue: asyncio.Queue[Mapping[str, Json] | None] = asyncio.Queue(most + 1)
        self._most = most
        self._missed = 0

    def put(self, fields: Mapping[str, Any]) -> None:
        """Add a `tail` message. Its items are counted as missed when there is no room."""
        if self._queue.qsize() >= self._most:
            self._missed += len(fields["items"]) + fields["missed"]
        else:
            self._queue.put_nowait({**fields, "missed": fields["missed"] + self._missed})
            self._missed = 0

    def end(self) -> None:
        """Nothing more comes. For this there is always room; call it once."""
        self._queue.put_nowait(None)

    async def get(self) -> Mapping[str, Json] | None:
        """The next message; None when nothing more comes."""
        return await self._queue.get()
