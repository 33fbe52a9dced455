"""Facts of the host, and its usage figures between two readings.

Sizes are binary: `_mb` is MiB and `_gb` is GiB, rounded down to whole numbers.
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from syntra.utils.frozen import frozen
from syntra.utils.host_reading import HostReading, memory_of

_MIB = 1024**2
_GIB = 1024**3
_ARCHES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
# Name prefixes of interfaces that carry container or tunnel traffic, which also passes a real interface.
_VIRTUAL = (
    *("veth", "docker", "br-", "cni", "flannel", "cali", "cilium", "lxc", "podman", "kube-", "nodelocaldns"),
    *("virbr", "vnet", "tun", "tap", "wg", "dummy", "ifb"),
)


@frozen
class HostFacts:
    """Facts that do not change while the agent runs."""

    os_name: str
    os_version: str
    kernel: str
    arch: str
    """`x86_64` or `aarch64`; other machines give their own name."""
    cpu_cores: int
    """Logical processors of the host."""
    cpu_model: str
    memory_total_mb: int
    disk_total_gb: int
    hostname: str
    machine_id: str
    """`/etc/machine-id`; empty on a machine without one."""
    public_ip: str | None
    private_ip: str
    """The source address of the default route; `127.0.0.1` on a machine without a network."""

    def to_payload(self) -> dict[str, object]:
        """The host's part of `agent_hello`: os, arch, resources, network."""
        return {
            "os": {"name": self.os_name, "version": self.os_version, "kernel": self.kernel},
            "arch": self.arch,
            "resources": {
                "cpu_cores": self.cpu_cores,
                "cpu_model": self.cpu_model,
                "memory_total_mb": self.memory_total_mb,
                "disk_total_gb": self.disk_total_gb,
            },
            "network": {"hostname": self.hostname, "public_ip": self.public_ip, "private_ip": self.private_ip},
        }


