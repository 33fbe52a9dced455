"""Limits how much one source may query: one token bucket per source, in a table of bounded size. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Source = TypeVar("Source", bound=Hashable)


class RateLimit(Generic[Source]):
    """Buckets of `burst` tokens that refill at `rate` per second. Keeps the `capacity` most recent sources.

    A forgotten source starts with a full bucket. That does not circumvent the limit, as containers cannot choose their
    address and the server answers no other sources.
    """

    def __init__(self, *, rate: float, burst: int, capacity: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._capacity = capacity
        # Source to its tokens and their time, oldest first.
        self._buckets: OrderedDict[Source, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def allow(self, source: Source, now: float) -> bool:
        """Take a token of `source`; False when none is left. `now` is monotonic, in seconds."""
        tokens, then = self._buckets.pop(source, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - then) * self._rate)
        allowed = tokens >= 1.0
        self._buckets[source] = (tokens - 1.0 if allowed else tokens, max(now, then))
        if len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)
        return allowed


class Shares(Generic[Source]):
    """Counts how much of a limited resource is in use, in total and per source."""

    def __init__(self, *, total: int, each: int) -> None:
        self._total = total
        self._each = each
        self._taken: dict[Source, int] = {}
        self._sum = 0

    @property
    def in_use(self) -> int:
        """How many are in use in total."""
        return self._sum

    def acquire(self, source: Source) -> bool:
        """Take one for `source`; False when its limit or the total limit is reached."""
        own = self._taken.get(source, 0)
        if own >= self._each or self._sum >= self._total:
            return False
        self._taken[source] = own + 1
        self._sum += 1
        return True

    def release(self, source: Source) -> None:
        """Return one."""
        own = self._taken.pop(source)
        self._sum -= 1
        if own > 1:
            self._taken[source] = own - 1
