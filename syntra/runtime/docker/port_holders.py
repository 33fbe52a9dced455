"""Who holds a port of this host: a container by its name, else a process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from syntra.model.ids import ContainerId
from syntra.runtime.docker import body
from syntra.runtime.docker.containers import Containers
from syntra.runtime.docker.errors import DockerError, EngineError, refused
from syntra.runtime.docker.explanations import port_is_taken
from syntra.runtime.docker.identity import Identity
from syntra.runtime.docker.records import ContainerSummary
from syntra.runtime.errors import StepFailed

# Of a port: what listens there, such as `nginx (pid 12)`, or "". Blocks for milliseconds.
FindProcess = Callable[[int], str]


class PortHolders:
    """Asks the engine first, then the host."""

    def __init__(self, containers: Containers, identity: Identity, find_process: FindProcess) -> None:
        self._containers = containers
        self._identity = identity
        self._find_process = find_process

    async def refusal(self, port: int, error: EngineError, container_id: ContainerId) -> StepFailed:
        """The executor's error for a start that the engine refused because of the port."""
        return refused("START_FAILED", error, container_id, port_is_taken(port, await self.of(port)))

    async def of(self, port: int, *, service_id: str = "") -> str:
        """Who has the port, in words; "" when the port is free or that cannot be known.

        What the service itself holds does not count: it is stopped before it is replaced.
        """
        try:
            listed = await self._containers.list(labels={}, all=False, published=port)
            services = [await self._service_of(item) for item in listed]
        except DockerError:
            return ""
        if service_id and service_id in services:
            return ""
        for item, service in zip(listed, services, strict=True):
            return f"container {item.name}" + (f" of service {service}" if service else "")
        return await asyncio.to_thread(self._find_process, port)

    async def _service_of(self, item: ContainerSummary) -> str:
        # A copy of a replica has its labels too, but is not replaced.
        service = item.labels.get(body.SERVICE, "")
        return service if service and await self._identity.is_ours(item) else ""
