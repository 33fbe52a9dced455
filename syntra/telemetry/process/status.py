"""The answer to `telemetry status`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from syntra.model.fields import Json
from syntra.telemetry.processing.view import SamplingView, ServiceView
from syntra.telemetry.shipping.shipper import Shipper
from syntra.telemetry.signals import Signal

if TYPE_CHECKING:
    from syntra.telemetry.process.service import TelemetryService


def status_view(service: TelemetryService) -> dict[str, Json]:
    """The whole view; times are ages in seconds."""
    return {
        "problem": service.problem,
        "receivers": service.listeners.view(),
        "buffer": _buffer(service),
        "destinations": [_destination(name, one, service.clock()) for name, one in service.shippers.items()],
        "sampling": _sampling(service),
        "signals": _signals(service),
        "services": [_service(view) for view in service.processor.services()],
        "scrapes": service.scrapers.view(),
        "memory": {"reserved_bytes": service.budget.reserved, "limit_bytes": service.budget.limit},
        "container_logs": service.container_logs.collector.view(),
        "unknown_senders": service.senders.unknown,
    }


def _buffer(service: TelemetryService) -> dict[str, Json]:
    stats = service.buffer.stats()
    oldest = [at for shipper in service.readers.values() if (at := shipper.pending().oldest_at_ns)]
    return {
        "bytes": stats.disk_bytes + stats.memory_bytes,
        "max_bytes": stats.max_bytes,
        "oldest_seconds": round((time.time_ns() - min(oldest)) / 1e9, 3) if oldest else None,
        "memory_only": stats.reason if stats.memory_only else "",
        "bad_segments": stats.bad_segments,
    }


def _destination(name: str, shipper: Shipper[Any], now: float) -> dict[str, Json]:
    progress = shipper.progress
    last = progress.last_success_at
    return {
        "name": name,
        "problem": shipper.problem,
        "last_error": progress.last_error,
        "last_success_seconds": round(now - last, 3) if last is not None else None,
        "in_flight": progress.in_flight,
        "waiting": progress.waiting,
        "replaying": progress.replaying,
        "signals": {
            signal.value: {
                "items": count.items,
                "bytes": count.bytes,
                "rejected": count.rejected,
                "refused": count.refused,
                "unwanted": count.unwanted,
                "retries": count.retries,
            }
            for signal, count in progress.counts.items()
        },
    }


def _sampling(service: TelemetryService) -> dict[str, Json]:
    view = service.processor.sampling()
    return {
        "spans_per_sec": round(service.counts.rate(Signal.TRACES), 1),
        "target_spans_per_sec": service.settings.target_spans_per_sec,
        "probability": view.probability,
        "floor": view.floor,
        "logs_probability": view.logs_probability,
        "state": _state(view, service.settings.sampling_rate),
    }


def _state(view: SamplingView, rate: float) -> str:
    if not view.limited:
        return "everything is kept"
    if view.floor < rate:
        return f"far above the target: even the minimum of {rate:.3g} is lowered to {view.floor:.3g}"
    return f"above the target: {view.probability:.1%} of ordinary traces are kept"


def _signals(service: TelemetryService) -> list[Json]:
    stats = service.buffer.stats()
    rows: list[Json] = []
    for signal, count in service.counts.signals.items():
        stored = stats.signals.get(signal)
        refused = service.counts.refusals(signal)
        if not (count.received or count.kept or refused or (stored and stored.stored_items)):
            continue
        shipped = [found.items for one in service.shippers.values() if (found := one.progress.counts.get(signal))]
        rows.append(
            {
                "signal": signal.value,
                "received": count.received,
                "refused": count.rejected,
                "refused_requests": refused,
                "sampled_out": count.sampled_out,
                "kept": count.kept,
                "buffered": stored.stored_items if stored else 0,
                "shipped": max(shipped, default=0),
                "dropped": stored.dropped_items if stored else 0,
                "rate": round(service.counts.rate(signal), 2),
            }
        )
    return rows


def _service(view: ServiceView) -> dict[str, Json]:
    rate = view.requests_per_sec
    return {
        "service": f"{view.namespace}/{view.name}" if view.namespace else view.name,
        "service_id": view.service_id,
        "received": {signal.value: count for signal, count in view.received.items() if count},
        "kept": {signal.value: count for signal, count in view.kept.items() if count},
        "requests_per_sec": round(rate, 3),
        "logs_per_sec": round(view.logs_per_sec, 3),
        "error_share": view.errors_per_sec / rate if rate else None,
        "p50": view.p50_ms,
        "p95": view.p95_ms,
        "p99": view.p99_ms,
        "sampling": view.probability,
    }
