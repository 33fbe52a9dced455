"""Answers `top`: each service and replica with what it uses now, its requests and its log lines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from syntra.agent.api.service_views import ServiceView, ServiceViews, container_status
from syntra.agent.figures.sampler import Measured, Sampler
from syntra.model.fields import Json
from syntra.model.figures import ContainerReading
from syntra.model.status import Replica
from syntra.utils.errors import AgentError
from syntra.utils.host import HostMeter
from syntra.utils.host_reading import HostReading
from syntra.utils.timestamps import format_ns

MIB = 1024 * 1024

Telemetry = Callable[[], Awaitable[Mapping[str, Json]]]
"""The state of the telemetry process, as `telemetry status` has it. Raises AgentError."""


class Top:
    """Answers `top`. Figures are of the shared sampler, requests and log lines of the telemetry process."""

    def __init__(self, views: ServiceViews, sampler: Sampler, telemetry: Telemetry, meter: HostMeter) -> None:
        """`meter` is one of its own; its rates are of the time between two answers."""
        self._views = views
        self._sampler = sampler
        self._telemetry = telemetry
        self._meter = meter

    async def answer(self) -> dict[str, Json]:
        """The data of the response. Raises RuntimeUnavailable."""
        views = await self._views.all()
        sample = await self._sampler.with_rates()
        requests = await self._requests()
        return {
            "timestamp": format_ns(sample.time_ns),
            "host": self._host(sample.host),
            "services": [_service(view, sample.containers, requests.get(view.service_id, {})) for view in views],
        }

    def _host(self, reading: HostReading | None) -> dict[str, Json] | None:
        if reading is None:
            return None
        try:
            payload: dict[str, Any] = self._meter.measure(reading).to_payload()
        except OSError:
            return None
        return {**payload, "load": [*reading.load]}

    async def _requests(self) -> dict[str, Mapping[str, Any]]:
        """The telemetry of each service by its id; empty without a telemetry process."""
        try:
            status: Mapping[str, Any] = await self._telemetry()
        except AgentError:
            return {}
        return {row["service_id"]: row for row in status.get("services", ()) if row.get("service_id")}


def _service(view: ServiceView, measured: Mapping[Any, Measured], requests: Mapping[str, Any]) -> dict[str, Json]:
    spec = view.deployment.spec if view.deployment else None
    rate, share = requests.get("requests_per_sec"), requests.get("error_share")
    return {
        "service_id": view.service_id,
        "service_name": spec.service_name if spec else view.service_id,
        "project_name": spec.project_name if spec else None,
        "status": view.status,
        "restarts": sum(replica.restart_count for replica in view.replicas),
        "requests_per_sec": rate,
        "errors_per_sec": None if rate is None else rate * (share or 0.0),
        "p95_ms": requests.get("p95"),
        "logs_per_sec": requests.get("logs_per_sec"),
        "containers": [_container(view, one, measured.get(one.container_id)) for one in view.replicas],
    }


def _container(view: ServiceView, replica: Replica, measured: Measured | None) -> dict[str, Json]:
    status = container_status(view, replica, measured.figures if measured else None)
    made: dict[str, Json] = {
        name: status[name] for name in ("container_id", "container_name", "status", "health", "restart_count")
    }
    if measured is None:
        return made
    figures, reading, before = measured.figures, measured.reading, measured.before
    limit = figures.memory_limit_bytes
    return made | {
        "cpu_percent": round(figures.cpu_percent, 2),
        "cpu_limit": reading.cpu_limit,
        "memory_used_mb": round(figures.memory_bytes / MIB, 2),
        "memory_limit_mb": round(limit / MIB, 2) if limit else None,
        "memory_percent": round(100 * figures.memory_bytes / limit, 2) if limit else None,
        "network_rx_bytes_per_sec": _rate(before, reading, lambda one: sum(rx for rx, _ in one.networks.values())),
        "network_tx_bytes_per_sec": _rate(before, reading, lambda one: sum(tx for _, tx in one.networks.values())),
        "block_read_bytes_per_sec": _rate(before, reading, lambda one: sum(read for read, _ in one.disks.values())),
        "block_write_bytes_per_sec": _rate(before, reading, lambda one: sum(done for _, done in one.disks.values())),
        "pids": figures.pids,
        "oom_kills": reading.oom_kills,
    }


def _rate(
    before: ContainerReading | None, current: ContainerReading, counted: Callable[[ContainerReading], int]
) -> float | None:
    """How fast a counter grows, in a second; None without a reading before."""
    if before is None or current.at_ns <= before.at_ns:
        return None
    return round(max(0.0, 1e9 * (counted(current) - counted(before)) / (current.at_ns - before.at_ns)), 1)
