"""The broom: once in a while, what carries our labels and no service needs any more goes."""

from __future__ import annotations

import asyncio
import logging

from syntra.agent.journal.journal import Journal
from syntra.agent.operations.service_queues import ServiceQueues
from syntra.model.status import Replica
from syntra.runtime.adapter import Adapter
from syntra.runtime.errors import RuntimeUnavailable, StepFailed
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

FIRST_SWEEP_SECS = 60.0
SWEEP_EVERY_SECS = 3600.0


class GarbageCollector:
    """Removes stopped containers of retired deployments and image pins of deployments that are not kept."""

    def __init__(self, journal: Journal, adapter: Adapter, queues: ServiceQueues) -> None:
        self._journal = journal
        self._adapter = adapter
        self._queues = queues
        self.stray: tuple[str, ...] = ()

    async def run(self) -> None:
        """Sweep until cancelled."""
        await asyncio.sleep(FIRST_SWEEP_SECS)
        while True:
            try:
                await self.sweep()
            except (RuntimeUnavailable, StepFailed) as later:
                log.info("sweep put off", extra={"reason": str(later)})
            except AgentError as failed:
                log.error("sweep failed", extra={"reason": str(failed)})
            await asyncio.sleep(SWEEP_EVERY_SECS)

    async def sweep(self) -> int:
        """One pass; returns how many containers and names went. Running containers are only ever named, not touched."""
        current = {row.service_id: row.deployment_id for row in await self._journal.services()}
        gone = 0
        stray: list[str] = []
        for replica in await self._adapter.observe():
            if self._queues.is_busy(replica.service_id) or current.get(replica.service_id) == replica.deployment_id:
                continue
            if replica.is_up or replica.service_id not in current:
                stray.append(replica.name)
            elif await self._is_unneeded(replica):
                log.info("retired container removed", extra={"container": replica.name})
                await self._adapter.remove(replica.container_id)
                gone += 1
        self.stray = tuple(stray)
        keep = await self._journal.kept_by_service()
        idle = frozenset(service_id for service_id in keep if not self._queues.is_busy(service_id))
        return gone + await self._adapter.collect_garbage(keep, idle)

    async def _is_unneeded(self, replica: Replica) -> bool:
        # Looked at again just before removal: the list may be from memory, and an operation may have begun since.
        now = await self._adapter.inspect(replica.container_id)
        row = await self._journal.service(replica.service_id)
        if now is None or now.is_up or row is None or row.deployment_id == replica.deployment_id:
            return False
        return not self._queues.is_busy(replica.service_id)
