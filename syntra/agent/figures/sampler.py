"""Samples what the host and the containers use. All readers share the samples, so nothing is read twice."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from syntra.model.figures import ContainerReading, figures_of
from syntra.model.ids import ContainerId
from syntra.model.status import Figures, Replica
from syntra.runtime.errors import RuntimeFailure
from syntra.runtime.runtime import Usage
from syntra.utils.frozen import frozen
from syntra.utils.host_reading import HostReading

log = logging.getLogger(__name__)

FRESH_SECS = 1.0
"""A sample this young is as good as a new one; it is also the shortest time that rates are computed over."""
ENGINE_SECS = 5.0
"""How long a sample waits for the engine. Without an answer the last known containers are read."""


class Source(Usage, Protocol):
    """What of the runtime is needed."""

    async def observe(self) -> Sequence[Replica]: ...


class Host(Protocol):
    """Reads the host; see `utils.host_reading`. Blocks for a few milliseconds."""

    def read(self) -> HostReading: ...


@frozen
class Measured:
    """One running replica: its reading, and the figures between this reading and the one before."""

    replica: Replica
    reading: ContainerReading
    figures: Figures
    before: ContainerReading | None
    """The reading before; None in the first sample, and after a restart. Rates are 0 then."""

    @property
    def is_first(self) -> bool:
        """Whether there was no reading before."""
        return self.before is None


@frozen
class Sample:
    """One moment: `at` by the monotonic clock in seconds, `time_ns` in Unix nanoseconds."""

    at: float
    time_ns: int
    host: HostReading | None
    """None when the host cannot be read."""
    containers: Mapping[ContainerId, Measured]

    def figures(self, container_id: ContainerId) -> Figures | None:
        """The figures of a container; None when it does not run, or cannot be measured."""
        found = self.containers.get(container_id)
        return found.figures if found is not None else None


NO_SAMPLE = Sample(at=float("-inf"), time_ns=0, host=None, containers={})
"""What there is before the first sample."""


class Sampler:
    """Takes samples when they are asked for, one at a time, and keeps the last one."""

    def __init__(
        self,
        source: Source,
        host: Host,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._source = source
        self._host = host
        self._clock = clock
        self._wall_clock_ns = wall_clock_ns
        self._taking = asyncio.Lock()
        self._reading_host = asyncio.Lock()
        self._known: Sequence[Replica] = ()
        self._host_at = float("-inf")
        self._host_reading: HostReading | None = None
        self.last: Sample = NO_SAMPLE
        """The last sample, however old."""

    async def host(self) -> HostReading:
        """The host alone, which needs no runtime; at most FRESH_SECS old. Raises OSError when it cannot be read."""
        async with self._reading_host:
            if self._host_reading is None or self._clock() - self._host_at >= FRESH_SECS:
                at = self._clock()
                self._host_reading = await asyncio.to_thread(self._host.read)
                self._host_at = at
            return self._host_reading

    async def sample(self) -> Sample:
        """A sample at most FRESH_SECS old. Raises nothing for a runtime that does not answer."""
        async with self._taking:
            if self._clock() - self.last.at >= FRESH_SECS:
                self.last = await self._take()
            return self.last

    async def with_rates(self) -> Sample:
        """A sample in which every container has a rate: for one that is new, that takes a second."""
        sample = await self.sample()
        if any(measured.is_first for measured in sample.containers.values()):
            await asyncio.sleep(FRESH_SECS)
            sample = await self.sample()
        return sample

    async def _take(self) -> Sample:
        last = self.last.containers
        at, time_ns = self._clock(), self._wall_clock_ns()
        host: HostReading | None = None
        try:
            host = await self.host()
        except OSError as unread:
            log.warning("cannot read the host's figures", extra={"reason": str(unread)})
        readings: Mapping[ContainerId, ContainerReading] = {}
        try:
            async with asyncio.timeout(ENGINE_SECS):
                self._known = await self._source.observe()
        except (RuntimeFailure, TimeoutError) as away:
            log.debug("containers are read as last known", extra={"reason": str(away)})
        try:
            async with asyncio.timeout(ENGINE_SECS):
                readings = await self._source.readings(self._known)
        except (RuntimeFailure, TimeoutError) as unread:
            log.debug("containers cannot be measured", extra={"reason": str(unread)})
        containers = {
            replica.container_id: _measured(replica, last.get(replica.container_id), reading)
            for replica in self._known
            if (reading := readings.get(replica.container_id)) is not None
        }
        return Sample(at=at, time_ns=time_ns, host=host, containers=containers)


def _measured(replica: Replica, last: Measured | None, reading: ContainerReading) -> Measured:
    # After a restart the counters begin again at 0.
    before = last.reading if last is not None and reading.cpu_ns >= last.reading.cpu_ns else None
    return Measured(
        replica=replica,
        reading=reading,
        figures=figures_of(replica.container_id, replica.name, before, reading),
        before=before,
    )
