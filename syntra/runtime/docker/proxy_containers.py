"""The proxy's containers on one engine, of one owner, found by labels. Every call is safe to repeat.

Raises RuntimeUnavailable when the engine cannot be reached and StepFailed when it refuses.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import aclosing

from syntra.model.image import ImageRef
from syntra.runtime.docker import fields
from syntra.runtime.docker.body import OWNER
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.containers import Containers
from syntra.runtime.docker.errors import Conflict, NotFound, translated
from syntra.runtime.docker.identity import Identity
from syntra.runtime.docker.images import Images
from syntra.runtime.docker.logs import Logs
from syntra.runtime.docker.pins import PULL_INACTIVITY_SECS
from syntra.runtime.docker.proxy_body import (
    COMPONENT,
    GRACE_SECS,
    NAME,
    PROXY,
    WantedProxy,
    create_body,
    labels_of,
)
from syntra.runtime.docker.records import ContainerDetails
from syntra.runtime.docker.system import System
from syntra.runtime.errors import StepFailed

CODE = "PROXY_FAILED"
# How often the name may be taken again between finding its container and the next attempt.
ATTEMPTS = 3
TAIL_SECS = 5.0


class ProxyContainers:
    """The proxy's containers of one owner: usually one, two while one replaces the other.

    `name` is the container's name unless another agent's proxy has it; then the owner is appended.
    """

    def __init__(self, client: EngineClient, *, owner: str, name: str = NAME) -> None:
        self._client = client
        self.owner = owner
        self._name = name
        self._containers = Containers(client)
        self._images = Images(client)
        self._identity = Identity(self._images)
        self._system = System(client)

    async def found(self) -> list[ContainerDetails]:
        """All of them, oldest first."""
        with translated(CODE):
            listed = await self._containers.list(labels=labels_of(self.owner))
            ours = [item for item in listed if await self._identity.is_ours(item)]
            details = [await self._inspected(item.id) for item in ours]
        return sorted((item for item in details if item is not None), key=lambda item: item.created)

    async def inspect(self, container_id: str) -> ContainerDetails | None:
        """One of them; None when it does not exist."""
        with translated(CODE):
            return await self._inspected(container_id)

    async def has_image(self, image: ImageRef) -> bool:
        with translated(CODE):
            return await self._images.inspect(image.pullable) is not None

    async def pull(self, image: ImageRef) -> None:
        """Pull the image; limited only by inactivity."""
        with translated("PULL_FAILED"):
            await self._images.pull(image.name, image.version, inactivity_secs=PULL_INACTIVITY_SECS)

    async def create(self, wanted: WantedProxy) -> str:
        """Create without starting; return the id. An older proxy of this owner is renamed first."""
        with translated(CODE):
            await self._client.negotiate()
            body = create_body(wanted, (await self._system.info()).logging_driver, instance=secrets.token_hex(16))
            name = self._name
            for _ in range(ATTEMPTS):
                try:
                    return await self._containers.create(name, body)
                except Conflict as clash:
                    if "name" not in clash.message.lower():
                        raise
                name = await self._free(name)
        raise StepFailed(CODE, f"cannot create container {name}: its name is in use; try again later")

    async def start(self, container_id: str) -> None:
        """Start it and set its restart policy; no error when it already runs."""
        with translated(CODE):
            await self._containers.set_restarts(container_id, "always")
            await self._containers.start(container_id)

    async def stop(self, container_id: str) -> None:
        """SIGTERM, time for open requests, SIGKILL; it stays stopped. No error when it is stopped or removed."""
        with translated(CODE):
            try:
                await self._containers.set_restarts(container_id, "no")
                await self._containers.stop(container_id, GRACE_SECS)
            except NotFound:
                return

    async def remove(self, container_id: str) -> None:
        """Remove it, running or not; no error when it is already gone."""
        with translated(CODE):
            await self._containers.remove(container_id, force=True, volumes=True)

    async def rename(self, container_id: str, name: str) -> None:
        """Give it that name; no error when it already has it."""
        with translated(CODE):
            there = await self._inspected(container_id)
            if there is not None and there.name != name:
                await self._containers.rename(container_id, name)

    async def last_line(self, container_id: str) -> str:
        """The last line of its output, for a failure report; empty when there is none."""
        last = ""
        try:
            with translated(CODE):
                async with (
                    asyncio.timeout(TAIL_SECS),
                    aclosing(Logs(self._client).follow(container_id, tail=1, follow=False)) as lines,
                ):
                    async for line in lines:
                        last = line.message
        except (StepFailed, TimeoutError):
            return ""
        return last

    async def publisher_of(self, host: str, port: int) -> str | None:
        """The name of a running container that publishes this host port.

        `host` is an IP address, or empty for all. The engine may publish ports with firewall rules only, so that the
        port seems free.
        """
        with translated(CODE):
            response = await self._client.request("GET", "/containers/json")
        for row in fields.array({"rows": response.json()}, "rows"):
            for published in fields.array(row, "Ports"):
                there = (fields.integer(published, "PublicPort"), fields.text(published, "Type"))
                if there == (port, "tcp") and _meet(host, fields.text(published, "IP")):
                    return next(iter(fields.texts(row, "Names")), "").lstrip("/")
        return None

    async def _free(self, name: str) -> str:
        """The next name to try: the same if it is free now, with the owner appended if another agent's proxy has it."""
        holder = await self._inspected(name)
        if holder is None:
            return name
        if holder.labels.get(COMPONENT) == PROXY and await self._identity.is_ours(holder):
            if holder.labels.get(OWNER) == self.owner:
                await self._containers.rename(holder.id, f"{name}-before-{secrets.token_hex(3)}")
                return name
            if name == self._name:
                return f"{name}-{self.owner}"
        raise StepFailed(
            CODE,
            f"cannot create container {name}: a container of {holder.image_ref} that this agent did not create "
            "has that name; rename or remove it",
        )

    async def _inspected(self, container: str) -> ContainerDetails | None:
        try:
            return await self._containers.inspect(container)
        except NotFound:
            return None


def _meet(one: str, other: str) -> bool:
    return one == other or not {one, other}.isdisjoint(("", "0.0.0.0", "::"))
