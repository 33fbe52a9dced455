"""Traces: validation, identity, RED metrics and sampling of a request.

The loop over spans is the largest part of a span's cost. It works on columns, with C-level functions over all spans of
a scope where there is one. Pure, and not safe under threads: the processor holds a lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log2
from operator import sub
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from syntra.telemetry.intake import BadData
from syntra.telemetry.processing.identity import Identity
from syntra.telemetry.processing.outcome import MAX_ERRORS, ErrorExtractor
from syntra.telemetry.processing.outlines import remove_empty
from syntra.telemetry.processing.red import ERRORS, LIMIT, SUM
from syntra.telemetry.processing.services import Sender, Service, Services
from syntra.telemetry.processing.spans import NO_SPAN, NO_TRACE, Columns, columns
from syntra.telemetry.sampling import threshold
from syntra.telemetry.sampling.latency import OFFSET, PER_DOUBLING
from syntra.telemetry.sampling.sampler import Sampler, Share
from syntra.telemetry.sampling.threshold import Sampled, adjusted_count, encode, randomness_of
from syntra.telemetry.sampling.verdicts import Verdicts
from syntra.telemetry.signals import Signal

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

    def add_failure(self, raw: bytes, sender: Sender) -> None:
        """Remember a span for the errors, up to the limit."""
        if len(self.failures) < MAX_ERRORS:
            self.failures.append((raw, sender))

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
        raws = list(items)
        batch.received += len(raws)
        found = columns(raws)
        if (
            {*map(len, found.trace_ids)} != {16}
            or {*map(len, found.span_ids)} != {8}
            or NO_TRACE in found.trace_ids
            or NO_SPAN in found.span_ids
        ):
            raws = _without_invalid(batch, raws, found)
            items[:] = raws
            batch.changed = True
            if not raws:
                return
            found = columns(raws)
        trace_ids = found.trace_ids
        durations = list(map(sub, found.ends, found.starts))
        if not all(found.starts):
            durations = [duration if start else 0 for duration, start in zip(durations, found.starts, strict=True)]
        service = sender.service
        sampled = None if found.states is None else _upstream(found.states, trace_ids)
        marked: set[bytes] = set()
        for index in found.errors:
            marked.add(trace_ids[index])
            weight = 1.0 if sampled is None else adjusted_count(sampled[index].threshold or 0)
            service.cells[found.keys[index]][ERRORS] += weight
            batch.add_failure(raws[index], sender)
        if batch.exceptions:
            failed = set(found.errors)
            for index, raw in enumerate(raws):
                if _EXCEPTION in raw:
                    marked.add(trace_ids[index])
                    if index not in failed:
                        batch.add_failure(raw, sender)
        if sampled is None:
            count_red(service, found.keys, durations, trace_ids, marked)
            population = float(len(raws))
        else:
            population = count_red_weighted(service, found.keys, durations, trace_ids, marked, sampled)
        for trace_id in marked:
            self._whole.put(trace_id, 0)
        share = service.traces
        share.received += len(raws)
        self._sampler.received += len(raws)
        if share.edge:
            forced = self._sample(batch, service, items, raws, found, sampled, now)
        else:
            forced = sum(map(marked.__contains__, trace_ids)) if marked else 0
        share.forced += forced
        share.population += population - forced

    def _sample(
        self,
        batch: Batch,
        service: Service,
        items: Any,
        raws: list[bytes],
        found: Columns,
        sampled: list[Sampled] | None,
        now: float,
    ) -> int:
        """Cut a scope down to the spans to keep; return how many are kept whatever the probability is."""
        share, suffix = service.traces, service.suffix
        trace_ids, states = found.trace_ids, found.states
        if sampled is None:
            verdicts = self._judge(trace_ids, share, suffix, now)
        else:
            verdicts = self._judge_sampled(trace_ids, sampled, share, suffix, now)
        put, stamped = self._kept.put, found.stamped
        stamps: dict[int, bytes] = {}
        chosen = []
        forced = 0
        for index, verdict in verdicts:
            if verdict:
                put(trace_ids[index] + suffix, verdict)
            else:
                forced += 1
            if states is not None and sampled is not None and states[index]:
                state = _stamp(states[index], verdict, sampled[index])
            else:
                known = stamps.get(verdict)
                state = known or stamps.setdefault(verdict, b"ot=th:" + encode(verdict).encode())
            chosen.append(stamped(raws[index], index, state))
        batch.changed = True
        batch.sampled_out += len(raws) - len(chosen)
        items[:] = chosen
        return forced

    def _judge(self, trace_ids: Sequence[bytes], share: Share, suffix: bytes, now: float) -> list[tuple[int, int]]:
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
        self, trace_ids: Sequence[bytes], sampled: list[Sampled], share: Share, suffix: bytes, now: float
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


def _stamp(state: bytes, verdict: int, said: Sampled) -> bytes:
    """The tracestate of a kept span: the higher of its own threshold and the verdict's; a stage never lowers one.

    A span that is kept whatever the probability was, and that says nothing valid of sampling upstream, gets `th:0`.
    """
    return threshold.write(state.decode("utf-8", "replace"), max(verdict, said.threshold or 0)).encode()


def _without_invalid(batch: Batch, raws: list[bytes], found: Columns) -> list[bytes]:
    """The spans that have valid ids; the specification demands that the others are rejected."""
    stay = []
    for raw, trace_id, span_id in zip(raws, found.trace_ids, found.span_ids, strict=True):
        if len(trace_id) != 16 or trace_id == NO_TRACE:
            batch.rejected["a span's trace id is not 16 bytes other than zero"] += 1
        elif len(span_id) != 8 or span_id == NO_SPAN:
            batch.rejected["a span's span id is not 8 bytes other than zero"] += 1
        else:
            stay.append(raw)
    return stay


def _upstream(states: Sequence[bytes], trace_ids: Sequence[bytes]) -> list[Sampled]:
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


def count_red(
    service: Service,
    keys: Sequence[bytes],
    durations: list[int],
    trace_ids: Sequence[bytes],
    marked: set[bytes],
) -> None:
    """Count spans in their cells, and mark the traces of slow ones."""
    offset, doubling, total, limit = OFFSET, PER_DOUBLING, SUM, LIMIT
    cells = map(service.cells.__getitem__, keys)
    for cell, duration, trace_id in zip(cells, durations, trace_ids, strict=True):
        if duration > 0:
            cell[total] += duration
            cell[int(log2(duration) * doubling + offset)] += 1
            if duration > cell[limit]:
                marked.add(trace_id)
        else:
            cell[0] += 1


def count_red_weighted(
    service: Service,
    keys: Sequence[bytes],
    durations: list[int],
    trace_ids: Sequence[bytes],
    marked: set[bytes],
    sampled: list[Sampled],
) -> float:
    """As `count_red` for spans that were sampled upstream; return how many spans they represent."""
    population = 0.0
    cells = service.cells
    for key, duration, trace_id, said in zip(keys, durations, trace_ids, sampled, strict=True):
        weight = adjusted_count(said.threshold or 0)
        population += weight
        cells.count(key, duration, weight)
        if duration > cells[key][LIMIT]:
            marked.add(trace_id)
    return population
