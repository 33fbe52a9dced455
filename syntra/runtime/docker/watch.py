"""Follows the engine's events: reports changes, and decides which cached inspections are still valid.

The engine keeps 256 events and drops those of a slow reader, so events are hints, not facts: the cache is cleared
whenever the stream breaks, and entries expire after MEMORY_SECS.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing

from syntra.model.container import Container
from syntra.runtime.docker.body import MANAGED, OWNER, network_name
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.errors import DockerError
from syntra.runtime.docker.events import Events
from syntra.runtime.docker.exits import ExitTracker
from syntra.runtime.docker.product import Product
from syntra.runtime.docker.records import ContainerDetails, EngineEvent

log = logging.getLogger(__name__)

MEMORY_SECS = 120.0
# A cached list expires after this time, whatever the events say.
LIST_SECS = 5.0
# A single change is reported at once; further ones, as in a deploy, are grouped.
ANNOUNCE_PAUSE_SECS = 0.05
# After the engine's return, changes are reported at most this late.
RECONNECT_SECS = 0.5
RECONNECT_MAX_SECS = 1.5
# Exec probes cause three events each, which do not affect the cache.
_ACTIONS = (
    "create",
    "start",
    "die",
    "kill",
    "stop",
    "restart",
    "pause",
    "unpause",
    "oom",
    "destroy",
    "update",
    "rename",
    # Without the status behind it the engine's filter takes every status.
    "health_status",
)
_NETWORK_ACTIONS = ("connect", "disconnect")
_OUR_NETWORKS = network_name("")


def _ignore_changes() -> None:
    """Before `run`."""


class ContainerWatch:
    """The event stream, and the cache that it invalidates."""

    def __init__(
        self,
        client: EngineClient,
        *,
        owner: str | None = None,
        exits: ExitTracker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`exits` gets every event, and every gap between them. Without `owner`: the containers of all owners."""
        self._client = client
        self._events = Events(client)
        self._owner = owner
        self._exits = exits
        self._clock = clock
        self._memory: dict[str, tuple[float, ContainerDetails]] = {}
        self._generation = 0
        self._connected = False
        self._on_change: Callable[[], None] = _ignore_changes
        self.on_other: Callable[[], None] = _ignore_changes
        """Called after a container that is none of the agent's has changed."""
        self._all: tuple[float, int, list[Container]] | None = None
        self._announced_at = float("-inf")
        self._later: asyncio.TimerHandle | None = None

    async def run(self, on_change: Callable[[], None]) -> None:
        """Follow events until cancelled; always reconnects.

        `on_change` is called after one of the containers has changed, and after the stream broke or was opened.
        """
        self._on_change = on_change
        try:
            await self._follow()
        finally:
            if self._later is not None:
                self._later.cancel()

    async def _follow(self) -> None:
        pause = RECONNECT_SECS
        while True:
            try:
                # Not filtered by label: network events have none, and they report a running container's new address.
                filters = {"type": ["container", "network"]}
                # Podman's filter knows other words and loses events that it should pass.
                if await self._client.product() is Product.DOCKER:
                    filters["event"] = [*_ACTIONS, *_NETWORK_ACTIONS]
                # `since` closes the gap: events from before the subscription are sent after it.
                stream = self._events.stream(since=time.time_ns(), filters=filters, on_open=self._opened)
                async with aclosing(stream) as events:
                    async for event in events:
                        pause = RECONNECT_SECS
                        container_id = self._container_of(event)
                        if container_id is not None:
                            self._memory.pop(container_id, None)
                            self._generation += 1
                            if self._exits is not None and event.type == "container":
                                self._exits.feed(event)
                            self._announce()
                        elif event.type == "container":
                            self.on_other()
            except DockerError as broken:
                log.debug("event stream ended", extra={"reason": str(broken)})
            finally:
                was_connected, self._connected = self._connected, False
                self._forget_all()
            if was_connected:
                self._announce()
            await asyncio.sleep(pause)
            pause = min(pause * 2, RECONNECT_MAX_SECS)

    def token(self) -> int:
        """For `remember`: shows whether an event came between the start and the end of an inspection."""
        return self._generation

    def remember(self, details: ContainerDetails, token: int) -> None:
        """Cache an inspection that began at `token`."""
        if self._connected and token == self._generation:
            self._memory[details.id] = (self._clock(), details)

    def remembered(self, container_id: str) -> ContainerDetails | None:
        """A cached inspection that is still valid, or None."""
        at, details = self._memory.get(container_id, (0.0, None))
        return details if details is not None and self._clock() - at < MEMORY_SECS else None

    def touched(self, container_id: str | None = None) -> None:
        """The agent has changed a container: the event has not arrived yet, so cached data is older."""
        if container_id is not None:
            self._memory.pop(container_id, None)
        self._generation += 1

    def remember_all(self, replicas: list[Container], token: int) -> None:
        """Cache a list of all containers that began at `token`."""
        if self._connected and token == self._generation:
            self._all = (self._clock(), token, replicas)

    def remembered_all(self) -> list[Container] | None:
        """The cached list if no event came since, or None."""
        if self._all is None:
            return None
        at, token, replicas = self._all
        holds = self._connected and token == self._generation and self._clock() - at < LIST_SECS
        return [*replicas] if holds else None

    def keep_only(self, ids: set[str]) -> None:
        """Drop containers that no longer exist."""
        for gone in self._memory.keys() - ids:
            del self._memory[gone]

    def _opened(self) -> None:
        # Events during the gap are lost, so all callers must observe again.
        self._forget_all()
        self._connected = True
        if self._exits is not None:
            self._exits.gap()
        self._announce()

    def _forget_all(self) -> None:
        self._memory.clear()
        self._generation += 1

    def _announce(self) -> None:
        loop = asyncio.get_running_loop()
        due = self._announced_at + ANNOUNCE_PAUSE_SECS
        if loop.time() >= due:
            self._wake()
        elif self._later is None:
            self._later = loop.call_at(due, self._wake)

    def _wake(self) -> None:
        self._later = None
        self._announced_at = asyncio.get_running_loop().time()
        self._on_change()

    def _container_of(self, event: EngineEvent) -> str | None:
        """The agent's container that the event is about."""
        attributes = event.attributes
        if event.action.partition(":")[0] not in (*_ACTIONS, *_NETWORK_ACTIONS):
            return None
        if event.type == "network":
            return attributes.get("container") if attributes.get("name", "").startswith(_OUR_NETWORKS) else None
        is_ours = attributes.get(MANAGED) == "true" and self._owner in (None, attributes.get(OWNER))
        return event.id if is_ours else None
