"""Live views of what is kept (`syntra-agent telemetry tail`). What they cannot show in time is counted and left out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from syntra.model.fields import Json
from syntra.telemetry.intake import BadData
from syntra.telemetry.shipping import tail
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
        for number, (service, signal) in list(self._filters.items()):
            shown: list[Json] = []
            left_out = missed
            for record in records:
                if signal and record.signal.value != signal:
                    continue
                if len(shown) >= MOST_ITEMS:
                    left_out += record.items
                else:
                    shown += _rendered(record, service)
            left_out += max(0, len(shown) - MOST_ITEMS)
            if shown or left_out:
                await self._send("tail", {"number": number, "items": shown[:MOST_ITEMS], "missed": left_out})


def _rendered(record: Record, service: str) -> list[Json]:
    """A record's items, each with the line that people read."""
    try:
        found = tail.items(record.signal, record.data, service=service)
        return [{**item, "line": tail.as_line(item)} for item in found]
    except BadData:
        # It was decoded before it was kept; a view must not fail over it.
        return []
