"""Reads what the host uses, from /proc and /sys: processors, memory, disks, file systems, network, processes, pressure.

A reading takes a few milliseconds and never lists processes. A file that this kernel does not have is left out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from syntra.utils.file_systems import FileSystem, FileSystems
from syntra.utils.frozen import frozen
from syntra.utils.kernel_files import interfaces, keyed, read_kernel_file, whole

CPU_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
"""The columns of `/proc/stat`. `user` and `nice` include the time of guests."""
PAGING = ("pgfault", "pgmajfault", "pswpin", "pswpout", "oom_kill")
"""What is taken of `/proc/vmstat`."""
PRESSURES = ("cpu", "memory", "io")

_TICKS = os.sysconf("SC_CLK_TCK")
_SECTOR = 512
# Devices in memory, and files that are mounted as devices.
_NO_DISKS = ("ram", "zram", "loop", "fd", "sr")


@frozen
class Disk:
    """Counters of one block device since boot: bytes, operations and milliseconds, of reads and of writes."""

    read_bytes: int
    written_bytes: int
    reads: int
    writes: int
    merged_reads: int
    merged_writes: int
    read_ms: int
    write_ms: int
    busy_ms: int
    """Time with at least one operation under way."""


@frozen
class Interface:
    """Counters of one network interface since boot."""

    received_bytes: int
    sent_bytes: int
    received_packets: int
    sent_packets: int
    received_errors: int
    sent_errors: int
    received_dropped: int
    sent_dropped: int


@frozen
class HostReading:
    """The counters and levels of the host at one moment."""

    cpu_secs: Mapping[str, float]
    """Seconds since boot by CPU_MODES, of all processors together."""
    cpus: int
    load: tuple[float, ...]
    """Over 1, 5 and 15 minutes."""
    memory: Mapping[str, int]
    """`/proc/meminfo` in bytes."""
    paging: Mapping[str, int]
    """PAGING, counted since boot."""
    disks: Mapping[str, Disk]
    file_systems: tuple[FileSystem, ...]
    interfaces: Mapping[str, Interface]
    """Without those of containers (veth), whose bytes are the containers'."""
    processes_running: int
    processes_blocked: int
    processes_created: int
    """Processes and threads since boot."""
    threads_limit: int
    uptime_secs: float
    booted_ns: int
    """Time of the boot, in Unix nanoseconds."""
    pressure_us: Mapping[str, tuple[int, int]]
    """Microseconds since boot in which some, and in which all, processes waited for a resource; by PRESSURES."""


class HostReader:
    """Reads the host. `read` blocks for a few milliseconds, and is for one thread at a time."""

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        sys_block: Path = Path("/sys/block"),
        file_systems: FileSystems | None = None,
    ) -> None:
        self._proc = str(proc)
        self._sys_block = str(sys_block)
        self._file_systems = file_systems or FileSystems()

    def read(self) -> HostReading:
        """The host now. Raises OSError if a file that every Linux has cannot be read, or has another form."""
        try:
            return self._read()
        except (ValueError, KeyError, IndexError) as unknown:
            raise OSError(f"cannot read {self._proc}: {unknown!r}") from unknown

    def _read(self) -> HostReading:
        stat = _lines(self._content("stat"))
        cpu = [int(ticks) / _TICKS for ticks in stat[b"cpu"].split()[: len(CPU_MODES)]]
        vmstat = keyed(self._optional("vmstat"))
        return HostReading(
            cpu_secs=dict(zip(CPU_MODES, cpu, strict=False)),
            cpus=sum(1 for name in stat if name.startswith(b"cpu")) - 1,
            load=tuple(float(value) for value in self._content("loadavg").split()[:3]),
            memory=memory_of(self._content("meminfo")),
            paging={name: count for name in PAGING if (count := whole(vmstat, name.encode())) is not None},
            disks=self._disks(),
            file_systems=tuple(self._file_systems.read()),
            interfaces=_interfaces(self._optional("net/dev")),
            processes_running=int(stat[b"procs_running"]),
            processes_blocked=int(stat[b"procs_blocked"]),
            processes_created=int(stat[b"processes"]),
            threads_limit=int(self._optional("sys/kernel/threads-max") or 0),
            uptime_secs=float(self._content("uptime").split()[0]),
            booted_ns=int(stat[b"btime"]) * 1_000_000_000,
            pressure_us={
                name: _pressure(content) for name in PRESSURES if (content := self._optional(f"pressure/{name}"))
            },
        )

    def _content(self, name: str) -> bytes:
        return read_kernel_file(f"{self._proc}/{name}")

    def _optional(self, name: str) -> bytes:
        try:
            return self._content(name)
        except OSError:
            return b""

    def _disks(self) -> dict[str, Disk]:
        found = {}
        for line in self._optional("diskstats").split(b"\n"):
            fields = line.split()
            if len(fields) < 14:
                continue
            name = fields[2].decode()
            # A partition has no entry of its own there.
            if name.startswith(_NO_DISKS) or not os.path.exists(f"{self._sys_block}/{name.replace('/', '!')}"):
                continue
            # Fields 1 to 11 of the kernel's admin-guide/iostats.
            counters = [int(value) for value in fields[3:14]]
            found[name] = Disk(
                reads=counters[0],
                merged_reads=counters[1],
                read_bytes=counters[2] * _SECTOR,
                read_ms=counters[3],
                writes=counters[4],
                merged_writes=counters[5],
                written_bytes=counters[6] * _SECTOR,
                write_ms=counters[7],
                busy_ms=counters[9],
            )
        return found


def _lines(content: bytes) -> dict[bytes, bytes]:
    """The rest of each line by its first word."""
    split = (line.partition(b" ") for line in content.split(b"\n"))
    return {name: rest for name, space, rest in split if space}


def memory_of(meminfo: bytes) -> dict[str, int]:
    """`/proc/meminfo` in bytes."""
    found = {}
    for line in meminfo.split(b"\n"):
        name, colon, value = line.partition(b":")
        # The counts of huge pages have no unit.
        if colon and value.endswith(b" kB"):
            found[name.decode()] = int(value[:-3]) * 1024
    return found


def _interfaces(net_dev: bytes) -> dict[str, Interface]:
    found = {}
    for name, counters in interfaces(net_dev).items():
        if not name.startswith("veth"):
            found[name] = Interface(
                received_bytes=counters[0],
                received_packets=counters[1],
                received_errors=counters[2],
                received_dropped=counters[3],
                sent_bytes=counters[8],
                sent_packets=counters[9],
                sent_errors=counters[10],
                sent_dropped=counters[11],
            )
    return found


def _pressure(content: bytes) -> tuple[int, int]:
    """`total` of the lines `some` and `full` (admin-guide/accounting/psi); older kernels have no `full` of cpu."""
    lines = _lines(content)
    some, full = (int(lines.get(name, b"total=0").rpartition(b"total=")[2]) for name in (b"some", b"full"))
    return some, full
