"""The thresholds of one signal in force now, service by service, from the loads that they count. Pure."""

from __future__ import annotations

from syntra.telemetry.sampling.rates import INTERVAL_SECS, Load, Rates, Shares
from syntra.telemetry.sampling.threshold import threshold_of

_HYSTERESIS = 0.1


class Share:
    """One service's part: what it has sent in this interval, and the threshold for what it sends.

    Plain attributes, because the loop over spans reads and writes them.
    """

    __slots__ = ("edge", "forced", "population", "probability", "raised_until", "received", "threshold")

    def __init__(self, probability: float) -> None:
        self.received = 0
        self.population = 0.0
        self.forced = 0
        self.raised_until = 0.0
        """Until then, verdicts with a lower threshold than today's can exist."""
        self.probability = 1.0
        self.threshold = 0
        self.edge = b""
        """The threshold as seven bytes, to compare with the end of a trace id; empty where everything is kept."""
        self._set(probability)

    def move(self, probability: float, now: float, window_secs: float) -> None:
        """Take a new probability if it differs by more than a tenth, or is 1."""
        if probability < 1.0 and abs(probability / self.probability - 1.0) <= _HYSTERESIS:
            return
        if probability < self.probability:
            self.raised_until = now + window_secs
        self._set(probability)

    def _set(self, probability: float) -> None:
        self.probability = probability
        self.threshold = threshold_of(probability)
        self.edge = self.threshold.to_bytes(7, "big") if self.threshold else b""


class Sampler:
    """Thresholds of one signal. A target of items per second, a floor for each service's probability."""

    def __init__(
        self, target: float, floor: float, now: float, *, window_secs: float, interval_secs: float = INTERVAL_SECS
    ) -> None:
        self._rates = Rates(target, floor, now, interval_secs)
        self._window = window_secs
        self._shares: dict[str, Share] = {}
        self.received = 0
        """Items of all services since the last adjustment."""

    @property
    def shares(self) -> Shares:
        """The result of the last adjustment."""
        return self._rates.shares

    def share(self, key: str) -> Share:
        """The share of a service. A new one gets the probability of the agent as a whole, not 1."""
        known = self._shares.get(key)
        if known is None:
            known = self._shares[key] = Share(self._rates.shares.fallback)
        return known

    def forget(self, key: str) -> None:
        """Remove a service that has sent nothing for long."""
        self._shares.pop(key, None)

    def tick(self, now: float) -> bool:
        """Adjust the thresholds if the interval is over or a burst has begun. Cheap otherwise."""
        if not self._rates.due(now, self.received):
            return False
        counts = {
            key: Load(received=share.received, population=share.population, forced=share.forced)
            for key, share in self._shares.items()
            if share.received
        }
        shares = self._rates.update(now, counts)
        self.received = 0
        for key, share in self._shares.items():
            share.received = share.forced = 0
            share.population = 0.0
            share.move(shares.probabilities.get(key, shares.fallback), now, self._window)
        return True
