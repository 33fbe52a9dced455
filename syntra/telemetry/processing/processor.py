"""From a request to records: the stages in order, the lock around what they share, and what readers see of it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs

from syntra.telemetry.intake import BadData, CollectedLines, Request
from syntra.telemetry.processing.identity import Identity
from syntra.telemetry.processing.logs import LogBatch, LogStage
from syntra.telemetry.processing.metrics import FullBatch, check_metrics, check_profiles
from syntra.telemetry.processing.outcome import MAX_ERRORS, ErrorExtractor, Processed, rejection
from syntra.telemetry.processing.outlines import LogsOutline, TracesOutline, remove_empty
from syntra.telemetry.processing.pieces import MAX_ITEM_BYTES, PIECE_BYTES, pieces
from syntra.telemetry.processing.red import CellBudget
from syntra.telemetry.processing.red_metrics import add_service
from syntra.telemetry.processing.services import Service, Services
from syntra.telemetry.processing.spans import MAX_REJECTED
from syntra.telemetry.processing.traces import Batch, TraceStage, has_exception
from syntra.telemetry.processing.view import SamplingView, ServiceView, service_view
from syntra.telemetry.read_requests import Encoded, NotEncodable, ReadTraces
from syntra.telemetry.sampling.sampler import Sampler
from syntra.telemetry.sampling.verdicts import Verdicts
from syntra.telemetry.signals import Record, Signal
from syntra.utils.frozen import frozen

IDLE_TICKS = 40
"""Drains without a span after which a series is removed, and without an item after which a service is: 10 minutes."""

MAX_MESSAGES = 8
"""Messages about rejected items that the answer to a large request has."""

_REQUESTS: dict[Signal, Any] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.PROFILES: ExportProfilesServiceRequest,
}


@frozen
class ProcessingSettings:
    """How much is kept, and the bounds of what the pipeline remembers."""

    sampling_rate: float = 0.1
    """The floor of every service's probability while the target is exceeded."""
    target_spans_per_sec: float = 1000.0
    """Spans per second, of all services together, up to which everything is kept."""
    target_logs_per_sec: float = 10_000.0
    """As the target of spans, for log records."""
    window_secs: float = 60.0
    """How long late spans follow the verdict of their trace."""
    max_services: int = 500
    max_series: int = 1000
    """Pairs of span name and kind with metrics of their own; more are counted as `other` of their service."""
    max_verdicts: int = 32_768
    """Traces with a remembered verdict; about 150 bytes each."""


