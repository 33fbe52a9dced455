"""Who claims which domain: what is published, what is on its way, and what may come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from syntra.agent.journal.journal import Journal
from syntra.agent.traffic.endpoints import ServiceEndpoints, route_of
from syntra.model.errors import RequestError
from syntra.model.ids import ServiceId
from syntra.model.spec import Deployment, ServiceSpec
from syntra.networking.routes import Claim, RouteTable, conflict

# From the check of a command to its operation: longer than a journal takes.
RESERVED_SECS = 5.0


class RouteOwnership:
    """Remembers what was let through. `is_busy`: an operation of the service runs or waits."""

    def __init__(self, journal: Journal, is_busy: Callable[[ServiceId], bool]) -> None:
        self._journal = journal
        self._is_busy = is_busy
        self._reserved: dict[ServiceId, tuple[float, ServiceSpec]] = {}
        # Of two that come at once the second must see the first.
        self._checking = asyncio.Lock()

    async def take(self, spec: ServiceSpec, published: Iterable[ServiceSpec], *, reserve: bool = True) -> Claim | None:
        """Reserve the spec's domains; or what another service holds of them, and then nothing is reserved."""
        async with self._checking:
            now = asyncio.get_running_loop().time()
            self._reserved = {
                service_id: kept
                for service_id, kept in self._reserved.items()
                if self._is_busy(service_id) or now - kept[0] < RESERVED_SECS
            }
            candidate = route_of(ServiceEndpoints(spec=spec))
            for other in [*published, *(kept for _, kept in self._reserved.values()), *await self._returning()]:
                claimed = conflict(RouteTable((route_of(ServiceEndpoints(spec=other)),)), candidate)
                if claimed is not None:
                    return claimed
            if reserve:
                self._reserved[spec.service_id] = (now, spec)
            return None

    async def check_labels(self, deployment: Deployment, *, reserve: bool = True) -> None:
        """Raise RequestError when another service has one of the domains, where containers' labels make the routes.

        There is no table of what is published then: every service of the journal holds its domains, as the labels of
        what is down come back with it.
        """
        kept = [current.deployment.spec for current in await self._journal.current_all() if current.deployment]
        claimed = await self.take(deployment.spec, kept, reserve=reserve)
        if claimed is not None:
            raise RequestError("ROUTE_CONFLICT", f"networking.domains: {claimed}; remove it there first")

    def forget(self, service_id: ServiceId) -> None:
        """The service was removed."""
        self._reserved.pop(service_id, None)

    async def _returning(self) -> list[ServiceSpec]:
        """What services under way go back to when their operation fails: it may have domains that the new has not."""
        return [
            current.deployment.spec
            for current in await self._journal.current_all()
            if current.deployment is not None and self._is_busy(current.row.service_id)
        ]
