"""Logs: identity and sampling of a request. Pure, and not safe under threads: the processor holds a lock.

Everything is kept until the agent's logs are over their own target. Then records of level error and above are kept,
and records of traces that are kept whole. The others are kept by a threshold: by their trace's randomness, or by random
numbers if they have no trace. A kept record carries `sampling.threshold`, and `sampling.randomness` if it has no trace.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from syntra.telemetry.intake import BadData
from syntra.telemetry.processing.identity import Identity
from syntra.telemetry.processing.outcome import MAX_ERRORS, ErrorExtractor
from syntra.telemetry.processing.outlines import keep
from syntra.telemetry.processing.services import Sender, Services
from syntra.telemetry.sampling.sampler import Sampler, Share
from syntra.telemetry.sampling.threshold import adjusted_count, encode, parse_threshold, randomness_of
from syntra.telemetry.sampling.verdicts import Verdicts
from syntra.telemetry.signals import Signal

_LOGS = Signal.LOGS.value

THRESHOLD = "sampling.threshold"
RANDOMNESS = "sampling.randomness"
ERROR = 17
"""SEVERITY_NUMBER_ERROR; everything from here on is kept."""

_ERROR_WORDS = frozenset({b"ERROR", b"ERR", b"CRITICAL", b"CRIT", b"FATAL", b"ALERT", b"EMERG", b"EMERGENCY", b"PANIC"})
_COLUMNS = attrgetter("severity", "severity_text", "trace_id")
_NO_TRACE = bytes(16)
_EXCEPTION = b"exception."


class LogBatch:
    """One logs request on its way."""

    def __init__(self, outline: Any, request: bytes) -> None:
        self.outline = outline
        self.exceptions = _EXCEPTION in request
        self.sampled_upstream = THRESHOLD.encode() in request
        self.changed = False
        self.received = 0
        self.sampled_out = 0
        self.failures: list[tuple[bytes, Sender]] = []
        """Encoded records with attributes of an exception, each with its sender."""

    def errors(self, extractor: ErrorExtractor) -> list[dict[str, Any]]:
        """The errors of the remembered records. Raises BadData for a record that cannot be decoded."""
        found = []
        for encoded, sender in self.failures:
            try:
                record = LogRecord.FromString(encoded)
            except DecodeError as error:
                raise BadData("cannot decode a log record: it is not valid protobuf", "resource_logs") from error
            taken = extractor.from_log(record, sender.attributes())
            if taken is not None:
                found.append(taken)
        return found


class LogStage:
    """Judges the log records of requests. `random` returns 56 random bits."""

    def __init__(self, services: Services, sampler: Sampler, whole: Verdicts, random: Callable[[], int]) -> None:
        self._services = services
        self._sampler = sampler
        self._whole = whole
        self._random = random

    def run(self, batch: LogBatch, identity: Identity | None) -> None:
        """Take a batch through identity and sampling. Raises BadData."""
        senders = self._services.senders(identity)
        for resource_logs in batch.outline.resources:
            parts = resource_logs.resource
            encoded = parts[0] if len(parts) == 1 else b"".join(parts)
            sender = senders.get(encoded) or self._services.sender(identity, encoded)
            if sender.encoded != encoded:
                parts[:] = [sender.encoded]
                batch.changed = True
            before = batch.received, batch.sampled_out
            for scope in resource_logs.scopes:
                if scope.items:
                    self._scope(batch, sender, scope.items)
            service = sender.service
            received = batch.received - before[0]
            service.received[_LOGS] += received
            service.kept[_LOGS] += received - (batch.sampled_out - before[1])

    def _scope(self, batch: LogBatch, sender: Sender, items: Any) -> None:
        rows = list(map(_COLUMNS, items))
        severe = [
            severity >= ERROR or (not severity and bool(text) and text.upper() in _ERROR_WORDS)
            for severity, text, _ in rows
        ]
        if batch.exceptions:
            for record in items:
                if len(batch.failures) < MAX_ERRORS and any(_EXCEPTION in one for one in record.attributes):
                    batch.failures.append((record.SerializeToString(), sender))
        share = sender.service.logs
        total = len(rows)
        batch.received += total
        self._sampler.received += total
        share.received += total
        if not share.edge:
            forced = sum(severe)
            share.forced += forced
            share.population += total - forced
            return
        chosen = []
        for record, is_severe, (_, _, trace_id) in zip(items, severe, rows, strict=True):
            if self._judge(record, is_severe, trace_id, share, batch.sampled_upstream):
                chosen.append(record)
        batch.sampled_out += total - len(chosen)
        batch.changed = True
        keep(items, chosen)

    def _judge(self, record: Any, is_severe: bool, trace_id: bytes, share: Share, sampled_upstream: bool) -> bool:
        """Whether to keep a record; one that is kept gets its attributes."""
        upstream, randomness = _upstream(record) if sampled_upstream else (None, None)
        has_trace = len(trace_id) == 16 and trace_id != _NO_TRACE
        drawn = False
        if randomness is None:
            randomness = randomness_of(trace_id) if has_trace else self._random()
            drawn = not has_trace
        if upstream is not None and upstream > randomness and not drawn:
            upstream = None
        if is_severe or (has_trace and trace_id in self._whole):
            share.forced += 1
            _stamp(record, upstream or 0, None)
            return True
        share.population += adjusted_count(upstream or 0)
        if drawn and upstream:
            # The randomness that the earlier stage used is not known: it was not below that stage's threshold.
            randomness = upstream + randomness * (2**56 - upstream) // 2**56
        effective = max(upstream or 0, share.threshold)
        if randomness < effective:
            return False
        _stamp(record, effective, randomness if drawn else None)
        return True


def _upstream(record: Any) -> tuple[int | None, int | None]:
    """Threshold and randomness that a record's attributes give, each None if they do not."""
    found: dict[str, str] = {}
    for encoded in record.attributes:
        if b"sampling." in encoded:
            attribute = _decoded(encoded)
            found.setdefault(attribute.key, attribute.value.string_value)
    randomness = found.get(RANDOMNESS, "")
    valid = len(randomness) == 14 and parse_threshold(randomness) is not None
    return parse_threshold(found.get(THRESHOLD, "")), int(randomness, 16) if valid else None


def _stamp(record: Any, threshold: int, randomness: int | None) -> None:
    """Set the attributes, instead of earlier ones."""
    given = {THRESHOLD: encode(threshold)}
    if randomness is not None:
        given[RANDOMNESS] = format(randomness, "014x")
    stay = [one for one in record.attributes if b"sampling." not in one or _decoded(one).key not in given]
    if len(stay) != len(record.attributes):
        record.attributes[:] = stay
    for key, value in given.items():
        attribute = KeyValue(key=key)
        attribute.value.string_value = value
        record.attributes.append(attribute.SerializeToString())


def _decoded(encoded: bytes) -> KeyValue:
    try:
        return KeyValue.FromString(encoded)
    except DecodeError as error:
        raise BadData("cannot decode an attribute: it is not valid protobuf", "resource_logs") from error
