"""Reads a container's usage from the engine's stats, where its cgroup files are out of reach. Pure.

A stopped container returns 200 with empty stats.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from syntra.model.figures import ContainerReading
from syntra.runtime.docker import fields

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


def container_reading(sample: Mapping[str, object]) -> ContainerReading | None:
    """The reading in a sample; None when it is empty: the container does not run, or its cgroup is gone."""
    if is_empty(sample):
        return None
    details = fields.mapping(sample, "memory_stats", "stats")
    is_v1 = "total_inactive_file" in details
    usage, throttling = ("cpu_stats", "cpu_usage"), ("cpu_stats", "throttling_data")
    faults = _optional(details, "total_pgfault" if is_v1 else "pgfault")
    major = _optional(details, "total_pgmajfault" if is_v1 else "pgmajfault")
    return ContainerReading(
        at_ns=_moment_ns(sample),
        cpu_ns=_cpu_total(sample),
        cpu_user_ns=fields.integer(sample, *usage, "usage_in_usermode"),
        cpu_system_ns=fields.integer(sample, *usage, "usage_in_kernelmode"),
        periods=fields.integer(sample, *throttling, "periods"),
        throttled_periods=fields.integer(sample, *throttling, "throttled_periods"),
        throttled_ns=fields.integer(sample, *throttling, "throttled_time"),
        memory_bytes=fields.integer(sample, "memory_stats", "usage"),
        inactive_file_bytes=fields.integer(details, "total_inactive_file" if is_v1 else "inactive_file"),
        rss_bytes=_optional(details, "total_rss" if is_v1 else "anon"),
        memory_limit_bytes=fields.integer(sample, "memory_stats", "limit") or None,
        minor_faults=max(0, faults - (major or 0)) if faults is not None else None,
        major_faults=major,
        disks=_disks(sample),
        networks=_networks(sample),
        pids=fields.integer(sample, "pids_stats", "current"),
        pids_limit=fields.integer(sample, "pids_stats", "limit") or None,
    )


def is_empty(sample: Mapping[str, object]) -> bool:
    """Whether a sample comes from a stopped container."""
    return _cpu_total(sample) <= 0 and not fields.integer(sample, "memory_stats", "usage")


def _cpu_total(sample: Mapping[str, object]) -> int:
    return fields.integer(sample, "cpu_stats", "cpu_usage", "total_usage")


def _moment_ns(sample: Mapping[str, object]) -> int:
    moment = _nanoseconds(fields.text(sample, "read"))
    if moment:
        return moment
    # The host's CPU time is the sum of all cores; divided by their number it is wall time.
    cpus = fields.integer(sample, "cpu_stats", "online_cpus") or 1
    return fields.integer(sample, "cpu_stats", "system_cpu_usage") // cpus


def _nanoseconds(timestamp: str) -> int:
    match = _TIME.fullmatch(timestamp)
    if match is None:
        return 0
    whole = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    return int(whole.timestamp()) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))


def _optional(details: Mapping[str, object], name: str) -> int | None:
    return fields.integer(details, name) if name in details else None


def _networks(sample: Mapping[str, object]) -> dict[str, tuple[int, int]]:
    return {
        name: (fields.integer(card, "rx_bytes"), fields.integer(card, "tx_bytes"))
        for name, card in fields.mapping(sample, "networks").items()
    }


def _disks(sample: Mapping[str, object]) -> dict[str, tuple[int, int]]:
    found: dict[str, list[int]] = {}
    for entry in fields.array(sample, "blkio_stats", "io_service_bytes_recursive"):
        operation = fields.text(entry, "op").lower()
        if operation in ("read", "write"):
            numbers = f"{fields.integer(entry, 'major')}:{fields.integer(entry, 'minor')}"
            found.setdefault(numbers, [0, 0])[operation == "write"] += fields.integer(entry, "value")
    return {numbers: (read, written) for numbers, (read, written) in found.items()}
