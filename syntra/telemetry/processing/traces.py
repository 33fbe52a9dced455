"""Traces: validation, identity, RED metrics and sampling of a request.

The loop over spans is the largest part of a span's cost. It works on columns: one `attrgetter` for each span, then
C-level functions over all spans of a scope. Pure, and not safe under threads: the processor holds a lock.
"""

from __future__ import annotations

from collections import Counter
from math import log2
from operator import attrgetter, sub
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from syntra.telemetry.intake import BadData
from syntra.telemetry.processing.identity import Identity
from syntra.telemetry.processing.outcome import MAX_ERRORS, ErrorExtractor
from syntra.telemetry.processing.outlines import keep, remove_empty
from syntra.telemetry.processing.red import ERRORS, LIMIT, SUM
from syntra.telemetry.processing.services import Sender, Service, Services
from syntra.telemetry.sampling import threshold
from syntra.telemetry.sampling.latency import OFFSET, PER_DOUBLING
from syntra.telemetry.sampling.sampler import Sampler, Share
from syntra.telemetry.sampling.threshold import Sampled, adjusted_count, encode, randomness_of
from syntra.telemetry.sampling.verdicts import Verdicts
from syntra.telemetry.signals import Signal

_COLUMNS = attrgetter("trace_id", "span_id", "trace_state", "name", "kind", "start", "end", "status")
_NO_TRACE = bytes(16)
_NO_SPAN = bytes(8)
_OK = b"\x18\x01"
_ERROR = b"\x18\x02"
_UNSAMPLED = Sampled(threshold=None, randomness=None)

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

    def __init__(self, outline: Any, *, exceptions: bool) -> None:
        self.outline = outline
        self.exceptions = exceptions
        self.changed = False
        self.received = 0
        self.sampled_out = 0
        self.rejected: Counter[str] = Counter()
        self.failures: list[tuple[bytes, Sender]] = []
        """Encoded spans with an error, each with its sender."""

    def add_failure(self, span: Any, sender: Sender) -> None:
        """Remember a span for the errors, up to the limit."""
        if len(self.failures) < MAX_ERRORS:
            self.failures.append((span.SerializeToString(), sender))

    def remaining(self) -> int:
        """The number of spans to keep, once the batch has been through the stage."""
        return self.received - self.sampled_out - self.rejected.total()

    def encoded(self, request: bytes) -> bytes:
        """The kept spans: the request itself if nothing has changed."""
        if not self.changed:
            return request
        return bytes(self.outline.SerializeToString()) if remove_empty(self.outline) else b""

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
            before = batch.received, batch.sampled_out + batch.rejected.total()
            for scope in resource_spans.scopes:
                if scope.items:
                    self._scope(batch, sender, scope.items, now)
            service = sender.service
            received = batch.received - before[0]
            service.received[Signal.TRACES] += received
            service.kept[Signal.TRACES] += received - (batch.sampled_out + batch.rejected.total() - before[1])

    def _scope(self, batch: Batch, sender: Sender, items: Any, now: float) -> None:
        rows = list(map(_COLUMNS, items))
        batch.received += len(rows)
        trace_ids, span_ids, states, names, kinds, starts, ends, statuses = zip(*rows, strict=True)
        if (
            {*map(len, trace_ids)} != {16}
            or {*map(len, span_ids)} != {8}
            or _NO_TRACE in trace_ids
            or _NO_SPAN in span_ids
        ):
            rows = self._reject(batch, items, rows)
            if not rows:
                return
            trace_ids, span_ids, states, names, kinds, starts, ends, statuses = zip(*rows, strict=True)
        durations = list(map(sub, ends, starts))
        if not all(starts):
            durations = [duration if start else 0 for duration, start in zip(durations, starts, strict=True)]
        service = sender.service
        sampled = self._upstream(states, trace_ids) if any(states) else None
        marked: set[bytes] = set()
        if any(statuses):
            for index, status in enumerate(statuses):
                if status and status != _OK and _is_error(status):
                    marked.add(trace_ids[index])
                    weight = 1.0 if sampled is None else adjusted_count(sampled[index].threshold or 0)
                    service.cells[names[index], kinds[index]][ERRORS] += weight
                    batch.add_failure(items[index], sender)
        if batch.exceptions:
            for index, span in enumerate(items):
                if any(_EXCEPTION in event for event in span.events):
                    marked.add(trace_ids[index])
                    # A span with the status ERROR as well is in the failures already.
                    if not statuses[index] or statuses[index] == _OK:
                        batch.add_failure(span, sender)
        if sampled is None:
            count_red(service, names, kinds, durations, trace_ids, marked)
            population = float(len(rows))
        else:
            population = count_red_weighted(service, names, kinds, durations, trace_ids, marked, sampled)
        for trace_id in marked:
            self._whole.put(trace_id, 0)
        self._sample(batch, service, items, trace_ids, sampled, states, marked, population, now)

    def _reject(self, batch: Batch, items: Any, rows: list[Any]) -> list[Any]:
        """Remove spans without a valid id, as the specification demands; return the rows that stay."""
        chosen = []
        stay = []
        for row, span in zip(rows, items, strict=True):
            if len(row[0]) != 16 or row[0] == _NO_TRACE:
                batch.rejected["a span's trace id is not 16 bytes other than zero"] += 1
            elif len(row[1]) != 8 or row[1] == _NO_SPAN:
                batch.rejected["a span's span id is not 8 bytes other than zero"] += 1
            else:
                chosen.append(span)
                stay.append(row)
        keep(items, chosen)
        batch.changed = True
        return stay

    def _upstream(self, states: tuple[bytes, ...], trace_ids: tuple[bytes, ...]) -> list[Sampled]:
        """What each span's tracestate says. A `th` above the span's own randomness is inconsistent and unknown."""
        found = []
        for state, trace_id in zip(states, trace_ids, strict=True):
            if b"ot=" not in state:
                found.append(_UNSAMPLED)
                continue
            said = threshold.read(state.decode("utf-8", "replace"))
            randomness = randomness_of(trace_id) if said.randomness is None else said.randomness
            if said.threshold is not None and said.threshold > randomness:
                said = Sampled(threshold=None, randomness=said.randomness)
            found.append(said)
        return found

    def _sample(
        self,
        batch: Batch,
        service: Service,
        items: Any,
        trace_ids: tuple[bytes, ...],
        sampled: list[Sampled] | None,
        states: tuple[bytes, ...],
        marked: set[bytes],
        population: float,
        now: float,
    ) -> None:
        share = service.traces
        total = len(trace_ids)
        share.received += total
        self._sampler.received += total
        if not share.edge:
            forced = sum(map(marked.__contains__, trace_ids)) if marked else 0
            share.forced += forced
            share.population += population - forced
            return
        if sampled is None:
            verdicts = self._judge(trace_ids, share, service.suffix, now)
        else:
            verdicts = self._judge_sampled(trace_ids, sampled, share, service.suffix, now)
        put = self._kept.put
        suffix = service.suffix
        stamps = {share.threshold: b"ot=th:" + encode(share.threshold).encode(), 0: b"ot=th:0"}
        chosen = []
        forced = 0
        for index, verdict in verdicts:
            span = items[index]
            if not verdict:
                forced += 1
            else:
                put(trace_ids[index] + suffix, verdict)
            if states[index]:
                span.trace_state = _stamped(states[index], verdict, None if sampled is None else sampled[index])
            else:
                span.trace_state = stamps.get(verdict) or b"ot=th:" + encode(verdict).encode()
            chosen.append(span)
        batch.changed = True
        batch.sampled_out += total - len(chosen)
        keep(items, chosen)
        share.forced += forced
        share.population += population - forced

    def _judge(self, trace_ids: tuple[bytes, ...], share: Share, suffix: bytes, now: float) -> list[tuple[int, int]]:
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

    def _judge_sampled(
        self, trace_ids: tuple[bytes, ...], sampled: list[Sampled], share: Share, suffix: bytes, now: float
    ) -> list[tuple[int, int]]:
        """As `_judge`, where spans bring a randomness of their own."""
        get = self._kept.get
        found = []
        for index, (trace_id, said) in enumerate(zip(trace_ids, sampled, strict=True)):
            current = share.threshold
            if trace_id in self._whole:
                found.append((index, 0))
                continue
            if share.raised_until > now:
                current = min(current, get(trace_id + suffix) or current)
            randomness = randomness_of(trace_id) if said.randomness is None else said.randomness
            if randomness >= current:
                found.append((index, current))
        return found