class Processor:
    """Processes requests of all signals. Every method may be called from any thread."""

    def __init__(
        self,
        settings: ProcessingSettings,
        errors: ErrorExtractor,
        *,
        clock: Callable[[], float] = time.monotonic,
        randomness: Callable[[], int] | None = None,
    ) -> None:
        """`randomness` returns 56 random bits, for log records without a trace."""
        now = clock()
        self._clock = clock
        self._errors = errors
        self._lock = threading.Lock()
        window = settings.window_secs
        self._traces = Sampler(settings.target_spans_per_sec, settings.sampling_rate, now, window_secs=window)
        self._logs = Sampler(settings.target_logs_per_sec, settings.sampling_rate, now, window_secs=window)
        self._budget = CellBudget(settings.max_series)
        self._services = Services(self._traces, self._logs, limit=settings.max_services, budget=self._budget)
        self._whole = Verdicts(settings.max_verdicts // 4, window)
        self._kept = Verdicts(settings.max_verdicts - settings.max_verdicts // 4, window)
        self._trace_stage = TraceStage(self._services, self._traces, self._whole, self._kept)
        draw = randomness if randomness is not None else lambda: random.getrandbits(56)
        self._log_stage = LogStage(self._services, self._logs, self._whole, draw)
        self._drained_ns: int | None = None
        self._drained_at = now

    def process(self, signal: Signal, request: Request, identity: Identity | None) -> Processed:
        """Take a request through all stages. Raises BadData if it cannot be decoded.

        What is kept is decoded completely before it is accepted, so that one sender's invalid bytes cannot spoil the
        batch that its data is sent on with. Sampled-out spans are decoded only as far as the decision needs.
        """
        if isinstance(request, ReadTraces):
            try:
                return self._process_read(request, identity)
            except NotEncodable:
                request = Encoded(request.decode())
        checked = isinstance(request, Encoded | Message)
        data = request if isinstance(request, bytes) else request.SerializeToString()
        if len(data) > PIECE_BYTES and signal.is_concatenable:
            return self._process_pieces(signal, data, identity, checked)
        return self._process_whole(signal, data, identity, checked)

    def _process_pieces(self, signal: Signal, data: bytes, identity: Identity | None, checked: bool) -> Processed:
        """A large request piece by piece: it takes no more memory than a small one, and others get their turn."""
        records: list[Record] = []
        received = rejected = sampled_out = oversized = 0
        messages: dict[str, None] = {}
        for piece in pieces(data):
            done = self._process_whole(signal, piece.data, identity, checked)
            records += done.records
            oversized += piece.oversized
            received += done.received
            rejected += done.rejected
            sampled_out += done.sampled_out
            if done.message and len(messages) < MAX_MESSAGES:
                messages[done.message] = None
            if rejected > MAX_REJECTED and rejected > received // 2:
                raise BadData(f"cannot accept the request: {done.message}; {rejected} of {received} so far")
        if oversized:
            messages[f"rejected {oversized}: larger than {MAX_ITEM_BYTES} bytes"] = None
        return Processed(
            records=records,
            received=received + oversized,
            rejected=rejected + oversized,
            message="; ".join(messages),
            sampled_out=sampled_out,
        )

    def _process_whole(self, signal: Signal, data: bytes, identity: Identity | None, checked: bool) -> Processed:
        if signal is Signal.TRACES:
            return self._process_traces(data, identity, checked)
        if signal is Signal.LOGS:
            return self._process_logs(data, identity, checked)
        return self._process_full(signal, data, identity)

    def _process_traces(self, data: bytes, identity: Identity | None, checked: bool) -> Processed:
        if not checked and not self._traces.shares.limited:
            _decode(ExportTraceServiceRequest, data)
            checked = True
        batch = Batch(_decode(TracesOutline, data), exceptions=has_exception(data))
        self._judge(batch, identity)
        kept = b""
        if batch.remaining():
            kept = batch.encoded(data)
            if not checked:
                _decode(ExportTraceServiceRequest, kept)
        return self._judged(batch, kept)

    def _process_read(self, request: ReadTraces, identity: Identity | None) -> Processed:
        """A request whose spans are not encoded yet. Raises NotEncodable."""
        if not self._traces.shares.limited:
            request.encode_spans()
        batch = Batch(request)
        self._judge(batch, identity)
        return self._judged(batch, batch.encoded() if batch.remaining() else b"")

    def _judge(self, batch: Batch, identity: Identity | None) -> None:
        now = self._clock()
        with self._lock:
            self._whole.age(now)
            self._kept.age(now)
            self._traces.tick(now)
            self._trace_stage.run(batch, identity, now)

    def _judged(self, batch: Batch, kept: bytes) -> Processed:
        remaining = batch.remaining()
        records = [Record(signal=Signal.TRACES, items=remaining, data=kept)] if remaining else []
        if batch.failures:
            records += self._errors.records(batch.errors(self._errors))
        return Processed(
            records=records,
            received=batch.received,
            rejected=batch.rejections(),
            message=rejection(batch.rejected) if batch.rejected else "",
            sampled_out=batch.dropped - batch.rejections(),
        )

    def _process_logs(self, data: bytes, identity: Identity | None, checked: bool) -> Processed:
        if not checked and not self._logs.shares.limited:
            _decode(ExportLogsServiceRequest, data)
            checked = True
        batch = LogBatch(_decode(LogsOutline, data), data)
        now = self._clock()
        with self._lock:
            self._whole.age(now)
            self._logs.tick(now)
            self._log_stage.run(batch, identity)
        remaining = batch.received - batch.sampled_out
        records: list[Record] = []
        if remaining:
            kept = data
            if batch.changed:
                remove_empty(batch.outline)
                kept = batch.outline.SerializeToString()
            if not checked:
                _decode(ExportLogsServiceRequest, kept)
            records.append(Record(signal=Signal.LOGS, items=remaining, data=kept))
        if batch.failures:
            records += self._errors.records(batch.errors(self._errors))
        return Processed(records=records, received=batch.received, sampled_out=batch.sampled_out)

    def collect_lines(self, lines: CollectedLines) -> Processed:
        """Take lines of a container through the stages that they need.

        They are not sampled: a service that floods is limited by itself, before. The agent made the bytes, so they are
        not decoded either. Raises BadData if they cannot be.
        """
        with self._lock:
            sender = self._services.sender(None, lines.resource)
            sender.service.received[Signal.LOGS.value] += lines.items
            sender.service.kept[Signal.LOGS.value] += lines.items
        records = [Record(signal=Signal.LOGS, items=lines.items, data=lines.request)]
        if lines.failures:
            found = _decode(ScopeLogs, lines.failures).log_records[:MAX_ERRORS]
            errors = [error for one in found if (error := self._errors.from_log(one, sender.attributes())) is not None]
            records += self._errors.records(errors)
        return Processed(records=records, received=lines.items)

    def _process_full(self, signal: Signal, data: bytes, identity: Identity | None) -> Processed:
        batch = FullBatch(_decode(_REQUESTS[signal], data))
        check = check_metrics if signal is Signal.METRICS else check_profiles
        with self._lock:
            check(batch, self._services, identity)
        rejected = batch.rejected.total()
        remaining = batch.received - rejected
        records = [Record(signal=signal, items=remaining, data=batch.encoded(data))] if remaining else []
        return Processed(records=records, received=batch.received, rejected=rejected, message=rejection(batch.rejected))

    def count_collected(self, signal: Signal, items: int, resource: bytes) -> None:
        """Count what the agent collected of the service with this encoded resource."""
        with self._lock:
            service = self._services.sender(None, resource).service
            service.received[signal.value] += items
            service.kept[signal.value] += items

    def drain(self, now_ns: int) -> Record | None:
        """The RED metrics that have changed since the last call, as a metrics record. Call it every 15 s.

        It also learns which durations are slow and forgets idle services. `now_ns` is wall-clock time.
        """
        previous = now_ns if self._drained_ns is None else self._drained_ns
        self._drained_ns = now_ns
        now = self._clock()
        elapsed = max(now - self._drained_at, 1e-3)
        self._drained_at = now
        request = ExportMetricsServiceRequest()
        points = 0
        for service in self._known():
            # One service at a time, so that no request waits for all of them.
            with self._lock:
                series = list(service.watched.changed(now_ns, previous, IDLE_TICKS))
                service.cells.learn()
                service.recent.update(service.cells, elapsed)
                service.count_logs(elapsed)
            points += add_service(request, service.resource, series, now_ns)
        with self._lock:
            self._services.age(IDLE_TICKS)
        if not points:
            return None
        return Record(signal=Signal.METRICS, items=points, data=request.SerializeToString())

    def services(self) -> list[ServiceView]:
        """Every service, as `telemetry status` and `top` show it; rates are of the time between the last two drains."""
        return [service_view(service) for service in self._known()]

    def sampling(self) -> SamplingView:
        """The state of sampling as a whole."""
        shares = self._traces.shares
        return SamplingView(
            limited=shares.limited,
            floor=shares.floor,
            probability=shares.fallback,
            logs_limited=self._logs.shares.limited,
            logs_probability=self._logs.shares.fallback,
            verdicts=len(self._whole) + len(self._kept),
            verdicts_evicted=self._whole.evicted + self._kept.evicted,
            series=self._budget.used,
            series_overflowed=self._budget.overflowed,
        )

    def _known(self) -> list[Service]:
        with self._lock:
            return list(self._services.known.values())


def _decode(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise BadData("cannot decode the request: it is not valid protobuf of this signal") from error
