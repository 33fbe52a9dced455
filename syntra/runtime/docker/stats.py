"""Computes a container's usage from the engine's stats. Pure: two samples in, rates out.

A one-shot sample contains no previous values, and a stopped container returns 200 with empty stats.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from syntra.model.ids import ContainerId
from syntra.model.status import Figures
from syntra.runtime.docker import fields
from syntra.utils.frozen import frozen

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


@frozen
class ContainerFigures:
    """`cpu_percent` of one core (200 = two cores busy) between the samples; bytes and counters as of the later one.

    Network and block counters grow since the container's start; they are 0 without a network of its own.
    """

    cpu_percent: float
    memory_bytes: int
    memory_limit_bytes: int
    network_rx_bytes: int
    network_tx_bytes: int
    block_read_bytes: int
    block_write_bytes: int
    pids: int


def figures_of(container_id: ContainerId, name: str, found: ContainerFigures) -> Figures:
    """The same, as the agent tells them of a replica."""
    return Figures(
        container_id=container_id,
        name=name,
        cpu_percent=found.cpu_percent,
        memory_bytes=found.memory_bytes,
        memory_limit_bytes=found.memory_limit_bytes or None,
        network_rx_bytes=found.network_rx_bytes,
        network_tx_bytes=found.network_tx_bytes,
        block_read_bytes=found.block_read_bytes,
        block_write_bytes=found.block_write_bytes,
        pids=found.pids,
    )


def container_figures(previous: Mapping[str, object] | None, current: Mapping[str, object]) -> ContainerFigures | None:
    """The usage in `current`, with the CPU rate since `previous` (or since the sample inside `current`).

    None when either is empty: the container does not run, or its cgroup is gone.
    """
    if previous is None:
        previous = {"cpu_stats": fields.mapping(current, "precpu_stats"), "read": fields.text(current, "preread")}
    elif is_empty(previous):
        return None
    if is_empty(current) or _cpu_total(previous) <= 0:
        return None
    received, sent = _network(current)
    read, written = _block(current)
    return ContainerFigures(
        cpu_percent=_cpu_percent(previous, current),
        memory_bytes=_memory(current),
        memory_limit_bytes=fields.integer(current, "memory_stats", "limit"),
        network_rx_bytes=received,
        network_tx_bytes=sent,
        block_read_bytes=read,
        block_write_bytes=written,
        pids=fields.integer(current, "pids_stats", "current"),
    )


def is_empty(sample: Mapping[str, object]) -> bool:
    """Whether a sample comes from a stopped container."""
    return _cpu_total(sample) <= 0 and not fields.integer(sample, "memory_stats", "usage")


def _cpu_total(sample: Mapping[str, object]) -> int:
    return fields.integer(sample, "cpu_stats", "cpu_usage", "total_usage")


def _cpu_percent(previous: Mapping[str, object], current: Mapping[str, object]) -> float:
    used = _cpu_total(current) - _cpu_total(previous)
    elapsed = _nanoseconds(fields.text(current, "read")) - _nanoseconds(fields.text(previous, "read"))
    if elapsed <= 0:
        # The host's CPU time is the sum of all cores; divided by their number it is wall time.
        cpus = fields.integer(current, "cpu_stats", "online_cpus") or 1
        system = ("cpu_stats", "system_cpu_usage")
        elapsed = (fields.integer(current, *system) - fields.integer(previous, *system)) // cpus
    # Less than before: the container was restarted between the samples.
    return 100.0 * used / elapsed if used > 0 and elapsed > 0 else 0.0


def _nanoseconds(timestamp: str) -> int:
    match = _TIME.fullmatch(timestamp)
    if match is None:
        return 0
    whole = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    return int(whole.timestamp()) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))


def _memory(sample: Mapping[str, object]) -> int:
    """Usage without reclaimable page cache, as `docker stats` shows it (cgroup v1, then v2)."""
    usage = fields.integer(sample, "memory_stats", "usage")
    details = fields.mapping(sample, "memory_stats", "stats")
    name = "total_inactive_file" if "total_inactive_file" in details else "inactive_file"
    cache = fields.integer(details, name)
    return usage - cache if cache < usage else usage


def _network(sample: Mapping[str, object]) -> tuple[int, int]:
    cards = fields.mapping(sample, "networks").values()
    return sum(fields.integer(card, "rx_bytes") for card in cards), sum(
        fields.integer(card, "tx_bytes") for card in cards
    )


def _block(sample: Mapping[str, object]) -> tuple[int, int]:
    sums = {"read": 0, "write": 0}
    for entry in fields.array(sample, "blkio_stats", "io_service_bytes_recursive"):
        operation = fields.text(entry, "op").lower()
        if operation in sums:
            sums[operation] += fields.integer(entry, "value")
    return sums["read"], sums["write"]
