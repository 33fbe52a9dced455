"""Samples in the shape of the deployed hub: `metrics {server, containers}` of `telemetry_batch`."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from syntra.agent.figures.sampler import Measured, Sample
from syntra.model.fields import Json
from syntra.utils.host import HostMeter
from syntra.utils.timestamps import format_ns

log = logging.getLogger(__name__)

MIB = 1024 * 1024
CONTAINERS_IN_ONE = 500
"""The most containers of one payload: about 250 kB."""


class HubFigures:
    """One agent's samples for the hub. Rates are of the time between two calls of `payloads`."""

    def __init__(self, *, agent_id: str, data_dir: Path) -> None:
        self._agent_id = agent_id
        self._meter = HostMeter(data_dir)
        self._last_at: float | None = None

    def payloads(self, sample: Sample, measured: Sequence[Measured]) -> Iterator[Mapping[str, Any]]:
        """The payloads of one sample: more than one only for very many containers. The shape is that of
        `telemetry.shipping.hub`, whose libraries the agent does not load."""
        timestamp = format_ns(sample.time_ns)
        containers = [_container(one, timestamp) for one in measured]
        server = self._server(sample, len(containers))
        for start in range(0, max(1, len(containers)), CONTAINERS_IN_ONE):
            metrics: dict[str, Json] = {"containers": [*containers[start : start + CONTAINERS_IN_ONE]]}
            if server is not None and start == 0:
                metrics["server"] = server
            yield {
                "batch_id": f"bat_{uuid.uuid4().hex}",
                "agent_id": self._agent_id,
                "compression": "none",
                "metrics": metrics,
                "logs": [],
                "events": [],
            }

    def _server(self, sample: Sample, count: int) -> dict[str, Json] | None:
        host = sample.host
        if host is None:
            return None
        elapsed = sample.at - self._last_at if self._last_at is not None else 0.0
        self._last_at = sample.at
        try:
            figures = self._meter.measure(host)
        except OSError as unread:
            log.warning("cannot read the disk's figures", extra={"reason": str(unread)})
            return None
        used_mb, total_mb = figures.memory_used_mb, host.memory["MemTotal"] // MIB
        used_gb, total_gb = figures.disk_used_gb, figures.disk_used_gb + figures.disk_available_gb
        load = [*host.load, 0.0, 0.0, 0.0]
        return {
            "cpu_percent": figures.cpu_usage_percent,
            "cpu_cores": host.cpus,
            "memory_used_mb": used_mb,
            "memory_total_mb": total_mb,
            "memory_percent": _percent(used_mb, total_mb),
            "disk_used_gb": used_gb,
            "disk_total_gb": total_gb,
            "disk_percent": _percent(used_gb, total_gb),
            "network_rx_bytes_per_sec": round(figures.network_rx_bytes / elapsed) if elapsed > 0 else 0,
            "network_tx_bytes_per_sec": round(figures.network_tx_bytes / elapsed) if elapsed > 0 else 0,
            "load_avg_1m": load[0],
            "load_avg_5m": load[1],
            "load_avg_15m": load[2],
            "uptime_seconds": int(host.uptime_secs),
            "container_count": count,
        }


def _container(measured: Measured, timestamp: str) -> dict[str, Json]:
    figures, replica = measured.figures, measured.replica
    used, limit = figures.memory_bytes, figures.memory_limit_bytes
    return {
        "container_id": figures.container_id,
        "container_name": figures.name,
        "service_id": replica.service_id,
        "timestamp": timestamp,
        "cpu_percent": round(figures.cpu_percent, 2),
        "memory_used_mb": round(used / MIB, 2),
        # The hub wants a number.
        "memory_limit_mb": round(limit / MIB, 2) if limit else 0,
        "memory_percent": _percent(used, limit or 0),
        "network_rx_bytes": figures.network_rx_bytes,
        "network_tx_bytes": figures.network_tx_bytes,
        "block_read_bytes": figures.block_read_bytes,
        "block_write_bytes": figures.block_write_bytes,
        "pids": figures.pids,
        "status": replica.status.value,
    }


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 2) if whole else 0.0
