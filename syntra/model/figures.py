"""What a container uses: a reading of its counters, and figures computed from two readings. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from syntra.model.ids import ContainerId
from syntra.model.status import Figures
from syntra.utils.frozen import frozen


@frozen
class ContainerReading:
    """The counters and levels of one container at one moment.

    Sizes in bytes, times in nanoseconds. Counters grow since the container's start. None means that the source does not
    have the value; a limit of None means that there is no limit.
    """

    at_ns: int
    """The moment of `cpu_ns`, by a clock of the source: good for differences only."""
    cpu_ns: int
    cpu_user_ns: int | None = None
    cpu_system_ns: int | None = None
    cpu_limit: float | None = None
    """In cores."""
    periods: int | None = None
    """Periods of the CPU limit, `throttled_periods` those in which it was reached."""
    throttled_periods: int | None = None
    throttled_ns: int | None = None
    memory_bytes: int = 0
    """All memory, with page cache that the kernel can take back."""
    inactive_file_bytes: int = 0
    rss_bytes: int | None = None
    memory_limit_bytes: int | None = None
    minor_faults: int | None = None
    major_faults: int | None = None
    oom_kills: int | None = None
    disks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Bytes read and written, by device."""
    networks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Bytes received and sent, by interface. Empty on the host's network."""
    pids: int = 0
    pids_limit: int | None = None

    @property
    def working_set_bytes(self) -> int:
        """Memory without inactive page cache, as `docker stats` shows it."""
        cache = self.inactive_file_bytes
        return self.memory_bytes - cache if cache < self.memory_bytes else self.memory_bytes


def cpu_percent(last: ContainerReading | None, current: ContainerReading) -> float:
    """The CPU time between two readings in percent of one core; 0 without a reading before, or after a restart."""
    if last is None or current.at_ns <= last.at_ns:
        return 0.0
    return max(0.0, 100.0 * (current.cpu_ns - last.cpu_ns) / (current.at_ns - last.at_ns))


def figures_of(
    container_id: ContainerId, name: str, last: ContainerReading | None, current: ContainerReading
) -> Figures:
    """The figures of a container: rates since `last`, all else as of `current`."""
    return Figures(
        container_id=container_id,
        name=name,
        cpu_percent=cpu_percent(last, current),
        memory_bytes=current.working_set_bytes,
        memory_limit_bytes=current.memory_limit_bytes,
        network_rx_bytes=sum(received for received, _ in current.networks.values()),
        network_tx_bytes=sum(sent for _, sent in current.networks.values()),
        block_read_bytes=sum(read for read, _ in current.disks.values()),
        block_write_bytes=sum(written for _, written in current.disks.values()),
        pids=current.pids,
    )
