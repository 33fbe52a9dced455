"""Where batches go, and what came of sending one. Pure.

The shipper takes batches from a reader of the ring and hands them to a destination; both are declared here.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from syntra.telemetry.signals import Signal
from syntra.utils.frozen import frozen


class Batch(Protocol):
    """Records of one signal in the order in which they came. `syntra.telemetry.buffer` makes them."""

    @property
    def signal(self) -> Signal:
        """The one signal of all records."""
        ...

    @property
    def blocks(self) -> tuple[bytes, ...]:
        """One zstd frame each; joined they are one zstd stream. Of profiles, each block is one request."""
        ...

    @property
    def items(self) -> int:
        """Spans, data points, log records, profiles or errors in all blocks."""
        ...

    @property
    def raw_bytes(self) -> int:
        """Size of all blocks after decompression."""
        ...


@frozen
class Part:
    """A part of a batch."""

    signal: Signal
    blocks: tuple[bytes, ...]
    items: int
    raw_bytes: int


@frozen
class Retry:
    """What has to be sent again, and the shortest wait that the peer asked for, if it did."""

    rest: Batch
    after_secs: float | None = None


@frozen
class Sent:
    """What came of sending a batch. The four counts and the items of `retry.rest` add up to the batch's items."""

    taken: int = 0
    """Items that the peer keeps."""
    rejected: int = 0
    """Items that the peer left out of a request that it took (`partial_success`)."""
    refused: int = 0
    """Items of requests that the peer refused for good; sending them again would not help."""
    unwanted: int = 0
    """Items of a signal that the peer has no place for: dropped, which is no problem."""
    wire_bytes: int = 0
    """Size of the bodies that were sent, as sent."""
    reason: str = ""
    """Why something was rejected or refused or must be sent again: for people, without secrets."""
    retry: Retry | None = None

    def __add__(self, other: Sent) -> Sent:
        """The result of both. `retry` is the other's: sending stops at the first part that must be sent again."""
        return Sent(
            taken=self.taken + other.taken,
            rejected=self.rejected + other.rejected,
            refused=self.refused + other.refused,
            unwanted=self.unwanted + other.unwanted,
            wire_bytes=self.wire_bytes + other.wire_bytes,
            reason=other.reason or self.reason,
            retry=other.retry,
        )


def taken(batch: Batch, *, rejected: int = 0, reason: str = "", wire_bytes: int = 0) -> Sent:
    """The peer has the batch, without `rejected` of its items."""
    rejected = min(max(rejected, 0), batch.items)
    return Sent(taken=batch.items - rejected, rejected=rejected, reason=reason, wire_bytes=wire_bytes)


def refused(batch: Batch, reason: str, *, wire_bytes: int = 0) -> Sent:
    """The peer never takes this batch: it is dropped and counted."""
    return Sent(refused=batch.items, reason=reason, wire_bytes=wire_bytes)


def later(batch: Batch, reason: str, *, after_secs: float | None = None, wire_bytes: int = 0) -> Sent:
    """The batch has to be sent again, after `after_secs` at the earliest."""
    return Sent(reason=reason, wire_bytes=wire_bytes, retry=Retry(rest=batch, after_secs=after_secs))


class Destination(Protocol):
    """Takes batches. Up to eight calls of `send` run at the same time."""

    @property
    def name(self) -> str:
        """For messages: an address without secrets, or `the control plane`."""
        ...

    async def send(self, batch: Batch) -> Sent:
        """Send a batch within the destination's own deadline. Cancelling is safe; the batch may then arrive twice.

        A failure is a result, not an exception.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class Pending(Protocol):
    """What one reader has not taken, batches that are out included."""

    @property
    def items(self) -> int:
        """Items of all signals."""
        ...

    @property
    def bytes(self) -> int:
        """Their size before compression."""
        ...


B = TypeVar("B", bound=Batch)


class Reader(Protocol[B]):
    """Reads the ring for one consumer. The reader decides the order: the newest data does not wait for a backlog."""

    def next(self, *, max_items: int, max_bytes: int) -> B | None:
        """The next batch, or None when nothing waits. The batch stays in the ring until it is taken."""
        ...

    def taken(self, batch: B) -> None:
        """The batch is done; it is not read again, also not after a crash."""
        ...

    def returned(self, batch: B) -> None:
        """The batch was not taken: `next` hands it out again."""
        ...

    def pending(self) -> Pending:
        """What is not taken."""
        ...

    async def wait_async(self, timeout: float) -> bool:
        """Wait until `next` has something; False when the timeout, in seconds, came first."""
        ...
