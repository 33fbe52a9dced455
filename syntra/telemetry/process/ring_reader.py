"""A reader of the ring in the form that the shipper uses: what is under way does not wait any more."""

from __future__ import annotations

from syntra.telemetry.buffer.reader import Batch, Pending, Reader

FOREVER_SECS = 3600.0


class RingReader:
    """One reader, for one shipper, on one event loop."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._items = 0
        self._bytes = 0

    def next(self, *, max_items: int, max_bytes: int) -> Batch | None:
        """See `Reader.next`."""
        batch = self._reader.next(max_items=max_items, max_bytes=max_bytes)
        if batch is not None:
            self._items += batch.items
            self._bytes += batch.raw_bytes
        return batch

    def taken(self, batch: Batch) -> None:
        """See `Reader.taken`."""
        self._done(batch)
        self._reader.taken(batch)

    def returned(self, batch: Batch) -> None:
        """See `Reader.returned`."""
        self._done(batch)
        self._reader.returned(batch)

    def pending(self) -> Pending:
        """What is neither taken nor under way."""
        found = self._reader.pending()
        items, size = max(0, found.items - self._items), max(0, found.bytes - self._bytes)
        return Pending(items=items, bytes=size, oldest_at_ns=found.oldest_at_ns)

    async def wait(self, timeout: float | None = None) -> bool:
        """See `Reader.wait_async`."""
        return await self._reader.wait_async(FOREVER_SECS if timeout is None else timeout)

    def _done(self, batch: Batch) -> None:
        self._items -= batch.items
        self._bytes -= batch.raw_bytes
