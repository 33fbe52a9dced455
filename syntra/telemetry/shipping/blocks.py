"""Opens, joins and halves the blocks of a batch.

A block is one zstd frame of encoded Export…ServiceRequests. Only destinations that cannot take zstd, or whose limit a
batch exceeds, open one.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from typing import Any

import zstandard
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from syntra.telemetry.shipping.destination import Batch, Part
from syntra.telemetry.signals import Signal

RAW_MAX = 256 * 1024 * 1024
"""A block never becomes larger than this; a record of the ring is much smaller."""
GZIP_LEVEL = 1
"""On spans, level 6 takes three times as long for a tenth less."""
ZSTD_LEVEL = 1

_REQUESTS: dict[Signal, tuple[type[Message], str, str, str]] = {
    Signal.TRACES: (ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans"),
    Signal.METRICS: (ExportMetricsServiceRequest, "resource_metrics", "scope_metrics", "metrics"),
    Signal.LOGS: (ExportLogsServiceRequest, "resource_logs", "scope_logs", "log_records"),
}
_local = threading.local()


class BadBlock(Exception):
    """A block of the ring cannot be opened; the text says why."""


def opened(block: bytes) -> bytes:
    """The requests in a block. Raises BadBlock."""
    try:
        decompressor: zstandard.ZstdDecompressor = _local.decompressor
    except AttributeError:
        # One for each thread: it must not be used by two at the same time.
        decompressor = _local.decompressor = zstandard.ZstdDecompressor()
    try:
        return decompressor.decompress(block, max_output_size=RAW_MAX)
    except zstandard.ZstdError as exc:
        raise BadBlock(str(exc)) from exc


def joined(batch: Batch) -> bytes:
    """All requests of the batch as one. Raises BadBlock."""
    return b"".join(map(opened, batch.blocks))


def gzipped(batch: Batch) -> bytes:
    """All requests of the batch as one, compressed with gzip, which takes milliseconds. Raises BadBlock."""
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)
    parts = [compressor.compress(opened(block)) for block in batch.blocks]
    parts.append(compressor.flush())
    return b"".join(parts)


def requests_of(batch: Batch) -> tuple[Batch, ...]:
    """The batch as it may be sent: whole, or one part for each request where requests cannot be joined."""
    if batch.signal.is_concatenable or len(batch.blocks) == 1:
        return (batch,)
    each = batch.items // len(batch.blocks)
    last = batch.items - each * (len(batch.blocks) - 1)
    items = [each] * (len(batch.blocks) - 1) + [last]
    return tuple(
        Part(signal=batch.signal, blocks=(block,), items=count, raw_bytes=len(opened(block)))
        for block, count in zip(batch.blocks, items, strict=True)
    )


def halved(batch: Batch) -> tuple[Part, Part] | None:
    """Two parts of about the same size: by blocks, or by records when it is one block; None for a single record.

    Raises BadBlock.
    """
    if not batch.signal.is_concatenable or batch.signal not in _REQUESTS:
        return None
    if len(batch.blocks) > 1:
        middle = len(batch.blocks) // 2
        return _counted(batch.signal, batch.blocks[:middle]), _counted(batch.signal, batch.blocks[middle:])
    return _halved_by_records(batch.signal, opened(batch.blocks[0]))


def _counted(signal: Signal, blocks: tuple[bytes, ...]) -> Part:
    raw = [opened(block) for block in blocks]
    items = sum(_items(signal, _parsed(signal, each)) for each in raw)
    return Part(signal=signal, blocks=blocks, items=items, raw_bytes=sum(map(len, raw)))


def _halved_by_records(signal: Signal, raw: bytes) -> tuple[Part, Part] | None:
    request = _parsed(signal, raw)
    sizes = [record.ByteSize() for _, _, record in _records(signal, request)]
    if len(sizes) < 2:
        return None
    half, passed, first = sum(sizes) // 2, 0, 0
    while first < len(sizes) - 1 and (first == 0 or passed + sizes[first] <= half):
        passed += sizes[first]
        first += 1
    return _part(signal, _copied(signal, request, 0, first)), _part(signal, _copied(signal, request, first, len(sizes)))


def _copied(signal: Signal, request: Any, start: int, end: int) -> Message:
    """A request with the records from `start` to `end`, each under its resource and scope."""
    kind, resources, scopes, records = _REQUESTS[signal]
    copy: Any = kind()
    last_resource = last_scope = None
    for number, (resource, scope, record) in enumerate(_records(signal, request)):
        if not start <= number < end:
            continue
        if resource is not last_resource:
            new_resource = getattr(copy, resources).add()
            new_resource.resource.CopyFrom(resource.resource)
            new_resource.schema_url = resource.schema_url
            last_resource, last_scope = resource, None
        if scope is not last_scope:
            new_scope = getattr(new_resource, scopes).add()
            new_scope.scope.CopyFrom(scope.scope)
            new_scope.schema_url = scope.schema_url
            last_scope = scope
        getattr(new_scope, records).append(record)
    whole: Message = copy
    return whole


def _records(signal: Signal, request: Any) -> Iterator[tuple[Any, Any, Any]]:
    _, resources, scopes, records = _REQUESTS[signal]
    for resource in getattr(request, resources):
        for scope in getattr(resource, scopes):
            for record in getattr(scope, records):
                yield resource, scope, record


def _items(signal: Signal, request: Message) -> int:
    if signal is not Signal.METRICS:
        return sum(1 for _ in _records(signal, request))
    return sum(_data_points(metric) for _, _, metric in _records(signal, request))


def _data_points(metric: Any) -> int:
    kind = metric.WhichOneof("data")
    return len(getattr(metric, kind).data_points) if kind else 0


def _part(signal: Signal, request: Message) -> Part:
    raw = request.SerializeToString()
    block = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(raw)
    return Part(signal=signal, blocks=(block,), items=_items(signal, request), raw_bytes=len(raw))


def _parsed(signal: Signal, raw: bytes) -> Message:
    request = _REQUESTS[signal][0]()
    try:
        request.ParseFromString(raw)
    except DecodeError as exc:
        raise BadBlock(str(exc)) from exc
    return request
