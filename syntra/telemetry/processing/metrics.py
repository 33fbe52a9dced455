"""Metrics and profiles: validation and identity of a request; neither is ever sampled. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_UNSPECIFIED, Metric

from syntra.telemetry.processing.identity import Identity, identified
from syntra.telemetry.processing.services import Service, Services
from syntra.telemetry.signals import Signal

_METRICS = Signal.METRICS.value
_PROFILES = Signal.PROFILES.value

_NO_TIME = "a data point's time is 0"
_NO_TEMPORALITY = "a metric's aggregation temporality is unspecified"


class FullBatch:
    """One request for metrics or profiles on its way, decoded."""

    def __init__(self, message: Any) -> None:
        self.message = message
        self.changed = False
        self.received = 0
        self.rejected: Counter[str] = Counter()

    def encoded(self, request: bytes) -> bytes:
        """What to keep: the request itself if nothing has changed."""
        return bytes(self.message.SerializeToString()) if self.changed else request


def check_metrics(batch: FullBatch, services: Services, identity: Identity | None) -> None:
    """Count data points, reject those without a time or with an unspecified temporality, and set the identity."""
    message: ExportMetricsServiceRequest = batch.message
    for resource_metrics in message.resource_metrics:
        service = _identify(batch, resource_metrics, services, identity)
        received = kept = 0
        for scope in resource_metrics.scope_metrics:
            damaged = False
            for metric in scope.metrics:
                before, after = _check_metric(metric, batch.rejected)
                received += before
                kept += after
                damaged = damaged or before != after
            if damaged:
                batch.changed = True
                stay = [metric for metric in scope.metrics if _points(metric)]
                del scope.metrics[:]
                scope.metrics.extend(stay)
        batch.received += received
        service.received[_METRICS] += received
        service.kept[_METRICS] += kept


def check_profiles(batch: FullBatch, services: Services, identity: Identity | None) -> None:
    """Count profiles and set the identity."""
    message: ExportProfilesServiceRequest = batch.message
    for resource_profiles in message.resource_profiles:
        strings = message.dictionary.string_table
        service = _identify(batch, resource_profiles, services, identity, strings)
        count = sum(len(scope.profiles) for scope in resource_profiles.scope_profiles)
        batch.received += count
        service.received[_PROFILES] += count
        service.kept[_PROFILES] += count


def _identify(
    batch: FullBatch, holder: Any, services: Services, identity: Identity | None, strings: Any = ()
) -> Service:
    if identity is None:
        return services.sender(None, holder.resource.SerializeToString()).service
    made = identified(holder.resource, identity, strings)
    if made != holder.resource:
        holder.resource.CopyFrom(made)
        batch.changed = True
    return services.sender(identity, made.SerializeToString()).service


def _points(metric: Metric) -> Any:
    kind = metric.WhichOneof("data")
    return getattr(metric, kind).data_points if kind is not None else ()


def _check_metric(metric: Metric, rejected: Counter[str]) -> tuple[int, int]:
    """Remove the invalid points of a metric; return how many it had and has."""
    kind = metric.WhichOneof("data")
    if kind is None:
        return 0, 0
    data = getattr(metric, kind)
    points = data.data_points
    before = len(points)
    temporal = kind in {"sum", "histogram", "exponential_histogram"}
    if temporal and data.aggregation_temporality == AGGREGATION_TEMPORALITY_UNSPECIFIED:
        rejected[_NO_TEMPORALITY] += before
        del points[:]
    elif not all(point.time_unix_nano for point in points):
        stay = [point for point in points if point.time_unix_nano]
        rejected[_NO_TIME] += before - len(stay)
        del points[:]
        points.extend(stay)
    return before, len(points)
