"""How much of each service's telemetry is kept: a target for all of them together, shared by water-filling. Pure.

Each service has an average of its load that follows the last intervals. While all loads together are within the target
everything is kept. Above it every service may send up to the same level, and what a small service leaves of its share
raises the level of the others. No service falls below the floor, so the floors of many busy services can exceed the
target; at `HARD_CAP` times the target the floor itself is scaled down.
"""

from __future__ import annotations

from collections.abc import Mapping

from syntra.utils.frozen import frozen

HARD_CAP = 4.0
INTERVAL_SECS = 15.0
BATCH_SECS = 5.0
"""SDKs send what has come together in five seconds at once. So much time more than has passed can arrive."""
_WEIGHT = 0.5
_BURST = 2.0
_LOWEST = 1e-5
_AGE_OUT = 0.5


@frozen
class Load:
    """One service's items in an interval, or per second."""

    received: float
    population: float
    """Items that are neither an error nor slow, each counted as the number that it represents upstream."""
    forced: float
    """Items that are kept whatever the probability is: of errors and of slow traces."""


@frozen
class Shares:
    """The probability of each service, and how it came about."""

    probabilities: Mapping[str, float]
    fallback: float
    """For a service that is not among them: what the agent keeps of everything."""
    limited: bool
    """Whether the load is above the target."""
    floor: float
    """The floor in force: `sampling_rate`, or less at the hard cap."""


EVERYTHING = Shares(probabilities={}, fallback=1.0, limited=False, floor=1.0)


def share_out(loads: Mapping[str, Load], target: float, floor: float) -> Shares:
    """Share a target of items per second among services with these loads per second."""
    received = sum(load.received for load in loads.values())
    if received <= target:
        return Shares(probabilities=dict.fromkeys(loads, 1.0), fallback=1.0, limited=False, floor=floor)
    forced = sum(load.forced for load in loads.values())
    at_floor = floor * (received - forced)
    if forced + at_floor > HARD_CAP * target:
        floor *= max(_LOWEST, (HARD_CAP * target - forced) / at_floor)
    least = {key: load.forced + floor * (load.received - load.forced) for key, load in loads.items()}
    level = _level(loads, least, target)
    probabilities: dict[str, float] = {}
    kept = 0.0
    for key, load in loads.items():
        share = min(load.received, max(level, least[key]))
        kept += share
        if share >= load.received:
            probabilities[key] = 1.0
        else:
            wanted = (share - load.forced) / load.population if load.population > 0 else 1.0
            probabilities[key] = min(1.0, max(floor, wanted))
    return Shares(probabilities=probabilities, fallback=max(floor, kept / received), limited=True, floor=floor)


def _level(loads: Mapping[str, Load], least: Mapping[str, float], target: float) -> float:
    """The level to which each service may send so that together they meet the target; 0 if the floors exceed it."""
    low, high = 0.0, target
    for _ in range(60):
        middle = (low + high) / 2
        if sum(min(load.received, max(middle, least[key])) for key, load in loads.items()) > target:
            high = middle
        else:
            low = middle
    return low


class Rates:
    """Follows the loads of all services and says when the shares must be computed again."""

    def __init__(self, target: float, floor: float, now: float, interval_secs: float = INTERVAL_SECS) -> None:
        self.target = target
        self.floor = floor
        self.shares = EVERYTHING
        self._interval = interval_secs
        self._began = now
        self._averages: dict[str, Load] = {}
        self._provisional = False
        self.total = 0.0
        """Items per second of all services, averaged."""

    def due(self, now: float, received: float) -> bool:
        """Whether to call `update`, `received` items after the last one: the interval is over, or this is a burst.

        A burst is twice the expected load, and at the start twice the target, so a cold start is no exception.
        """
        elapsed = now - self._began
        return elapsed >= self._interval or received > _BURST * max(self.total, self.target) * (elapsed + BATCH_SECS)

    def update(self, now: float, counts: Mapping[str, Load]) -> Shares:
        """Take what has come since the last update and share out the target again."""
        elapsed = now - self._began
        burst = elapsed < self._interval
        if burst:
            # The lowest rate that explains it; the next update follows soon if it is more.
            elapsed += BATCH_SECS
        self._began = now
        weight = 1 - (1 - _WEIGHT) ** (elapsed / self._interval)
        averages = {}
        for key in self._averages.keys() | counts.keys():
            new = _scaled(counts.get(key, _NOTHING), 1 / elapsed)
            old = self._averages.get(key)
            if burst:
                average = new if old is None or new.received > old.received else old
            elif old is None or self._provisional:
                average = new
            else:
                average = _added(_scaled(old, 1 - weight), _scaled(new, weight))
            if average.received * self._interval >= _AGE_OUT:
                averages[key] = average
        self._averages = averages
        # What a burst gave is a guess from a part of an interval; the next whole interval replaces it.
        self._provisional = burst
        self.total = sum(load.received for load in averages.values())
        self.shares = share_out(averages, self.target, self.floor)
        return self.shares


_NOTHING = Load(received=0.0, population=0.0, forced=0.0)


def _scaled(load: Load, factor: float) -> Load:
    return Load(received=load.received * factor, population=load.population * factor, forced=load.forced * factor)


def _added(one: Load, other: Load) -> Load:
    return Load(
        received=one.received + other.received,
        population=one.population + other.population,
        forced=one.forced + other.forced,
    )
