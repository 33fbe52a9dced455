"""What a block of OTLP holds: services, times and the number of items. Pure."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import DecodeError
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from syntra.controlplane.telemetry.blocks import Contents, Kind, Tally
from syntra.controlplane.telemetry.otlp_parts import MOST_ITEM_BYTES, MOST_NODES, parts
from syntra.model.errors import InvalidField

_SERVICE_KEYS = ("syntra.service.id", "service.name")


def index(kind: Kind, request: bytes, received_ns: int) -> Contents:
    """Read a request for traces, metrics or logs. Raises InvalidField when it is not one."""
    times = _TIMES[kind]
    tally = Tally(received_ns)
    try:
        for part in parts(request):
            found: list[int] = []
            for item in part.items:
                found += times(item) if len(item) <= MOST_ITEM_BYTES else (received_ns,)
            tally.add(found, services(part.resource))
            if tally.items > MOST_NODES:
                raise InvalidField("data", f"has more than {MOST_NODES} items")
    except DecodeError as exc:
        raise InvalidField("data", "is not an OTLP request") from exc
    return tally.contents()


def services(resource: bytes) -> frozenset[str]:
    """The names under which the items of a resource are found: its service's id, and its name. Raises DecodeError."""
    return frozenset(
        attribute.value.string_value
        for attribute in Resource.FromString(resource).attributes
        if attribute.key in _SERVICE_KEYS and attribute.value.string_value
    )


def _span(encoded: memoryview) -> tuple[int, ...]:
    return (Span.FromString(bytes(encoded)).start_time_unix_nano,)


def _log_record(encoded: memoryview) -> tuple[int, ...]:
    record = LogRecord.FromString(bytes(encoded))
    return (record.time_unix_nano or record.observed_time_unix_nano,)


def _metric(encoded: memoryview) -> tuple[int, ...]:
    metric = Metric.FromString(bytes(encoded))
    data = metric.WhichOneof("data")
    points = getattr(metric, data).data_points if data is not None else ()
    return tuple([point.time_unix_nano for point in points])


# The times of the items that one encoded message holds.
_TIMES: dict[Kind, Callable[[memoryview], tuple[int, ...]]] = {
    Kind.TRACES: _span,
    Kind.LOGS: _log_record,
    Kind.METRICS: _metric,
}
