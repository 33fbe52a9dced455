"""The files of one container's cgroups, of version 1 and 2: which they are, and the reading in them.

Files of controllers that the host has not enabled are missing; their values are then unknown or 0. Sources: the
kernel's admin-guide, cgroup-v1 and cgroup-v2.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from syntra.utils.kernel_files import keyed, read_kernel_file, whole

_NO_LIMIT = 1 << 62
"""Version 1 has no word for unlimited: it says the largest number of pages, in bytes."""
# Distributions mount cpu and cpuacct together, in either order or under one name.
_MOUNT_NAMES = {
    "cpuacct": ("cpuacct", "cpu,cpuacct", "cpuacct,cpu"),
    "cpu": ("cpu", "cpu,cpuacct", "cpuacct,cpu"),
}

Values = dict[str, Any]
"""Fields of a ContainerReading."""
Device = Callable[[str], str]
"""The name of a block device by its numbers, such as `8:0`."""


class Version1:
    """A container's directories in the hierarchies of version 1."""

    def __init__(self, root: Path, paths: Mapping[str, str]) -> None:
        """`paths` is the path in each hierarchy by controller. Raises OSError without CPU and memory."""
        self._account = _directory(root, "cpuacct", paths["cpuacct"])
        self._memory = _directory(root, "memory", paths["memory"])
        self._cpu = _optional(root, "cpu", paths)
        self._io = _optional(root, "blkio", paths)
        self._pids = _optional(root, "pids", paths)

    def cpu(self) -> Values:
        """CPU time and throttling. Raises OSError when the container is gone."""
        found = keyed(_content(f"{self._cpu}/cpu.stat"))
        return {
            **self._times(),
            "periods": whole(found, b"nr_periods"),
            "throttled_periods": whole(found, b"nr_throttled"),
            "throttled_ns": whole(found, b"throttled_time"),
        }

    def _times(self) -> Values:
        usage = int(read_kernel_file(f"{self._account}/cpuacct.usage"))
        # One line for each processor: its number, user and system time. The kernel counts these two in ticks, so they
        # do not add up to the usage. Kernels before 4.9 do not have the file.
        each = _content(f"{self._account}/cpuacct.usage_all").split()[3:]
        if not each:
            return {"cpu_ns": usage}
        return {
            "cpu_ns": usage,
            "cpu_user_ns": sum(map(int, each[1::3])),
            "cpu_system_ns": sum(map(int, each[2::3])),
        }

    def memory(self) -> Values:
        """Memory, its limit, page faults and kills. Raises OSError when the container is gone."""
        usage = int(read_kernel_file(f"{self._memory}/memory.usage_in_bytes"))
        found = keyed(read_kernel_file(f"{self._memory}/memory.stat"))
        limit = whole(found, b"hierarchical_memory_limit")
        return {
            "memory_bytes": usage,
            "inactive_file_bytes": whole(found, b"total_inactive_file") or 0,
            "rss_bytes": whole(found, b"total_rss"),
            "memory_limit_bytes": limit if limit is not None and limit < _NO_LIMIT else None,
            **_faults(whole(found, b"total_pgfault"), whole(found, b"total_pgmajfault")),
            "oom_kills": whole(keyed(_content(f"{self._memory}/memory.oom_control")), b"oom_kill"),
        }

    def disks(self, device: Device) -> dict[str, tuple[int, int]]:
        """Bytes read and written by device."""
        found: dict[str, list[int]] = {}
        for line in _content(f"{self._io}/blkio.throttle.io_service_bytes_recursive").decode().splitlines():
            numbers, _, rest = line.partition(" ")
            operation, _, value = rest.partition(" ")
            # Also there: Sync, Async, Discard and Total, which count the same bytes again.
            if operation in ("Read", "Write"):
                found.setdefault(device(numbers), [0, 0])[operation == "Write"] += int(value)
        return {name: (read, written) for name, (read, written) in found.items()}

    def pids(self) -> int:
        """The number of processes and threads."""
        return _number(f"{self._pids}/pids.current") or 0

    def limits(self) -> Values:
        """The limits that are files of their own. They seldom change."""
        quota, period = _number(f"{self._cpu}/cpu.cfs_quota_us"), _number(f"{self._cpu}/cpu.cfs_period_us")
        return {
            "cpu_limit": quota / period if quota is not None and quota > 0 and period else None,
            "pids_limit": _number(f"{self._pids}/pids.max"),
        }


