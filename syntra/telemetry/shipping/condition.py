"""How a shipper fares: successes, outages and losses, as sentences for people and lines in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable

from syntra.telemetry.shipping.destination import Sent
from syntra.telemetry.signals import Signal

logger = logging.getLogger(__name__)

STUCK_SECS = 60.0
"""Without progress for this long, the shipper has a problem."""
OUTAGE_SECS = 10.0
"""Failures for this long are logged once; shorter ones are counted."""
REFUSED_IS_NEWS_SECS = 300.0
"""How long a refused batch stays a problem, and the shortest time between two log lines about refusals."""


class Condition:
    """Times are of `clock`, in seconds. `name` is the destination's."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name = name
        self._clock = clock
        self.last_success_at: float | None = None
        self.last_error_at: float | None = None
        self.last_error = ""
        self.moved_at = clock()
        """When a batch was sent, or nothing waited."""
        self._failing_since: float | None = None
        self._outage_is_told = False
        self._refused_at: float | None = None
        self._refusal = ""

    def problem(self, waiting: Callable[[], int], *, patience: float) -> str | None:
        """Why telemetry does not arrive; None while all is well. Nothing is sent for `patience` seconds when stuck."""
        now, name = self._clock(), self._name
        if self._failing_since is not None and now - self._failing_since >= STUCK_SECS:
            return f"cannot ship telemetry to {name}: {self.last_error}; {waiting()} items wait in the ring"
        if self._refused_at is not None and now - self._refused_at < REFUSED_IS_NEWS_SECS:
            return f"cannot ship some telemetry to {name}: it was refused and dropped: {self._refusal}"
        quiet = now - self.moved_at
        if quiet >= patience and waiting():
            return f"cannot ship telemetry to {name}: nothing was sent for {quiet:.0f} s; see the agent's log"
        return None

    def succeeded(self) -> bool:
        """The peer has answered and needs nothing again. Returns whether that ends a failure."""
        now = self._clock()
        was_failing = self._failing_since is not None
        if self._failing_since is not None and self._outage_is_told:
            lasted = round(now - self._failing_since, 1)
            logger.info("telemetry is shipped again", extra={"destination": self._name, "after_secs": lasted})
        self._failing_since, self._outage_is_told = None, False
        self.last_success_at = now
        return was_failing

    def failed(self, reason: str) -> None:
        """A batch must be sent again."""
        now = self._clock()
        self.last_error, self.last_error_at = reason, now
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since >= OUTAGE_SECS and not self._outage_is_told:
            self._outage_is_told = True
            logger.warning(
                "telemetry cannot be shipped; the ring keeps it", extra={"destination": self._name, "reason": reason}
            )

    def lost(self, signal: Signal, sent: Sent) -> None:
        """Items were refused or rejected for good."""
        now = self._clock()
        if sent.refused:
            self.last_error, self.last_error_at = sent.reason, now
        if self._refused_at is None or now - self._refused_at >= REFUSED_IS_NEWS_SECS:
            logger.error(
                "telemetry was refused and dropped",
                extra={
                    "destination": self._name,
                    "signal": signal.value,
                    "refused": sent.refused,
                    "rejected": sent.rejected,
                    "reason": sent.reason,
                },
            )
        self._refused_at, self._refusal = now, sent.reason
