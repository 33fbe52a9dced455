"""Live views of what is kept (`syntra-agent telemetry tail`). What they cannot show in time is counted and left out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from syntra.model.fields import Json
from syntra.telemetry.shipping.tail import matches, tail_items
from syntra.telemetry.signals import Record

EVERY_SECS = 0.2
MOST_ITEMS = 100
"""Items that one view shows at a time: 500 a second."""
_WAITING = 64

Send = Callable[[str, Mapping[str, Json]], Awaitable[None]]


class Tails:
    """All live views. `offer` may be called from any thread; everything else from the event loop."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._filters: dict[int, tuple[str, str]] = {}
        # Bounded: while it is full, records are counted in `_missed` only.
        self._records: deque[Record] = deque(maxlen=_WAITING)
        self._missed = 0

    def begin(self, number: int, service: str, signal: str) -> None:
        """Start a view; an empty filter matches everything."""
        self._filters[number] = (service, signal)

    def end(self, number: int) -> None:
        """End a view."""
        self._filters.pop(number, None)

    def offer(self, records: Sequence[Record]) -> None:
        """Show these records in the views that want them. Costs nothing without a view."""
        if not self._filters:
            return
        for record in records:
            if len(self._records) == _WAITING:
                self._missed += record.items
            else:
                self._records.append(record)

    async def run(self) -> None:
        """Send what was offered until cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECS)
            if self._records:
                await self._show()

    async def _show(self) -> None:
        records = [self._records.popleft() for _ in range(len(self._records))]
        missed, self._missed = self._missed, 0
        items: list[dict[str, Json]] = []
        for record in records:
            if len(items) >= MOST_ITEMS * 4:
                missed += record.items
            else:
                items += tail_items(record.signal, record.data)
        for number, (service, signal) in list(self._filters.items()):
            wanted = [item for item in items if matches(item, service=service, signal=signal)]
            if wanted or missed:
                shown: list[Json] = [*wanted[:MOST_ITEMS]]
                left_out = missed + max(0, len(wanted) - MOST_ITEMS)
                await self._send("tail", {"number": number, "items": shown, "missed": left_out})
