"""Reads what a container uses from the files of its cgroups and of its network namespace, without the engine.

A stats call takes the engine up to a second; these are a dozen small reads. Works if the agent runs on the engine's
host and in its cgroup namespace. Reads block, but touch no disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

from syntra.model.figures import ContainerReading
from syntra.model.ids import ContainerId
from syntra.runtime.docker.cgroup_files import Values, Version1, Version2
from syntra.utils.kernel_files import interfaces, read_kernel_file

_DEVICES = 1024
_LIMITS_NS = 60 * 10**9


class CgroupReader:
    """Finds the cgroups of processes, remembers where they are, and reads them. The roots are arguments for tests."""

    def __init__(
        self,
        cgroup_root: Path = Path("/sys/fs/cgroup"),
        proc_root: Path = Path("/proc"),
        block_root: Path = Path("/sys/dev/block"),
    ) -> None:
        self._cgroups = cgroup_root
        self._proc = proc_root
        self._blocks = block_root
        self._known: dict[ContainerId, _Process] = {}
        self._devices: dict[str, str] = {}

    def read(self, container_id: ContainerId, pid: int) -> ContainerReading | None:
        """The reading of a container whose `State.Pid` is `pid`; None when process or files are gone.

        None too when the process is not the container's: the engine may be on another host.
        """
        if pid <= 0:
            return None
        try:
            known = self._known.get(container_id)
            if known is None or known.pid != pid:
                known = self._known[container_id] = self._find(container_id, pid)
            # Before the cgroup, which is gone when the pid is another process's by now.
            networks = known.networks()
            files = known.files
            at_ns = time.monotonic_ns()
            return ContainerReading(
                at_ns=at_ns,
                **files.cpu(),
                **files.memory(),
                **known.limits(at_ns),
                disks=files.disks(self._device),
                networks=networks,
                pids=files.pids(),
            )
        except (OSError, ValueError, KeyError):
            # The container ended meanwhile, or the layout is unknown.
            self._known.pop(container_id, None)
            return None

    def keep(self, container_ids: Collection[ContainerId]) -> None:
        """Forget all containers but these."""
        for container_id in self._known.keys() - set(container_ids):
            self._known.pop(container_id, None)

    def _find(self, container_id: ContainerId, pid: int) -> _Process:
        proc = self._proc / str(pid)
        paths = _parse_paths((proc / "cgroup").read_text())
        is_v1 = "cpuacct" in paths and "memory" in paths
        if container_id not in paths.get("cpuacct" if is_v1 else "", ""):
            raise FileNotFoundError("the process has no cgroup of the container")
        unified = self._cgroups / "unified"
        root = unified if unified.is_dir() else self._cgroups
        files = Version1(self._cgroups, paths) if is_v1 else Version2(root, paths[""])
        return _Process(pid, proc, files, _namespace(self._proc / "1"))

    def _device(self, numbers: str) -> str:
        name = self._devices.get(numbers)
        if name is None:
            try:
                name = os.path.basename(os.readlink(self._blocks / numbers))
            except OSError:
                name = numbers
            if len(self._devices) >= _DEVICES:
                self._devices.clear()
            self._devices[numbers] = name
        return name


class _Process:
    """A container's first process: its cgroups, and its network namespace unless that is the host's."""

    def __init__(self, pid: int, proc: Path, files: Version1 | Version2, host_network: str) -> None:
        self.pid = pid
        self.files = files
        self._limits: Values = {}
        self._limits_until_ns = 0
        own = _namespace(proc)
        self._net_dev = "" if own and own == host_network else f"{proc}/net/dev"

    def limits(self, now_ns: int) -> Values:
        """The limits, at most a minute old: they are a quarter of all reads."""
        if now_ns >= self._limits_until_ns:
            self._limits = self.files.limits()
            self._limits_until_ns = now_ns + _LIMITS_NS
        return self._limits

    def networks(self) -> dict[str, tuple[int, int]]:
        """Bytes received and sent by interface, without the loopback."""
        if not self._net_dev:
            return {}
        try:
            found = interfaces(read_kernel_file(self._net_dev))
        except OSError:
            # No permission, or no network.
            return {}
        return {name: (counters[0], counters[8]) for name, counters in found.items() if name != "lo"}


def _namespace(proc: Path) -> str:
    try:
        return os.readlink(proc / "ns/net")
    except OSError:
        return ""


def _parse_paths(text: str) -> dict[str, str]:
    """Parse `/proc/PID/cgroup`: controller to path; the v2 hierarchy has the name ""."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if ".." in path.split("/"):
            raise ValueError("the cgroup lies outside of our namespace")
        for controller in controllers.split(","):
            paths[controller] = path
    return paths
