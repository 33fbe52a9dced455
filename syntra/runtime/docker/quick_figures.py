"""CPU and memory of containers from their cgroup files: cheap enough for every heartbeat, unlike the engine's stats."""

from __future__ import annotations

import time
from collections.abc import Callable

from syntra.model.ids import ContainerId
from syntra.runtime.docker.cgroup import CgroupReader


class QuickFigures:
    """Remembers the last CPU reading of each container, so that two readings make a rate."""

    def __init__(self, reader: CgroupReader, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader = reader
        self._clock = clock
        self._last: dict[ContainerId, tuple[int, float, int]] = {}

    def read(self, container_id: ContainerId, pid: int) -> tuple[float, int] | None:
        """CPU percent (100 is one core; 0 at the first reading) and memory bytes; None when there is no cgroup."""
        figures = self._reader.read(pid)
        if figures is None:
            return None
        now = self._clock()
        last = self._last.get(container_id)
        self._last[container_id] = (pid, now, figures.cpu_usage_ns)
        if last is None or last[0] != pid or now <= last[1]:
            return 0.0, figures.memory_bytes
        rate = (figures.cpu_usage_ns - last[2]) / 1e9 / (now - last[1])
        return max(0.0, 100.0 * rate), figures.memory_bytes

    def forget(self, container_id: ContainerId) -> None:
        """The container is gone."""
        self._last.pop(container_id, None)
