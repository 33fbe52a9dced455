"""The proxy's containers on one engine: those of one owner, found by labels. Every call is safe to repeat.

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
# How often a name may be taken again between the look at its holder and the next try.
ATTEMPTS = 3
TAIL_SECS = 5.0


class ProxyContainers:
    """The proxy's containers of one owner; mostly one, two while one replaces another.

    `name` is what it is called while no other agent of the same engine has one; then it is that with the owner behind.
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
        """One of them; None when it is gone."""
        with translated(CODE):
            return await self._inspected(container_id)

    async def has_image(self, image: ImageRef) -> bool:
        with translated(CODE):
            return await self._images.inspect(image.pullable) is not None

    async def pull(self, image: ImageRef) -> None:
        """Pull; bounded by its inactivity only."""
        with translated("PULL_FAILED"):
            await self._images.pull(image.name, image.version, inactivity_secs=PULL_INACTIVITY_SECS)

    async def create(self, wanted: WantedProxy) -> str:
        """Create, not start; the id. An older one of ours makes room by taking another name."""
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
        """Start it, and have the engine keep it up; no error when it runs."""
        with translated(CODE):
            await self._containers.update(container_id, {"RestartPolicy": {"Name": "always"}})
            await self._containers.start(container_id)

    async def stop(self, container_id: str) -> None:
        """SIGTERM, time for open requests, SIGKILL; it stays down. No error when it is down or gone."""
        with translated(CODE):
            try:
                await self._containers.update(container_id, {"RestartPolicy": {"Name": "no"}})
                await self._containers.stop(container_id, GRACE_SECS)
            except NotFound:
                return

    async def remove(self, container_id: str) -> None:
        """Remove it, running or not; no error when it is gone."""
        with translated(CODE):
            await self._containers.remove(container_id, force=True)

    async def rename(self, container_id: str, name: str) -> None:
        """Give it that name; no error when it has it."""
        with translated(CODE):
            there = await self._inspected(container_id)
            if there is not None and there.name != name:
                await self._containers.rename(container_id, name)

    async def last_line(self, container_id: str) -> str:
        """The last line of its output, for a failure report; empty when there is none to be had."""
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
        """The name of a running container for which the engine holds this port of the host's.

        `host` is an IP address, or empty for every one. The engine may do it by rules of the firewall alone, so that
        the port looks free.
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
        """The name to try next: the same when its holder is gone or made room, ours alone beside another agent's."""
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
            f"cannot create container {name}: a container of {holder.image_ref} that is not ours has that name; "
            "rename or remove it",
        )

    async def _inspected(self, container: str) -> ContainerDetails | None:
        try:
            return await self._containers.inspect(container)
        except NotFound:
            return None


def _meet(one: str, other: str) -> bool:
    return one == other or not {one, other}.isdisjoint(("", "0.0.0.0", "::"))
