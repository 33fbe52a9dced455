"""The pipeline from a received request to the ring: who sent it, what of it is kept, and a durable yes.

It is the `Intake` of all receivers, and of everything else that produces telemetry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from syntra.model.fields import Json
from syntra.telemetry.buffer.errors import RecordTooLarge
from syntra.telemetry.intake import BadData, CollectedLines, Outcome, Overloaded, Request, Source
from syntra.telemetry.process.admission import MemoryBudget, Reservation
from syntra.telemetry.process.counts import Counts
from syntra.telemetry.process.senders import Senders
from syntra.telemetry.processing.outcome import Processed
from syntra.telemetry.processing.processor import Processor
from syntra.telemetry.read_requests import ReadTraces
from syntra.telemetry.signals import Record, Signal
from syntra.utils.errors import AgentError

CLOSED_RETRY_SECS = 5.0
"""When a sender should try again if the ring is closed: by then the agent's next telemetry process runs."""


class Ring(Protocol):
    """The durable buffer; see `telemetry.buffer`."""

    def append(self, records: Sequence[Record], marks: Mapping[str, Json] = ...) -> None:
        """Keep records, and how far their sources were read.

        Raises RecordTooLarge, and another AgentError when it is closed.
        """
        ...

    async def append_async(self, records: Sequence[Record]) -> None:
        """As `append`."""
        ...


class Watcher(Protocol):
    """Sees what is kept; see `tails`. Must be cheap and never raise."""

    def offer(self, records: Sequence[Record]) -> None: ...


class Pipeline:
    """The intake of one telemetry process."""

    def __init__(
        self,
        *,
        budget: MemoryBudget,
        senders: Senders,
        processor: Processor,
        ring: Ring,
        counts: Counts,
        watcher: Watcher,
    ) -> None:
        self._budget = budget
        self._senders = senders
        self._process = processor.process
        self._count_collected = processor.count_collected
        self._collect_lines = processor.collect_lines
        self._ring = ring
        self._counts = counts
        self._watcher = watcher

    def reserve(self, size: int) -> Reservation:
        """See `Intake.reserve`."""
        return self._budget.reserve(size)

    def receive(self, signal: Signal, request: Request, source: Source) -> Outcome:
        """See `Intake.receive`."""
        try:
            processed = self._process(signal, request, self._senders.of(source.address))
            if processed.records:
                self._ring.append(processed.records)
        except (BadData, Overloaded) as refused:
            self._refuse(signal, refused)
            raise
        except AgentError as failed:
            refusal = _refusal(failed)
            self._refuse(signal, refusal)
            raise refusal from failed
        return self._accept(signal, request, processed)

    async def receive_async(self, signal: Signal, request: bytes, source: Source) -> Outcome:
        """See `Intake.receive_async`."""
        try:
            processed = self._process(signal, request, await self._senders.of_async(source.address))
            if processed.records:
                await self._ring.append_async(processed.records)
        except (BadData, Overloaded) as refused:
            self._refuse(signal, refused)
            raise
        except AgentError as failed:
            refusal = _refusal(failed)
            self._refuse(signal, refusal)
            raise refusal from failed
        return self._accept(signal, request, processed)

    def keep(self, records: Sequence[Record]) -> None:
        """Keep what the agent itself produces, such as the RED metrics; it is not counted as received."""
        self._ring.append(records)
        for record in records:
            self._counts.kept(record.signal, record.items, len(record.data))
        self._watcher.offer(records)

    async def collected(self, records: Sequence[Record], resource: bytes) -> None:
        """Keep metrics that the agent collected. They are encoded and identified already; `resource` is theirs.

        Raises Overloaded, and AgentError when the ring keeps nothing.
        """
        await self._ring.append_async(records)
        for record in records:
            self._counts.received(
                record.signal, size=len(record.data), received=record.items, rejected=0, sampled_out=0
            )
            self._counts.kept(record.signal, record.items, len(record.data))
            self._count_collected(record.signal, record.items, resource)
        self._watcher.offer(records)

    def keep_lines(self, collected: Sequence[CollectedLines], marks: Mapping[str, Json]) -> None:
        """Keep lines of containers, and with them how far their logs were read: both or neither survive a crash.

        Raises RecordTooLarge, and another AgentError when the ring is closed.
        """
        records: list[Record] = []
        for lines in collected:
            records += self._collect_lines(lines).records
        self._ring.append(records, marks)
        for lines in collected:
            self._counts.received(Signal.LOGS, size=len(lines.request), received=lines.items, rejected=0, sampled_out=0)
        for record in records:
            self._counts.kept(record.signal, record.items, len(record.data))
        self._watcher.offer(records)

    def refused(self, signal: Signal | None, reason: str) -> None:
        """See `Intake.refused`."""
        self._counts.refuse(signal, reason)

    def _refuse(self, signal: Signal, refused: BadData | Overloaded) -> None:
        self._counts.refuse(signal, "bad_data" if isinstance(refused, BadData) else "overloaded")

    def _accept(self, signal: Signal, request: Request, processed: Processed) -> Outcome:
        if isinstance(request, bytes):
            size = len(request)
        else:
            size = request.size if isinstance(request, ReadTraces) else request.ByteSize()
        self._counts.received(
            signal,
            size=size,
            received=processed.received,
            rejected=processed.rejected,
            sampled_out=processed.sampled_out,
        )
        for record in processed.records:
            self._counts.kept(record.signal, record.items, len(record.data))
        self._watcher.offer(processed.records)
        if processed.rejected or processed.message:
            return Outcome(rejected=processed.rejected, message=processed.message)
        return _ACCEPTED


_ACCEPTED = Outcome()


def _refusal(failed: AgentError) -> BadData | Overloaded:
    """The sender's answer when the ring keeps nothing: a request that is too large for it stays so."""
    if isinstance(failed, RecordTooLarge):
        return BadData(str(failed))
    return Overloaded(str(failed), CLOSED_RETRY_SECS)
