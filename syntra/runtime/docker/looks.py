"""Lists the containers of one owner, leaves out copies that only have its labels, and inspects the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from syntra.model.ids import ServiceId
from syntra.model.image import ResolvedImage
from syntra.model.spec import Deployment
from syntra.runtime.docker import body
from syntra.runtime.docker.containers import Containers
from syntra.runtime.docker.errors import NotFound
from syntra.runtime.docker.failed import is_failed
from syntra.runtime.docker.identity import Identity, Stray
from syntra.runtime.docker.records import ContainerDetails, ContainerSummary
from syntra.runtime.docker.watch import ContainerWatch

INSPECTS_AT_ONCE = 4


class Looks:
    """`watch` caches inspections that are still valid. Raises the client's errors."""

    def __init__(self, containers: Containers, watch: ContainerWatch, identity: Identity, *, owner: str) -> None:
        self._containers = containers
        self._watch = watch
        self._identity = identity
        self._ours: Mapping[str, str | None] = {body.MANAGED: "true", body.OWNER: owner}
        self.strays: tuple[Stray, ...] = ()
        """Containers with the agent's labels that are not the agent's, as of the last list of all containers."""

    async def details(self, service_id: ServiceId | None, *, fresh: bool) -> list[ContainerDetails]:
        """All containers of the agent, or of one service; `fresh`: nothing from the cache."""
        labels = self._ours if service_id is None else {**self._ours, body.SERVICE: service_id}
        listed = await self._containers.list(labels=labels)
        ours = [item for item in listed if await self._identity.is_ours(item)]
        if service_id is None:
            self._watch.keep_only({item.id for item in listed})
            self._identity.keep_only(item.id for item in listed)
            own = {item.id for item in ours}
            self.strays = tuple([await self._identity.stray(item) for item in listed if item.id not in own])
        limit = asyncio.Semaphore(INSPECTS_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._one(item, limit, fresh=fresh), name=f"inspect {item.id[:12]}")
                    for item in ours
                ]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [details for task in tasks if (details := task.result()) is not None]

    async def inspect(self, container_id: str) -> ContainerDetails | None:
        """One container; None when it does not exist, or is not the agent's."""
        try:
            details = await self._containers.inspect(container_id)
        except NotFound:
            return None
        return details if await self._identity.is_ours(details) else None

    async def image_of(self, deployment: Deployment) -> ResolvedImage | None:
        """The image that the deployment's replicas were created from, for a deployment whose image was not recorded."""
        replicas = await self.details(deployment.spec.service_id, fresh=True)
        alike = [item for item in replicas if item.labels.get(body.DEPLOYMENT) == deployment.deployment_id]
        for item in sorted(alike, key=lambda item: (not item.state.running, item.created)):
            return ResolvedImage(image_id=item.image_id, digest=item.labels.get(body.IMAGE_DIGEST, ""))
        return None

    async def wants_network(self, project: str, network: str) -> bool:
        """Whether a project's network has a container of the agent's, or any other that is attached to it.

        By labels, not endpoints: a stopped container has no endpoint but will need the network again. One of a failed
        deployment is never started again.
        """
        for item in await self._containers.list(labels={body.MANAGED: "true", body.PROJECT: project}):
            if is_failed(item.name, item.labels) and item.state != "running":
                continue
            if network in item.addresses or await self._identity.is_ours(item):
                return True
        return False

    async def _one(self, item: ContainerSummary, limit: asyncio.Semaphore, *, fresh: bool) -> ContainerDetails | None:
        known = None if fresh else self._watch.remembered(item.id)
        if known is not None:
            return known
        async with limit:
            token = self._watch.token()
            try:
                details = await self._containers.inspect(item.id)
            except NotFound:
                return None
            self._watch.remember(details, token)
            return details
