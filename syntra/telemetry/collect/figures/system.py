"""The host's metrics, `system.*` of the semantic conventions 1.44. Pure.

The conventions have no names for load and pressure. Load has the Collector's; pressure stands under `system.linux`,
as other figures that only Linux has.
"""

from __future__ import annotations

from collections.abc import Iterator

from syntra.telemetry.collect.figures.metrics import Point, ResourceMetrics, counter, gauge, up_down_counter
from syntra.utils.host_reading import HostReading

_UPTIME = gauge("system.uptime", "s")
_CPU_TIME = counter("system.cpu.time", "s")
_CPUS = up_down_counter("system.cpu.logical.count", "{cpu}")
_LOADS = tuple(gauge(f"system.cpu.load_average.{span}", "{thread}") for span in ("1m", "5m", "15m"))
_MEMORY = up_down_counter("system.memory.usage", "By")
_MEMORY_LIMIT = up_down_counter("system.memory.limit", "By")
_MEMORY_SHARE = gauge("system.memory.utilization", "1")
_AVAILABLE = up_down_counter("system.memory.linux.available", "By")
_SHARED = up_down_counter("system.memory.linux.shared", "By")
_SLAB = up_down_counter("system.memory.linux.slab.usage", "By")
_PAGING = up_down_counter("system.paging.usage", "By")
_FAULTS = counter("system.paging.faults", "{fault}")
_PAGING_OPERATIONS = counter("system.paging.operations", "{operation}")
_DISK_IO = counter("system.disk.io", "By")
_DISK_OPERATIONS = counter("system.disk.operations", "{operation}")
_DISK_MERGED = counter("system.disk.merged", "{operation}")
_DISK_OPERATION_TIME = counter("system.disk.operation_time", "s")
_DISK_IO_TIME = counter("system.disk.io_time", "s")
_FILE_SYSTEM = up_down_counter("system.filesystem.usage", "By")
_FILE_SYSTEM_LIMIT = up_down_counter("system.filesystem.limit", "By")
_FILE_SYSTEM_SHARE = gauge("system.filesystem.utilization", "1")
_NETWORK_IO = counter("system.network.io", "By")
_NETWORK_ERRORS = counter("system.network.errors", "{error}")
_NETWORK_DROPPED = counter("system.network.packet.dropped", "{packet}")
_NETWORK_PACKETS = counter("system.network.packet.count", "{packet}")
_PROCESSES = up_down_counter("system.process.count", "{process}")
_PROCESSES_CREATED = counter("system.process.created", "{process}")
_THREADS_LIMIT = up_down_counter("system.process.limit", "{thread}")
_OOM_KILLS = counter("system.linux.oom_kills", "{process}")
_PRESSURE = counter("system.linux.pressure.stalled_time", "s")

_CPU_MODES = {"irq": "interrupt", "softirq": "interrupt"}
"""The conventions have one word for both."""


def add_system(metrics: ResourceMetrics, host: HostReading) -> None:
    """Add the host's metrics."""
    metrics.one(_UPTIME, host.uptime_secs)
    metrics.add(_CPU_TIME, _cpu(host))
    metrics.one(_CPUS, host.cpus)
    for load, value in zip(_LOADS, host.load, strict=False):
        metrics.one(load, value)
    _add_memory(metrics, host)
    _add_disks(metrics, host)
    _add_file_systems(metrics, host)
    _add_network(metrics, host)
    running, blocked = (("process.state", "running"),), (("process.state", "blocked"),)
    metrics.add(_PROCESSES, [(running, host.processes_running), (blocked, host.processes_blocked)])
    metrics.one(_PROCESSES_CREATED, host.processes_created)
    metrics.one(_THREADS_LIMIT, host.threads_limit or None)
    metrics.one(_OOM_KILLS, host.paging.get("oom_kill"))
    metrics.add(_PRESSURE, _pressure(host))


def _cpu(host: HostReading) -> Iterator[Point]:
    modes: dict[str, float] = {}
    for mode, secs in host.cpu_secs.items():
        name = _CPU_MODES.get(mode, mode)
        modes[name] = modes.get(name, 0.0) + secs
    return (((("cpu.mode", mode),), secs) for mode, secs in modes.items())