class Version2:
    """A container's directory in the unified hierarchy."""

    def __init__(self, root: Path, path: str) -> None:
        """Raises OSError when it does not exist."""
        self._group = str(_existing(root, path))

    def cpu(self) -> Values:
        """As of version 1."""
        found = keyed(read_kernel_file(f"{self._group}/cpu.stat"))
        return {
            "cpu_ns": int(found[b"usage_usec"]) * 1000,
            "cpu_user_ns": _nanoseconds(found, b"user_usec"),
            "cpu_system_ns": _nanoseconds(found, b"system_usec"),
            "periods": whole(found, b"nr_periods"),
            "throttled_periods": whole(found, b"nr_throttled"),
            "throttled_ns": _nanoseconds(found, b"throttled_usec"),
        }

    def memory(self) -> Values:
        """As of version 1."""
        usage = int(read_kernel_file(f"{self._group}/memory.current"))
        found = keyed(read_kernel_file(f"{self._group}/memory.stat"))
        return {
            "memory_bytes": usage,
            "inactive_file_bytes": whole(found, b"inactive_file") or 0,
            "rss_bytes": whole(found, b"anon"),
            **_faults(whole(found, b"pgfault"), whole(found, b"pgmajfault")),
            "oom_kills": whole(keyed(_content(f"{self._group}/memory.events")), b"oom_kill"),
        }

    def disks(self, device: Device) -> dict[str, tuple[int, int]]:
        """As of version 1."""
        found: dict[str, tuple[int, int]] = {}
        for line in _content(f"{self._group}/io.stat").decode().splitlines():
            numbers, *pairs = line.split()
            values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            if "rbytes" in values or "wbytes" in values:
                found[device(numbers)] = (int(values.get("rbytes", 0)), int(values.get("wbytes", 0)))
        return found

    def pids(self) -> int:
        """As of version 1."""
        return _number(f"{self._group}/pids.current") or 0

    def limits(self) -> Values:
        """As of version 1."""
        quota, _, period = _content(f"{self._group}/cpu.max").strip().partition(b" ")
        return {
            "cpu_limit": int(quota) / int(period) if quota.isdigit() and period.isdigit() else None,
            "memory_limit_bytes": _number(f"{self._group}/memory.max"),
            "pids_limit": _number(f"{self._group}/pids.max"),
        }


def _nanoseconds(found: Mapping[bytes, bytes], name: bytes) -> int | None:
    microseconds = whole(found, name)
    return None if microseconds is None else microseconds * 1000


def _faults(all_of_them: int | None, major: int | None) -> Values:
    """The kernel counts major faults among all of them."""
    minor = None if all_of_them is None else max(0, all_of_them - (major or 0))
    return {"minor_faults": minor, "major_faults": major}


def _directory(root: Path, controller: str, path: str) -> str:
    for name in _MOUNT_NAMES.get(controller, (controller,)):
        directory = root / name / path.lstrip("/")
        if directory.is_dir():
            return str(directory)
    raise FileNotFoundError(f"no cgroup directory for {controller}")


def _optional(root: Path, controller: str, paths: Mapping[str, str]) -> str:
    try:
        return _directory(root, controller, paths[controller])
    except (KeyError, FileNotFoundError):
        # Every read below it finds no file.
        return os.devnull


def _existing(root: Path, path: str) -> Path:
    directory = root / path.lstrip("/")
    if not directory.is_dir():
        raise FileNotFoundError(f"no cgroup directory {directory}")
    return directory


def _content(path: str) -> bytes:
    """A file that may be missing; empty then."""
    try:
        return read_kernel_file(path)
    except OSError:
        return b""


def _number(path: str) -> int | None:
    """A file with a whole number; None when it is missing, or says that there is no limit."""
    try:
        return int(read_kernel_file(path))
    except (OSError, ValueError):
        return None
