"""The space on local file systems. One that does not answer costs a bounded wait once, and is then left out."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

from syntra.utils.frozen import frozen
from syntra.utils.kernel_files import read_kernel_file
from syntra.utils.mounts import Mount, local_once, mounts

ANSWER_SECS = 1.0
"""How long all file systems together may take."""


@frozen
class FileSystem:
    """The space of one file system in bytes. `reserved_bytes` are free, but for root only."""

    device: str
    mountpoint: str
    kind: str
    is_read_only: bool
    used_bytes: int
    free_bytes: int
    reserved_bytes: int

    @property
    def total_bytes(self) -> int:
        """Its size."""
        return self.used_bytes + self.free_bytes + self.reserved_bytes


class FileSystems:
    """Measures the local file systems. `read` is for one thread at a time."""

    def __init__(
        self,
        *,
        mountinfo: str = "/proc/self/mountinfo",
        measure: Callable[[str], os.statvfs_result] = os.statvfs,
        answer_secs: float = ANSWER_SECS,
    ) -> None:
        self._mountinfo = mountinfo
        self._measure = measure
        self._answer_secs = answer_secs
        # Threads that did not return, by the device that they wait for.
        self._hung: dict[str, threading.Thread] = {}

    def read(self) -> list[FileSystem]:
        """The space of each local file system. Raises OSError without a mount table."""
        found = local_once(mounts(read_kernel_file(self._mountinfo)))
        self._hung = {device: thread for device, thread in self._hung.items() if thread.is_alive()}
        work = _Work([mount for mount in found if mount.device not in self._hung], self._measure)
        # No thread of a pool: one that hangs would keep the program from ending.
        thread = threading.Thread(target=work.run, name="file systems", daemon=True)
        thread.start()
        thread.join(self._answer_secs)
        if thread.is_alive():
            self._hung[work.device] = thread
        return list(work.found)

    @property
    def hung(self) -> frozenset[str]:
        """The devices of file systems that have not answered yet."""
        return frozenset(self._hung)


class _Work:
    """What one thread does; it may end long after its results were used."""

    def __init__(self, wanted: Sequence[Mount], measure: Callable[[str], os.statvfs_result]) -> None:
        self._wanted = wanted
        self._measure = measure
        self.device = ""
        self.found: list[FileSystem] = []

    def run(self) -> None:
        for mount in self._wanted:
            self.device = mount.device
            try:
                space = self._measure(mount.mountpoint)
            except OSError:
                # Unmounted meanwhile, or below a directory that we may not enter.
                continue
            if space.f_blocks:
                self.found.append(_file_system(mount, space))


def _file_system(mount: Mount, space: os.statvfs_result) -> FileSystem:
    size = space.f_frsize
    return FileSystem(
        device=mount.source,
        mountpoint=mount.mountpoint,
        kind=mount.kind,
        is_read_only=mount.is_read_only,
        used_bytes=(space.f_blocks - space.f_bfree) * size,
        free_bytes=space.f_bavail * size,
        reserved_bytes=(space.f_bfree - space.f_bavail) * size,
    )
