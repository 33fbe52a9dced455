"""Sends a batch in one request, or in several when it is larger than the peer takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

from syntra.telemetry.shipping.blocks import BadBlock, halved, requests_of
from syntra.telemetry.shipping.destination import Batch, Part, Sent, later, refused

SMALLEST_BYTES = 16 * 1024
"""A request of this size is not halved: a peer that refuses it as too large refuses everything."""


class SizeLimit:
    """The largest request, in bytes before compression, that a peer takes; learned from its refusals."""

    def __init__(self, max_bytes: int | None = None) -> None:
        self.max_bytes = max_bytes

    def allows(self, batch: Batch) -> bool:
        """Whether a batch may be tried."""
        return self.max_bytes is None or batch.raw_bytes <= self.max_bytes

    def refused(self, batch: Batch) -> None:
        """The peer called this batch too large."""
        half = max(SMALLEST_BYTES, batch.raw_bytes // 2)
        self.max_bytes = half if self.max_bytes is None else min(self.max_bytes, half)


async def send_in_parts(batch: Batch, limit: SizeLimit, send: Callable[[Batch], Awaitable[Sent | None]]) -> Sent:
    """Send a batch with `send`, which returns None for a request that is too large for the peer.

    Stops at the first part that must be sent again. `retry.rest` is the batch itself when no part is done.
    """
    total = Sent()
    try:
        waiting = deque(requests_of(batch))
    except BadBlock as exc:
        return refused(batch, f"a block of the ring is damaged: {exc}")
    while waiting:
        part = waiting.popleft()
        try:
            if not limit.allows(part) and (halves := halved(part)) is not None:
                waiting.extendleft(reversed(halves))
                continue
            sent = await send(part)
            if sent is None:
                limit.refused(part)
                halves = halved(part) if part.raw_bytes > SMALLEST_BYTES else None
                if halves is not None:
                    waiting.extendleft(reversed(halves))
                    continue
                sent = refused(part, f"it is too large for the peer, {part.raw_bytes} bytes before compression")
        except BadBlock as exc:
            sent = refused(part, f"a block of the ring is damaged: {exc}")
        if sent.retry is not None:
            rest = _rest(batch, [sent.retry.rest, *waiting])
            return total + later(rest, sent.reason, after_secs=sent.retry.after_secs, wire_bytes=sent.wire_bytes)
        total += sent
    return total


def _rest(batch: Batch, parts: list[Batch]) -> Batch:
    items = sum(part.items for part in parts)
    if items == batch.items:
        return batch
    return Part(
        signal=batch.signal,
        blocks=tuple(block for part in parts for block in part.blocks),
        items=items,
        raw_bytes=sum(part.raw_bytes for part in parts),
    )
