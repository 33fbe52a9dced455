"""A container's metrics, `container.*` of the semantic conventions 1.44. Pure.

What the conventions have no name for has the one of the Collector's `docker_stats` receiver: limits, throttling,
processes and restarts.
"""

from __future__ import annotations

from syntra.telemetry.collect.figures.message import ContainerFigures
from syntra.telemetry.collect.figures.metrics import Point, ResourceMetrics, counter, gauge, up_down_counter

_UPTIME = gauge("container.uptime", "s")
_CPU_TIME = counter("container.cpu.time", "s")
_CPU_USAGE = gauge("container.cpu.usage", "{cpu}")
_CPU_LIMIT = up_down_counter("container.cpu.limit", "{cpu}")
_PERIODS = counter("container.cpu.throttling_data.periods", "{period}")
_THROTTLED_PERIODS = counter("container.cpu.throttling_data.throttled_periods", "{period}")
_THROTTLED_TIME = counter("container.cpu.throttling_data.throttled_time", "ns")
_MEMORY = up_down_counter("container.memory.usage", "By")
_AVAILABLE = up_down_counter("container.memory.available", "By")
_RSS = up_down_counter("container.memory.rss", "By")
_WORKING_SET = up_down_counter("container.memory.working_set", "By")
_MEMORY_LIMIT = up_down_counter("container.memory.usage.limit", "By")
_OOM_KILLS = counter("container.memory.oom_kills", "{process}")
_FAULTS = counter("container.paging.faults", "{fault}")
_DISK_IO = counter("container.disk.io", "By")
_NETWORK_IO = counter("container.network.io", "By")
_PIDS = up_down_counter("container.pids.count", "{pid}")
_PIDS_LIMIT = up_down_counter("container.pids.limit", "{pid}")
_RESTARTS = counter("container.restarts", "{restart}")

_USER, _SYSTEM = (("cpu.mode", "user"),), (("cpu.mode", "system"),)
_MAJOR, _MINOR = (("system.paging.fault.type", "major"),), (("system.paging.fault.type", "minor"),)
_READ, _WRITE = ("disk.io.direction", "read"), ("disk.io.direction", "write")
_RECEIVE, _TRANSMIT = ("network.io.direction", "receive"), ("network.io.direction", "transmit")


def add_container(metrics: ResourceMetrics, figures: ContainerFigures, time_ns: int) -> None:
    """Add the metrics of one container at `time_ns`."""
    reading = figures.reading
    metrics.one(_UPTIME, max(0, time_ns - figures.started_ns) / 1e9 if figures.started_ns else None)
    if reading.cpu_user_ns is None or reading.cpu_system_ns is None:
        # All points have a mode, or none has.
        metrics.one(_CPU_TIME, reading.cpu_ns / 1e9)
    else:
        metrics.add(_CPU_TIME, [(_USER, reading.cpu_user_ns / 1e9), (_SYSTEM, reading.cpu_system_ns / 1e9)])
    metrics.one(_CPU_USAGE, figures.cpus_used)
    metrics.one(_CPU_LIMIT, reading.cpu_limit)
    metrics.one(_PERIODS, reading.periods)
    metrics.one(_THROTTLED_PERIODS, reading.throttled_periods)
    metrics.one(_THROTTLED_TIME, reading.throttled_ns)
    limit = reading.memory_limit_bytes
    metrics.one(_MEMORY, reading.memory_bytes)
    metrics.one(_AVAILABLE, None if limit is None else max(0, limit - reading.working_set_bytes))
    metrics.one(_RSS, reading.rss_bytes)
    metrics.one(_WORKING_SET, reading.working_set_bytes)
    metrics.one(_MEMORY_LIMIT, limit)
    metrics.one(_OOM_KILLS, reading.oom_kills)
    metrics.add(_FAULTS, [(_MAJOR, reading.major_faults), (_MINOR, reading.minor_faults)])
    disks: list[Point] = []
    for device, (read, written) in reading.disks.items():
        named = ("system.device", device)
        disks += [((_READ, named), read), ((_WRITE, named), written)]
    metrics.add(_DISK_IO, disks)
    networks: list[Point] = []
    for name, (received, sent) in reading.networks.items():
        interface = ("network.interface.name", name)
        networks += [((interface, _RECEIVE), received), ((interface, _TRANSMIT), sent)]
    metrics.add(_NETWORK_IO, networks)
    metrics.one(_PIDS, reading.pids)
    metrics.one(_PIDS_LIMIT, reading.pids_limit)
    metrics.one(_RESTARTS, figures.restarts)
