"""What one shipper has done so far, for status, metrics and health. Plain integers."""

from __future__ import annotations

from syntra.telemetry.shipping.destination import Sent
from syntra.telemetry.signals import Signal
from syntra.utils.frozen import frozen


class SignalCounts:
    """Counters of one signal since the start."""

    def __init__(self) -> None:
        self.batches = 0
        """Batches that are done: taken, or refused for good."""
        self.items = 0
        """Items that the peer keeps."""
        self.bytes = 0
        """Bytes of bodies sent, also of those sent again."""
        self.rejected = 0
        """Items that the peer left out of requests that it took."""
        self.refused = 0
        """Items that were dropped because the peer refused them for good."""
        self.unwanted = 0
        """Items of a signal that the peer has no place for."""
        self.retries = 0
        """Batches that had to be sent again."""

    def add(self, sent: Sent) -> None:
        """Count a result."""
        self.items += sent.taken
        self.bytes += sent.wire_bytes
        self.rejected += sent.rejected
        self.refused += sent.refused
        self.unwanted += sent.unwanted
        if sent.retry is None:
            self.batches += 1
        else:
            self.retries += 1


@frozen
class Progress:
    """The state of a shipper. Times are of the shipper's clock, in seconds; None when it has not happened."""

    in_flight: int
    window: int
    waiting: int
    """Items in the ring that are not in flight."""
    replaying: bool
    """Whether a backlog is being sent at a limited rate."""
    last_success_at: float | None
    last_error_at: float | None
    last_error: str
    """Why the last batch was not taken, without secrets."""
    failures: int
    """Failures since the last success."""
    retry_at: float | None
    """When the next attempt is due, while nothing is sent because of a failure."""
    counts: dict[Signal, SignalCounts]
