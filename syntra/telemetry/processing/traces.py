"""Traces: identity and sampling of a request, scope by scope. Pure.

It is not safe under threads: the processor holds a lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from syntra.telemetry.intake import BadData
from syntra.telemetry.processing.identity import Identity
from syntra.telemetry.processing.outcome import MAX_ERRORS, ErrorExtractor
from syntra.telemetry.processing.outlines import remove_empty
from syntra.telemetry.processing.read_spans import scan_read
from syntra.telemetry.processing.services import Sender, Service, Services
from syntra.telemetry.processing.spans import Scan, Unusual, scan
from syntra.telemetry.read_requests import ReadScope, ReadTraces
from syntra.telemetry.sampling.sampler import Sampler, Share
from syntra.telemetry.sampling.threshold import encode, randomness_of
from syntra.telemetry.sampling.verdicts import Verdicts
from syntra.telemetry.signals import Signal

_TRACES = Signal.TRACES.value

_EVENT_TAG = b"\x5a"
_EXCEPTION = b"\x12\x09exception"
"""An event's name: field 2, nine bytes. The name follows the tag, the length and the time of the event."""
_REACH = 24


def has_exception(request: bytes) -> bool:
    """Whether a span of the request can have an event `exception`. Never says no to one in the usual field order."""
    at = request.find(_EVENT_TAG)
    for _ in range(len(request) // 128):
        if at < 0:
            return False
        if request.find(_EXCEPTION, at, at + _REACH) >= 0:
            return True
        at = request.find(_EVENT_TAG, at + 1)
    # Bytes that look like events too often: one search through all of them is cheaper.
    return request.find(_EXCEPTION) >= 0


class Batch:
    """One traces request on its way: the outline that is cut down, and the counts."""

    def __init__(self, outline: Any, *, exceptions: bool = False) -> None:
        """`outline` is a TracesOutline or a ReadTraces; `exceptions` says whether to search the former for events."""
        self.outline = outline
        self.exceptions = exceptions
        self.changed = False
        self.received = 0
        self.dropped = 0
        """Spans sampled out or rejected."""
        self.emptied = False
        """Whether a scope has lost all of its spans."""
        self.rejected: Counter[str] | None = None
        self.failures: list[tuple[bytes, Sender]] = []
        """Encoded spans with an exception, each with its sender."""

    def add_failure(self, raw: bytes, sender: Sender) -> None:
        """Remember a span for the errors, up to the limit."""
        if len(self.failures) < MAX_ERRORS:
            self.failures.append((raw, sender))

    def remaining(self) -> int:
        """The number of spans to keep, once the batch has been through the stage."""
        return self.received - self.dropped

    def rejections(self) -> int:
        """The number of rejected spans."""
        return self.rejected.total() if self.rejected else 0

    def encoded(self, request: bytes = b"") -> bytes:
        """The kept spans: the request itself if nothing has changed."""
        if isinstance(self.outline, ReadTraces):
            return self.outline.encode(without_empty=self.emptied)
        if not self.changed:
            return request
        if self.emptied:
            remove_empty(self.outline)
        return bytes(self.outline.SerializeToString())

    def errors(self, extractor: ErrorExtractor) -> list[dict[str, Any]]:
        """The errors of the remembered spans. Raises BadData for a span that cannot be decoded."""
        found = []
        for encoded, sender in self.failures:
            try:
                span = Span.FromString(encoded)
            except DecodeError as error:
                raise BadData("cannot decode a span: it is not valid protobuf", "resource_spans") from error
            found += extractor.from_span(span, sender.attributes())
        return found[:MAX_ERRORS]


class TraceStage:
    """Judges the spans of requests."""

    def __init__(self, services: Services, sampler: Sampler, whole: Verdicts, kept: Verdicts) -> None:
        self._services = services
        self._sampler = sampler
        self._whole = whole
        self._kept = kept

    def run(self, batch: Batch, identity: Identity | None, now: float) -> None:
        """Take a batch through validation, identity, RED and sampling. Raises BadData."""
        senders = self._services.senders(identity)
        for resource_spans in batch.outline.resources:
            parts = resource_spans.resource
            encoded = parts[0] if len(parts) == 1 else b"".join(parts)
            sender = senders.get(encoded) or self._services.sender(identity, encoded)
            if sender.encoded != encoded:
                parts[:] = [sender.encoded]
                batch.changed = True
            received, dropped = batch.received, batch.dropped
            for scope in resource_spans.scopes:
                if scope.items:
                    self._scope(batch, sender, scope, now)
            received = batch.received - received
            sender.service.received[_TRACES] += received
            sender.service.kept[_TRACES] += received - (batch.dropped - dropped)

    def _scope(self, batch: Batch, sender: Sender, scope: Any, now: float) -> None:
        service = sender.service
        failing: Iterable[tuple[int, bytes]] = ()
        if isinstance(scope, ReadScope):
            found: Scan = scan_read(scope, service.cells)
            failing = scope.with_events
        else:
            found = scan(list(scope.items), service.cells)
            if batch.exceptions:
                failing = enumerate(found.raws)
        raws = found.raws
        batch.received += len(raws)
        if found.rejected:
            rejected = found.rejected.total()
            batch.rejected = (batch.rejected or Counter()) + found.rejected
            batch.received += rejected
            batch.dropped += rejected
            batch.changed = True
            scope.items[:] = raws
            batch.emptied = batch.emptied or not raws
        marked, trace_ids = found.marked, found.trace_ids
        for index, raw in failing:
            if _EXCEPTION in raw:
                marked.add(trace_ids[index])
                batch.add_failure(raw, sender)
        for trace_id in marked:
            self._whole.put(trace_id, 0)
        share = service.traces
        share.received += len(raws)
        self._sampler.received += len(raws)
        if share.edge:
            forced = self._sample(batch, service, scope, found, now)
        else:
            forced = sum(map(marked.__contains__, trace_ids)) if marked else 0
        share.forced += forced
        share.population += (found.population() if found.unusual else len(raws)) - forced

    def _sample(self, batch: Batch, service: Service, scope: Any, found: Scan, now: float) -> int:
        """Cut a scope down to the spans to keep; return how many are kept whatever the probability is."""
        share, suffix = service.traces, service.suffix
        raws, trace_ids, unusual = found.raws, found.trace_ids, found.unusual
        if unusual:
            verdicts = self._judge_unusual(trace_ids, unusual, share, suffix, now)
        else:
            verdicts = self._judge(trace_ids, share, suffix, now)
        put = self._kept.put
        states: dict[int, bytes] = {}
        chosen = []
        forced = 0
        for index, verdict in verdicts:
            if verdict:
                put(trace_ids[index] + suffix, verdict)
            else:
                forced += 1
            if index in unusual:
                chosen.append(unusual[index].stamped(verdict))
                continue
            state = states.get(verdict)
            if state is None:
                state = states[verdict] = b"ot=th:" + encode(verdict).encode()
            chosen.append(found.stamped(index, state))
        batch.changed = True
        batch.dropped += len(raws) - len(chosen)
        if isinstance(scope, ReadScope):
            scope.keep(chosen)
        else:
            scope.items[:] = chosen
        if not chosen:
            batch.emptied = True
        return forced

    def _judge(self, trace_ids: list[bytes], share: Share, suffix: bytes, now: float) -> list[tuple[int, int]]:
        """The spans to keep, by index, each with the threshold that kept it: 0 for an error or a slow trace."""
        young, old = self._whole.generations()
        edge, current = share.edge, share.threshold
        if share.raised_until <= now:
            if not young and not old:
                return [(index, current) for index, trace_id in enumerate(trace_ids) if trace_id[9:] >= edge]
            return [
                (index, 0 if trace_id in young or trace_id in old else current)
                for index, trace_id in enumerate(trace_ids)
                if trace_id[9:] >= edge or trace_id in young or trace_id in old
            ]
        get = self._kept.get
        found = []
        for index, trace_id in enumerate(trace_ids):
            if trace_id in young or trace_id in old:
                found.append((index, 0))
                continue
            verdict = get(trace_id + suffix)
            if verdict is not None and verdict < current:
                found.append((index, verdict))
            elif trace_id[9:] >= edge:
                found.append((index, current))
        return found

    def _judge_unusual(
        self, trace_ids: list[bytes], unusual: dict[int, Unusual], share: Share, suffix: bytes, now: float
    ) -> list[tuple[int, int]]:
        """As `_judge`, where spans can bring a randomness of their own."""
        get = self._kept.get
        found = []
        for index, trace_id in enumerate(trace_ids):
            current = share.threshold
            if trace_id in self._whole:
                found.append((index, 0))
                continue
            if share.raised_until > now:
                current = min(current, get(trace_id + suffix) or current)
            span = unusual.get(index)
            randomness = randomness_of(trace_id) if span is None else span.effective_randomness()
            if randomness >= current:
                found.append((index, current))
        return found
