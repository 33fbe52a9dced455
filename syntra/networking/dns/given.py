"""When an address was last given out, for as long as somebody may remember the answer. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, TypeVar

USE_SECS = 1.0
"""From the moment an answer is made until whoever asked has connected, beside the time it may be remembered."""

Key = TypeVar("Key")


class LastGiven(Generic[Key]):
    """Keeps at most `capacity` addresses. One that had to make room counts as given when the last of those was."""

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        # Address to the time it was given out; the one given longest ago first.
        self._times: OrderedDict[Key, float] = OrderedDict()
        self._displaced: float | None = None

    def __len__(self) -> int:
        return len(self._times)

    def note(self, addresses: Iterable[Key], now: float, *, keep_secs: float) -> None:
        """These are given out at `now` (monotonic); what was given more than `keep_secs` before that is forgotten."""
        for address in addresses:
            self._times[address] = now
            self._times.move_to_end(address)
        while self._times:
            oldest = next(iter(self._times))
            then = self._times[oldest]
            if then >= now - keep_secs:
                if len(self._times) <= self._capacity:
                    break
                self._displaced = then
            del self._times[oldest]

    def last(self, addresses: Iterable[Key]) -> float | None:
        """When one of these was last given out; None: not that anybody remembers."""
        times = [time for address in addresses if (time := self._times.get(address, self._displaced)) is not None]
        return max(times, default=None)
