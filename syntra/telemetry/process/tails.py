"""Live views of what is kept (`syntra-agent telemetry tail`). What they cannot show in time is counted and left out."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice

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
        self._records: deque[Record] = deque()
        self._missed: dict[str, int] = {}
        """By signal."""
        self._lock = threading.Lock()
        self._begun = asyncio.Event()
        """Set while there is a view. Without one, nothing wakes the process."""

    def begin(self, number: int, service: str, signal: str) -> None:
        """Start a view; an empty filter matches everything."""
        self._filters[number] = (service, signal)
        self._begun.set()

    def end(self, number: int) -> None:
        """End a view."""
        self._filters.pop(number, None)
        if not self._filters:
            self._begun.clear()
            # What was not shown in time is not for the next view.
            with self._lock:
                self._records.clear()
                self._missed.clear()

    def offer(self, records: Sequence[Record]) -> None:
        """Show these records in the views that want them. Costs nothing without a view."""
        if not self._filters:
            return
        with self._lock:
            for record in records:
                if len(self._records) >= _WAITING:
                    name = record.signal.value
                    self._missed[name] = self._missed.get(name, 0) + record.items
                else:
                    self._records.append(record)

    async def run(self) -> None:
        """Send what was offered until cancelled."""
        while True:
            await self._begun.wait()
            await asyncio.sleep(EVERY_SECS)
            if self._records:
                await self._show()

    async def _show(self) -> None:
        with self._lock:
            records, self._records = self._records, deque()
            missed, self._missed = self._missed, {}
        for number, (service, signal) in list(self._filters.items()):
            shown: list[Json] = []
            left_out = sum(count for name, count in missed.items() if signal in ("", name))
            for record in records:
                if signal and record.signal.value != signal:
                    continue
                room = MOST_ITEMS - len(shown)
                found = _rendered(record, service, room)
                shown += found
                if len(found) == room:
                    # With a filter for a service this is the most that can be missing.
                    left_out += record.items - room
            if shown or left_out:
                await self._send("tail", {"number": number, "items": shown, "missed": left_out})


def _rendered(record: Record, service: str, most: int) -> list[Json]:
    """A record's items, each with the line that people read."""
    if most == 0:
        return []
    try:
        found = islice(tail.items(record.signal, record.data, service=service), most)
        return [{**item, "line": tail.as_line(item)} for item in found]
    except BadData:
        # It was decoded before it was kept; a view must not fail over it.
        return []
