"""Follows the engine's events: tells when something changed, and says which remembered inspections still hold.

The engine keeps 256 events and drops those of a slow reader, so an event stream is a hint and never the truth: what is
remembered is dropped whenever the stream breaks, and after MEMORY_SECS in any case.
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
from syntra.runtime.docker.records import ContainerDetails, EngineEvent

log = logging.getLogger(__name__)

MEMORY_SECS = 120.0
# A list is asked for again after this time, whatever the events say.
LIST_SECS = 5.0
# One change is told at once; more of them, as a deploy makes, are told together.
ANNOUNCE_PAUSE_SECS = 0.05
# Whoever waits for a change is as late as the stream is after the engine's return.
RECONNECT_SECS = 0.5
RECONNECT_MAX_SECS = 1.5
# Exec probes make three events each; they change nothing that is remembered.
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
)
_NETWORK_ACTIONS = ("connect", "disconnect")
_OUR_NETWORKS = network_name("")


def _nobody_listens() -> None:
    """Before `run`."""


class ContainerWatch:
    """The event stream and the memory it keeps honest."""

    def __init__(
        self,
        client: EngineClient,
        *,
        owner: str | None = None,
        exits: ExitTracker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`exits` is told of every event, and of every gap between them. Without `owner`, of everybody's containers."""
        self._events = Events(client)
        self._owner = owner
        self._exits = exits
        self._clock = clock
        self._memory: dict[str, tuple[float, ContainerDetails]] = {}
        self._generation = 0
        self._connected = False
        self._on_change: Callable[[], None] = _nobody_listens
        self._all: tuple[float, int, list[Container]] | None = None
        self._announced_at = float("-inf")
        self._later: asyncio.TimerHandle | None = None

    async def run(self, on_change: Callable[[], None]) -> None:
        """Follow events until cancelled; reconnects for ever.

        `on_change` is called after a container of ours changed, or the stream broke or was opened.
        """
        self._on_change = on_change
        try:
            await self._follow()
        finally:
            if self._later is not None:
                self._later.cancel()

    async def _follow(self) -> None:
        pause = RECONNECT_SECS
        # Not by label: events of networks have none, and they tell of a running container's new address.
        filters = {"type": ["container", "network"], "event": [*_ACTIONS, *_NETWORK_ACTIONS]}
        while True:
            try:
                # `since` closes the gap: what happens before the engine has taken the subscription is told afterwards.
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
        """What `remember` needs to know that no event came between an inspection's start and its end."""
        return self._generation

    def remember(self, details: ContainerDetails, token: int) -> None:
        """Keep an inspection that began at `token`."""
        if self._connected and token == self._generation:
            self._memory[details.id] = (self._clock(), details)

    def remembered(self, container_id: str) -> ContainerDetails | None:
        """An inspection that still holds, or None."""
        at, details = self._memory.get(container_id, (0.0, None))
        return details if details is not None and self._clock() - at < MEMORY_SECS else None

    def touched(self, container_id: str | None = None) -> None:
        """We have changed something: its event is yet to come, and what is remembered is older."""
        if container_id is not None:
            self._memory.pop(container_id, None)
        self._generation += 1

    def remember_all(self, replicas: list[Container], token: int) -> None:
        """Keep a look at everything that began at `token`."""
        if self._connected and token == self._generation:
            self._all = (self._clock(), token, replicas)

    def remembered_all(self) -> list[Container] | None:
        """The last look at everything if nothing was heard of since, or None."""
        if self._all is None:
            return None
        at, token, replicas = self._all
        holds = self._connected and token == self._generation and self._clock() - at < LIST_SECS
        return [*replicas] if holds else None

    def keep_only(self, ids: set[str]) -> None:
        """Forget containers that are no longer there."""
        for gone in self._memory.keys() - ids:
            del self._memory[gone]

    def _opened(self) -> None:
        # What happened while nobody listened is not told, so everybody looks.
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
        """The container of ours that the event is about."""
        attributes = event.attributes
        if event.type == "network":
            return attributes.get("container") if attributes.get("name", "").startswith(_OUR_NETWORKS) else None
        is_ours = attributes.get(MANAGED) == "true" and self._owner in (None, attributes.get(OWNER))
        return event.id if is_ours else None