def _stamped(state: bytes, verdict: int, said: Sampled | None) -> bytes:
    """The tracestate of a kept span: the higher of its own threshold and the verdict's; a stage never lowers one.

    A span that is kept whatever the probability was, and that says nothing valid of sampling upstream, gets `th:0`.
    """
    upstream = said.threshold if said is not None else None
    return threshold.write(state.decode("utf-8", "replace"), max(verdict, upstream or 0)).encode()


def _is_error(status: bytes) -> bool:
    if status == _ERROR:
        return True
    try:
        return Status.FromString(status).code == Status.STATUS_CODE_ERROR
    except DecodeError as error:
        raise BadData("cannot decode a span's status: it is not valid protobuf", "status") from error


def count_red(
    service: Service,
    names: tuple[bytes, ...],
    kinds: tuple[int, ...],
    durations: list[int],
    trace_ids: tuple[bytes, ...],
    marked: set[bytes],
) -> None:
    """Count spans in their cells, and mark the traces of slow ones."""
    # `zip` without `strict`: the columns have one length, and the check costs time for each span.
    cells = map(service.cells.__getitem__, zip(names, kinds))  # noqa: B905
    offset, doubling, total, limit = OFFSET, PER_DOUBLING, SUM, LIMIT
    for cell, duration, trace_id in zip(cells, durations, trace_ids):  # noqa: B905
        if duration > 0:
            cell[total] += duration
            cell[int(log2(duration) * doubling + offset)] += 1
            if duration > cell[limit]:
                marked.add(trace_id)
        else:
            cell[0] += 1


def count_red_weighted(
    service: Service,
    names: tuple[bytes, ...],
    kinds: tuple[int, ...],
    durations: list[int],
    trace_ids: tuple[bytes, ...],
    marked: set[bytes],
    sampled: list[Sampled],
) -> float:
    """As `count_red` for spans that were sampled upstream; return how many spans they represent."""
    population = 0.0
    cells = service.cells
    for name, kind, duration, trace_id, said in zip(names, kinds, durations, trace_ids, sampled, strict=True):
        weight = adjusted_count(said.threshold or 0)
        population += weight
        cells.count((name, kind), duration, weight)
        if duration > cells[name, kind][LIMIT]:
            marked.add(trace_id)
    return population
