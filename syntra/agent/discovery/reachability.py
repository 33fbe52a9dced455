"""Tests whether containers reach the DNS server, from inside one container of each project, until it succeeds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Protocol

from syntra.model.container import Container
from syntra.model.network import Address, ProjectNetwork
from syntra.utils.frozen import frozen

log = logging.getLogger(__name__)

TESTS_AT_ONCE = 8


class Reaches(Protocol):
    """The signature of `networking.dns.self_test.reaches`."""

    def __call__(self, pid: int, address: Address, port: int, *, project: str) -> Awaitable[bool]: ...


@frozen
class Place:
    """A gateway at which a project's containers should reach the server."""

    network: ProjectNetwork
    gateway: Address


class ReachabilityTests:
    """The tests of one agent: one round at a time, as a task of the given group."""

    def __init__(self, group: asyncio.TaskGroup, reaches: Reaches) -> None:
        self._group = group
        self._reaches = reaches
        self._passed: set[Place] = set()
        # Places without an answer: in `_blocked` until one comes, in `_waiting` until the next test.
        self._blocked: set[Place] = set()
        self._waiting: set[Place] = set()
        self._round: asyncio.Task[None] | None = None

    def is_blocked(self, place: Place) -> bool:
        """Whether the last test of the place failed; False before the first."""
        return place in self._blocked

    def keep_only(self, places: Iterable[Place]) -> None:
        """Forget all other places, and test the blocked ones again in the next round."""
        kept = {*places}
        self._passed &= kept
        self._blocked &= kept
        self._waiting.clear()

    def begin(self, places: Iterable[Place], ports: Mapping[Address, int], replicas: Sequence[Container]) -> None:
        """Start a round unless one runs: test places that have a port in `ports` and a replica, and have not passed."""
        if self._round is not None and not self._round.done():
            return
        due = [
            (place, ports[place.gateway], pid)
            for place in places
            if place.gateway in ports
            and place not in self._passed | self._waiting
            and (pid := _pid_on(place.network, replicas)) is not None
        ]
        if due:
            self._round = self._group.create_task(self._test_all(due), name="names test")

    def close(self) -> None:
        """Cancel the running round."""
        if self._round is not None:
            self._round.cancel()

    async def _test_all(self, due: Sequence[tuple[Place, int, int]]) -> None:
        limit = asyncio.Semaphore(TESTS_AT_ONCE)

        async def one(place: Place, port: int, pid: int) -> None:
            async with limit:
                try:
                    await self._test(place, port, pid)
                except Exception:  # the boundary of a task: a failed test must not stop the agent
                    log.exception("DNS test failed", extra={"project": place.network.project})

        async with asyncio.TaskGroup() as group:
            for place, port, pid in due:
                group.create_task(one(place, port, pid), name=f"names test {place.network.project}")

    async def _test(self, place: Place, port: int, pid: int) -> None:
        where = {"project": place.network.project, "gateway": str(place.gateway)}
        try:
            is_reached = await self._reaches(pid, place.gateway, port, project=place.network.project)
        except PermissionError:
            # The result is unknown; most hosts have no such firewall, so assume success.
            log.info("DNS is not tested from containers: that needs CAP_SYS_ADMIN", extra=where)
            self._passed.add(place)
            return
        except OSError as gone:
            log.debug("DNS is tested later", extra={**where, "reason": str(gone)})
            return
        if is_reached:
            log.info("containers reach the DNS server", extra=where)
            self._passed.add(place)
            self._blocked.discard(place)
            return
        if place not in self._blocked:
            log.warning("containers cannot reach the DNS server", extra=where)
        self._blocked.add(place)
        self._waiting.add(place)


def _pid_on(network: ProjectNetwork, replicas: Iterable[Container]) -> int | None:
    running = (r for r in replicas if r.is_running and r.addresses.get(network.name))
    return next((replica.pid for replica in running if replica.pid), None)
