"""What `telemetry status` and `top` show of services and of sampling. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from syntra.telemetry.processing.services import Service
from syntra.telemetry.sampling.latency import NEVER_SLOW, quantile
from syntra.telemetry.signals import Signal
from syntra.utils.frozen import frozen


@frozen
class ServiceView:
    """One service: what it sends, what is kept, and its requests in the time between the last two drains.

    Requests are spans of kind server or consumer; of a service that has none, all its spans. Durations are None
    without requests.
    """

    name: str
    namespace: str
    service_id: str
    received: Mapping[Signal, int]
    kept: Mapping[Signal, int]
    probability: float
    """The probability with which an ordinary trace is kept."""
    logs_probability: float
    requests_per_sec: float
    errors_per_sec: float
    logs_per_sec: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    slow_ms: float | None
    """Requests above this are kept as slow; None until it is learned."""


@frozen
class SamplingView:
    """Sampling as a whole. `floor` below the configured rate means that the floors alone exceeded the hard cap."""

    limited: bool
    floor: float
    probability: float
    logs_limited: bool
    logs_probability: float
    verdicts: int
    verdicts_evicted: int
    series: int
    series_overflowed: int


def service_view(service: Service) -> ServiceView:
    """What readers see of a service."""
    recent = service.recent
    limit = service.cells.slow_nanoseconds
    quantiles = [quantile(recent.buckets, share) for share in (0.5, 0.95, 0.99)]
    p50, p95, p99 = (None if found is None else found / 1e6 for found in quantiles)
    return ServiceView(
        name=service.name,
        namespace=service.resource.get("service.namespace", ""),
        service_id=service.resource.get("syntra.service.id", ""),
        received={signal: service.received[signal.value] for signal in Signal},
        kept={signal: service.kept[signal.value] for signal in Signal},
        probability=service.traces.probability,
        logs_probability=service.logs.probability,
        requests_per_sec=recent.requests_per_sec,
        errors_per_sec=recent.errors_per_sec,
        logs_per_sec=service.logs_per_sec,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        slow_ms=limit / 1e6 if limit < NEVER_SLOW else None,
    )
