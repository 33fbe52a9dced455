"""Which container an address belongs to, as the agent says.

A container may send before the agent's message about it has arrived. So a request from a project network whose sender
is unknown waits for a moment. On a network that is shared with others, as that of a cluster's pods, every sender may be
one of them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from syntra.telemetry.processing.identity import Identity

WAIT_SECS = 1.0
# How long an address that stayed unknown is not waited for again.
_STRANGER_SECS = 10.0
_STRANGERS = 1024


class _Stranger(Identity):
    """A container on a project network that is none of the agent's: it keeps its name, and claims none of their ids."""

    def attributes(self) -> dict[str, str]:
        """An empty value removes the claim."""
        return {"syntra.service.id": "", "syntra.deployment.id": "", "syntra.project": ""}


STRANGER: Identity = _Stranger(
    service_id="", service_name="", deployment_id="", project="", container_id="", replica=""
)


class Senders:
    """The table. `update` runs on the event loop, `of` in any thread."""

    def __init__(self, *, wait_secs: float = WAIT_SECS, clock: Callable[[], float] = time.monotonic) -> None:
        """`wait_secs` is how long an unknown sender on a project network is waited for."""
        self._wait_secs = wait_secs
        self._clock = clock
        self._by_address: dict[str, Identity] = {}
        self._is_shared = False
        self._subnets: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
        self._strangers: dict[str, float] = {}
        self._changed = threading.Condition()
        self._news = asyncio.Event()
        self.unknown = 0
        """Requests from project networks whose sender stayed unknown."""

    def update(self, senders: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace the table: identities by address."""
        by_address = {address: Identity(**identity) for address, identity in senders.items()}
        with self._changed:
            self._by_address = by_address
            self._strangers.clear()
            self._changed.notify_all()
        self._news.set()
        self._news = asyncio.Event()

    def within(self, subnets: list[str], *, is_shared: bool = False) -> None:
        """Replace the project networks' subnets. `is_shared`: containers also have addresses outside of them."""
        self._subnets = tuple(ipaddress.ip_network(subnet) for subnet in subnets)
        self._is_shared = is_shared

    def of(self, address: str) -> Identity | None:
        """The identity of the container with this address; one on a project or shared network is waited for.

        STRANGER for a container on a project network that stays unknown, None for an address elsewhere.
        """
        found = self._by_address.get(address)
        if found is not None:
            return found
        may_come, unknown = self._unknown(address)
        if not may_come:
            return unknown
        with self._changed:
            self._changed.wait_for(lambda: address in self._by_address, self._wait_secs)
            return self._settled(address, unknown)

    async def of_async(self, address: str) -> Identity | None:
        """As `of`, for an event loop."""
        found = self._by_address.get(address)
        if found is not None:
            return found
        may_come, unknown = self._unknown(address)
        if not may_come:
            return unknown
        with suppress(TimeoutError):
            async with asyncio.timeout(self._wait_secs):
                while address not in self._by_address:
                    await self._news.wait()
        with self._changed:
            return self._settled(address, unknown)

    def _unknown(self, address: str) -> tuple[bool, Identity | None]:
        """Whether the agent may soon say who has an address, and who it is if that does not happen."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:  # a unix socket has none
            return False, None
        is_on_project = any(parsed in subnet for subnet in self._subnets)
        # On a shared network, a sender that is none of the agent's may be anybody, and keeps its claims.
        unknown = STRANGER if is_on_project else None
        if not is_on_project and (not self._is_shared or parsed.is_loopback):
            return False, None
        if self._strangers.get(address, 0.0) > self._clock():
            self.unknown += is_on_project
            return False, unknown
        return True, unknown

    def _settled(self, address: str, unknown: Identity | None) -> Identity | None:
        found = self._by_address.get(address)
        if found is not None:
            return found
        self.unknown += unknown is not None
        if len(self._strangers) >= _STRANGERS:
            self._strangers.clear()
        self._strangers[address] = self._clock() + _STRANGER_SECS
        return unknown