def _add_memory(metrics: ResourceMetrics, host: HostReading) -> None:
    memory, paging = host.memory, host.paging
    total, available = memory["MemTotal"], memory["MemAvailable"]
    states = {
        "used": total - available,
        "free": memory.get("MemFree"),
        "cached": memory.get("Cached"),
        "buffers": memory.get("Buffers"),
    }
    metrics.add(_MEMORY, (((("system.memory.state", state),), value) for state, value in states.items()))
    metrics.one(_MEMORY_LIMIT, total)
    metrics.one(_MEMORY_SHARE, (total - available) / total if total else None)
    metrics.one(_AVAILABLE, available)
    metrics.one(_SHARED, memory.get("Shmem"))
    slabs = {"reclaimable": memory.get("SReclaimable"), "unreclaimable": memory.get("SUnreclaim")}
    metrics.add(_SLAB, (((("system.memory.linux.slab.state", state),), value) for state, value in slabs.items()))
    swap, free = memory.get("SwapTotal", 0), memory.get("SwapFree", 0)
    if swap:
        used = (("system.paging.state", "used"),), swap - free
        metrics.add(_PAGING, [used, ((("system.paging.state", "free"),), free)])
    faults, major = paging.get("pgfault"), paging.get("pgmajfault")
    minor = faults - major if faults is not None and major is not None else None
    metrics.add(
        _FAULTS,
        [((("system.paging.fault.type", "major"),), major), ((("system.paging.fault.type", "minor"),), minor)],
    )
    metrics.add(
        _PAGING_OPERATIONS,
        [
            ((("system.paging.direction", "in"),), paging.get("pswpin")),
            ((("system.paging.direction", "out"),), paging.get("pswpout")),
        ],
    )


def _add_disks(metrics: ResourceMetrics, host: HostReading) -> None:
    io: list[Point] = []
    operations: list[Point] = []
    merged: list[Point] = []
    times: list[Point] = []
    busy: list[Point] = []
    for name, disk in host.disks.items():
        device = ("system.device", name)
        read, write = (device, ("disk.io.direction", "read")), (device, ("disk.io.direction", "write"))
        io += [(read, disk.read_bytes), (write, disk.written_bytes)]
        operations += [(read, disk.reads), (write, disk.writes)]
        merged += [(read, disk.merged_reads), (write, disk.merged_writes)]
        times += [(read, disk.read_ms / 1000), (write, disk.write_ms / 1000)]
        busy.append(((device,), disk.busy_ms / 1000))
    metrics.add(_DISK_IO, io)
    metrics.add(_DISK_OPERATIONS, operations)
    metrics.add(_DISK_MERGED, merged)
    metrics.add(_DISK_OPERATION_TIME, times)
    metrics.add(_DISK_IO_TIME, busy)


def _add_file_systems(metrics: ResourceMetrics, host: HostReading) -> None:
    usage: list[Point] = []
    limits: list[Point] = []
    shares: list[Point] = []
    for one in host.file_systems:
        named = (
            ("system.device", one.device),
            ("system.filesystem.mountpoint", one.mountpoint),
            ("system.filesystem.type", one.kind),
            ("system.filesystem.mode", "ro" if one.is_read_only else "rw"),
        )
        states = {"used": one.used_bytes, "free": one.free_bytes, "reserved": one.reserved_bytes}
        usage += [((*named, ("system.filesystem.state", state)), value) for state, value in states.items()]
        limits.append((named, one.total_bytes))
        # As df shows it: of the space that is open to everyone.
        usable = one.used_bytes + one.free_bytes
        shares.append((named, one.used_bytes / usable if usable else None))
    metrics.add(_FILE_SYSTEM, usage)
    metrics.add(_FILE_SYSTEM_LIMIT, limits)
    metrics.add(_FILE_SYSTEM_SHARE, shares)


def _add_network(metrics: ResourceMetrics, host: HostReading) -> None:
    io: list[Point] = []
    errors: list[Point] = []
    dropped: list[Point] = []
    packets: list[Point] = []
    for name, card in host.interfaces.items():
        receive, transmit = ("network.io.direction", "receive"), ("network.io.direction", "transmit")
        interface, device = ("network.interface.name", name), ("system.device", name)
        io += [((interface, receive), card.received_bytes), ((interface, transmit), card.sent_bytes)]
        errors += [((interface, receive), card.received_errors), ((interface, transmit), card.sent_errors)]
        dropped += [((interface, receive), card.received_dropped), ((interface, transmit), card.sent_dropped)]
        packets += [((device, receive), card.received_packets), ((device, transmit), card.sent_packets)]
    metrics.add(_NETWORK_IO, io)
    metrics.add(_NETWORK_ERRORS, errors)
    metrics.add(_NETWORK_DROPPED, dropped)
    metrics.add(_NETWORK_PACKETS, packets)


def _pressure(host: HostReading) -> Iterator[Point]:
    for resource, (some, full) in host.pressure_us.items():
        named = ("system.linux.pressure.resource", resource)
        yield (named, ("system.linux.pressure.type", "some")), some / 1e6
        # For the host as a whole the kernel does not define it.
        if resource != "cpu":
            yield (named, ("system.linux.pressure.type", "full")), full / 1e6
