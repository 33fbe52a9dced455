"""Records which images the kept deployments of earlier versions are made of, once after the start.

Those versions stored no image id and no digest. Without a digest an image cannot be pulled again, so that a rollback
would be refused after `docker image prune -a`.
"""

from __future__ import annotations

import asyncio
import logging

from syntra.agent.journal.journal import Journal
from syntra.agent.operations.service_queues import ServiceQueues
from syntra.runtime.containers.engine import Images
from syntra.runtime.errors import RuntimeFailure
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

RETRY_SECS = 30.0


class ImageRecords:
    """Fills in the journal. A deployment whose image is not here stays without a record."""

    def __init__(self, journal: Journal, engine: Images, queues: ServiceQueues) -> None:
        self._journal = journal
        self._engine = engine
        self._queues = queues

    async def run(self) -> None:
        """Record what is missing; again until the engine and the journal have answered for every deployment."""
        while True:
            try:
                recorded, is_complete = await self.record()
            except RuntimeFailure as later:
                log.info("image records are put off", extra={"reason": str(later)})
            except AgentError as failed:
                log.warning("cannot record images", extra={"reason": str(failed)})
            else:
                if recorded:
                    log.info("images of earlier deployments recorded", extra={"count": recorded})
                if is_complete:
                    return
            await asyncio.sleep(RETRY_SECS)

    async def record(self) -> tuple[int, bool]:
        """One pass. Returns how many deployments have a record now that had none, and whether none was put off."""
        recorded, is_complete = 0, True
        for service_id, kept in sorted((await self._journal.kept_by_service()).items()):
            for deployment_id in sorted(kept):
                # A running operation records the image of its deployment itself.
                if self._queues.is_busy(service_id):
                    is_complete = False
                    break
                deployment = await self._journal.deployment(service_id, deployment_id)
                if deployment is None or deployment.resolved is not None:
                    continue
                image = await self._engine.resolved_image(deployment)
                if image is not None:
                    await self._journal.resolved(service_id, deployment_id, image)
                    recorded += 1
        return recorded, is_complete
