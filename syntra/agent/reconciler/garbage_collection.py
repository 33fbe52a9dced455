"""Removes the agent's containers and images that no service needs, once an hour."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from syntra.agent.journal.journal import Journal
from syntra.agent.operations.service_queues import ServiceQueues
from syntra.model.container import Container
from syntra.model.ids import ServiceId
from syntra.runtime.containers.engine import Containers, Lifecycle
from syntra.runtime.errors import RuntimeFailure
from syntra.runtime.runtime import Failures, Retention
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

FIRST_RUN_SECS = 60.0
RUN_EVERY_SECS = 3600.0
FAILED_KEPT_SECS = 24 * 3600.0
"""How long the container of a failed deployment is kept, from its end."""


class GarbageSource(Containers, Lifecycle, Failures, Retention, Protocol):
    """The engine's capabilities that garbage collection needs."""


class GarbageCollector:
    """Removes stopped containers of old deployments, those of failed deployments after a day, and image pins of
    deployments that are not kept."""

    def __init__(self, journal: Journal, engine: GarbageSource, queues: ServiceQueues) -> None:
        self._journal = journal
        self._engine = engine
        self._queues = queues
        self.stray: tuple[str, ...] = ()

    async def run(self) -> None:
        """Collect until cancelled."""
        await asyncio.sleep(FIRST_RUN_SECS)
        while True:
            try:
                await self.collect()
            except RuntimeFailure as later:
                log.info("garbage collection is put off", extra={"reason": str(later)})
            except AgentError as failed:
                log.error("garbage collection failed", extra={"reason": str(failed)})
            await asyncio.sleep(RUN_EVERY_SECS)

    async def collect(self) -> int:
        """Run one pass. Returns the number of removed containers and tags. Running containers are listed in `stray`."""
        current = {row.service_id: row.deployment_id for row in await self._journal.services()}
        removed = 0
        stray: list[str] = []
        for replica in await self._engine.observe():
            if self._queues.is_busy(replica.service_id) or current.get(replica.service_id) == replica.deployment_id:
                continue
            if replica.is_up or replica.service_id not in current:
                stray.append(replica.name)
            elif await self._is_unneeded(replica):
                log.info("retired container removed", extra={"container": replica.name})
                await self._engine.remove(replica.container_id)
                removed += 1
        self.stray = tuple(stray)
        forgotten = await self._remove_failed()
        removed += len(forgotten)
        keep = await self._journal.kept_by_service()
        idle = frozenset(name for name in {*keep, *forgotten} if not self._queues.is_busy(name))
        return removed + await self._engine.collect_garbage(keep, idle)

    async def _remove_failed(self) -> list[ServiceId]:
        """Remove what failed deployments left long ago; the services whose it was."""
        removed: list[ServiceId] = []
        for item in await self._engine.failed():
            container = item.replica
            if not isinstance(container, Container) or self._queues.is_busy(container.service_id):
                continue
            ended_ns = max(container.created_ns, container.finished_ns or 0)
            if time.time() - ended_ns / 1e9 < FAILED_KEPT_SECS:
                continue
            log.info("failed container removed", extra={"container": container.name})
            await self._engine.remove(container.container_id)
            removed.append(container.service_id)
        return removed

    async def _is_unneeded(self, replica: Container) -> bool:
        # Inspect again just before removal: the list may be cached, and an operation may have begun since.
        now = await self._engine.inspect(replica.container_id)
        row = await self._journal.service(replica.service_id)
        if now is None or now.is_up or row is None or row.deployment_id == replica.deployment_id:
            return False
        return not self._queues.is_busy(replica.service_id)