@frozen
class HostFigures:
    """Usage of the host."""

    cpu_usage_percent: float
    """0 to 100 over all processors, since the last sample."""
    memory_used_mb: int
    memory_available_mb: int
    disk_used_gb: int
    disk_available_gb: int
    network_rx_bytes: int
    """Since the last sample; the same holds for `network_tx_bytes`."""
    network_tx_bytes: int

    def to_payload(self) -> dict[str, object]:
        """The `resources` object of a heartbeat."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@frozen
class HostCounters:
    """One reading of the counters. Processor times in seconds since boot, all else in bytes."""

    cpu_busy_secs: float
    cpu_total_secs: float
    memory_total: int
    memory_available: int
    disk_used: int
    disk_available: int
    interfaces: Mapping[str, tuple[int, int]]
    """Received and sent bytes since boot, per counted interface."""


class HostMeter:
    """Computes usage since its last reading. Use one meter per consumer: every reading resets the base."""

    def __init__(self, disk_path: Path | str = "/") -> None:
        """`disk_path` is any path on the measured filesystem."""
        self._disk_path = Path(disk_path)
        self._last: HostCounters | None = None

    def measure(self, reading: HostReading) -> HostFigures:
        """Usage since the last reading; the first has no CPU and network. Raises OSError if the disk is missing."""
        current = counters_of(reading, self._disk_path)
        last, self._last = self._last, current
        return figures_between(last, current)


def figures_between(last: HostCounters | None, current: HostCounters) -> HostFigures:
    """Usage between two readings. Pure.

    A new interface counts from the next sample on, as its counters may be old. An interface whose counters fell was
    reset and counts from zero.
    """
    cpu = 0.0
    received = sent = 0
    if last is not None:
        total = current.cpu_total_secs - last.cpu_total_secs
        busy = current.cpu_busy_secs - last.cpu_busy_secs
        # The kernel's idle and iowait values may decrease (proc(5)).
        cpu = round(min(100.0, max(0.0, 100.0 * busy / total)), 1) if total > 0 else 0.0
        for name, (rx, tx) in current.interfaces.items():
            if name in last.interfaces:
                old_rx, old_tx = last.interfaces[name]
                received += rx - old_rx if rx >= old_rx else rx
                sent += tx - old_tx if tx >= old_tx else tx
    return HostFigures(
        cpu_usage_percent=cpu,
        memory_used_mb=(current.memory_total - current.memory_available) // _MIB,
        memory_available_mb=current.memory_available // _MIB,
        disk_used_gb=current.disk_used // _GIB,
        disk_available_gb=current.disk_available // _GIB,
        network_rx_bytes=received,
        network_tx_bytes=sent,
    )


def counters_of(reading: HostReading, disk_path: Path) -> HostCounters:
    """The counters of a reading that figures are made of. Raises OSError when `disk_path` does not exist."""
    total = sum(reading.cpu_secs.values())
    idle = reading.cpu_secs["idle"] + reading.cpu_secs.get("iowait", 0.0)
    space = os.statvfs(disk_path)
    counted = counted_interfaces(reading.interfaces)
    return HostCounters(
        cpu_busy_secs=total - idle,
        cpu_total_secs=total,
        memory_total=reading.memory["MemTotal"],
        memory_available=reading.memory["MemAvailable"],
        disk_used=(space.f_blocks - space.f_bfree) * space.f_frsize,
        disk_available=space.f_bavail * space.f_frsize,
        interfaces={
            name: (reading.interfaces[name].received_bytes, reading.interfaces[name].sent_bytes) for name in counted
        },
    )


def counted_interfaces(names: Iterable[str], sys_class_net: Path = Path("/sys/class/net")) -> list[str]:
    """The interfaces to count, so that every byte of the host counts once.

    Interfaces with a device, which excludes bridges, VLANs, bonds and tunnels: their traffic also passes a device. A
    device below another device is excluded: Hyper-V's network card already counts the bytes of its accelerated
    function. If no interface has a device (a container, some virtual servers), all whose names are not known as
    virtual.
    """
    names = sorted(names)
    with_device = {name for name in names if (sys_class_net / name / "device").exists()}
    if with_device:
        return sorted(name for name in with_device if _master(sys_class_net / name) not in with_device)
    return [name for name in names if name != "lo" and not name.startswith(_VIRTUAL)]


def _master(interface: Path) -> str:
    try:
        return os.path.basename(os.readlink(interface / "master"))
    except OSError:
        return ""


def facts(disk_path: Path | str = "/") -> HostFacts:
    """Read the facts of this host. Sends no packet; `public_ip` is None, as only an outside service can tell it."""
    disk = os.statvfs(disk_path)
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    machine = os.uname().machine.lower()
    arch = _ARCHES.get(machine, machine)
    return HostFacts(
        os_name=release.get("NAME") or "Linux",
        os_version=release.get("VERSION_ID") or release.get("BUILD_ID") or "unknown",
        kernel=os.uname().release,
        arch=arch,
        cpu_cores=os.cpu_count() or 1,
        cpu_model=cpu_model(_read_text("/proc/cpuinfo"), _read_text("/proc/device-tree/model")) or arch,
        memory_total_mb=memory_of(_read_text("/proc/meminfo").encode()).get("MemTotal", 0) // _MIB,
        disk_total_gb=disk.f_blocks * disk.f_frsize // _GIB,
        hostname=socket.gethostname(),
        machine_id=_read_text("/etc/machine-id").strip(),
        public_ip=None,
        private_ip=_private_ip(),
    )


def cpu_model(cpuinfo: str, device_tree: str = "") -> str:
    """The CPU name from /proc/cpuinfo; on ARM, which has none, the board's name; "" when both are missing."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon and value.strip():
            fields.setdefault(name.strip(), " ".join(value.split()))
    names = ("model name", "Model", "Hardware", "cpu model", "Processor")
    found = next((fields[name] for name in names if name in fields), "")
    return found or device_tree.strip("\0 \n")


def _private_ip() -> str:
    # Connecting a datagram socket only reads the routing table. The targets are documentation addresses (RFC 5737,
    # RFC 3849); nothing is sent.
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
                asking.connect((target, 9))
                return str(asking.getsockname()[0])
        except OSError:
            continue
    return _interface_ip()


def _interface_ip() -> str:
    """The address of the first real interface: a machine without a default route may have one."""
    import psutil

    addresses = psutil.net_if_addrs()
    for name in counted_interfaces(addresses):
        for entry in addresses[name]:
            if entry.family == socket.AF_INET and not entry.address.startswith("127."):
                return str(entry.address)
    return "127.0.0.1"


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(65_536)
    except OSError:
        return ""
