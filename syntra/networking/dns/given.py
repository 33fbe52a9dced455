"""Remembers when an address was last in an answer, for as long as a client may cache that answer. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, TypeVar

USE_SECS = 1.0
"""Between an answer and the client's connection, in addition to the time for which it may cache the answer."""

Key = TypeVar("Key")


class LastGiven(Generic[Key]):
    """Keeps at most `capacity` addresses. A dropped address counts as given when the last dropped one was given."""

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        # Address to the time of its last answer, oldest first.
        self._times: OrderedDict[Key, float] = OrderedDict()
        self._displaced: float | None = None

    def __len__(self) -> int:
        return len(self._times)

    def note(self, addresses: Iterable[Key], now: float, *, keep_secs: float) -> None:
        """The addresses are in an answer at `now` (monotonic). Forget those given more than `keep_secs` before."""
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
        """When one of these was last given; None when none is remembered."""
        times = [time for address in addresses if (time := self._times.get(address, self._displaced)) is not None]
        return max(times, default=None)
