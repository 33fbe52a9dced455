"""Readings of several containers: from cgroup files where possible, from the engine's statistics elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from syntra.model.container import Container
from syntra.model.figures import ContainerReading
from syntra.model.ids import ContainerId
from syntra.model.status import Replica
from syntra.runtime.docker.cgroup import CgroupReader
from syntra.runtime.docker.containers import Containers
from syntra.runtime.docker.errors import DockerError
from syntra.runtime.docker.stats import container_reading

log = logging.getLogger(__name__)

STATS_AT_ONCE = 4
"""A call for statistics keeps the engine busy for milliseconds."""


class Readings:
    """Reads the running containers of one engine."""

    def __init__(self, containers: Containers, reader: CgroupReader) -> None:
        self._containers = containers
        self._reader = reader
        self._reading = asyncio.Lock()

    async def read(self, replicas: Sequence[Replica]) -> dict[ContainerId, ContainerReading]:
        """See `runtime.Usage.readings`."""
        running = [one for one in replicas if isinstance(one, Container) and one.is_running]
        async with self._reading:
            found = await asyncio.to_thread(self._from_files, running)
        without = [one.container_id for one in running if one.container_id not in found]
        if without:
            limit = asyncio.Semaphore(STATS_AT_ONCE)
            async with asyncio.TaskGroup() as group:
                tasks = {one: group.create_task(self._ask(one, limit), name=f"stats {one[:12]}") for one in without}
            found |= {one: reading for one, task in tasks.items() if (reading := task.result()) is not None}
        return found

    def _from_files(self, running: Sequence[Container]) -> dict[ContainerId, ContainerReading]:
        self._reader.keep({one.container_id for one in running})
        read = self._reader.read
        return {
            one.container_id: reading for one in running if (reading := read(one.container_id, one.pid)) is not None
        }

    async def _ask(self, container_id: ContainerId, limit: asyncio.Semaphore) -> ContainerReading | None:
        async with limit:
            try:
                return container_reading(await self._containers.stats(container_id))
            except DockerError as unread:
                log.debug("container cannot be measured", extra={"container_id": container_id, "reason": str(unread)})
                return None
