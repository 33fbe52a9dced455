"""Which service owns which domain: by its published routes, by a reservation, or for a possible rollback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from syntra.agent.journal.journal import Journal
from syntra.agent.traffic.endpoints import ServiceEndpoints, route_of
from syntra.model.errors import RequestError
from syntra.model.ids import ServiceId
from syntra.model.spec import Deployment, ServiceSpec
from syntra.networking.routes import Claim, RouteTable, conflict

# From the check of a command to its operation; longer than the journal takes.
RESERVED_SECS = 5.0


class RouteOwnership:
    """Keeps the reservations. `is_busy`: an operation of the service runs or waits."""

    def __init__(self, journal: Journal, is_busy: Callable[[ServiceId], bool]) -> None:
        self._journal = journal
        self._is_busy = is_busy
        self._reserved: dict[ServiceId, tuple[float, ServiceSpec]] = {}
        # Of two concurrent checks, the second must see the first's reservation.
        self._checking = asyncio.Lock()

    async def take(self, spec: ServiceSpec, published: Iterable[ServiceSpec], *, reserve: bool = True) -> Claim | None:
        """Reserve the spec's domains. Returns another service's claim on one of them, and then reserves nothing."""
        async with self._checking:
            now = asyncio.get_running_loop().time()
            self._reserved = {
                service_id: reserved
                for service_id, reserved in self._reserved.items()
                if self._is_busy(service_id) or now - reserved[0] < RESERVED_SECS
            }
            candidate_route = route_of(ServiceEndpoints(spec=spec))
            for other in [*published, *(kept for _, kept in self._reserved.values()), *await self._rollback_specs()]:
                claim = conflict(RouteTable((route_of(ServiceEndpoints(spec=other)),)), candidate_route)
                if claim is not None:
                    return claim
            if reserve:
                self._reserved[spec.service_id] = (now, spec)
            return None

    async def check_labels(self, deployment: Deployment, *, reserve: bool = True) -> None:
        """Raise RequestError when another service has one of the domains, where containers' labels make the routes.

        No table of published routes exists then. Every service of the journal holds its domains, because a stopped
        container's labels count again when it starts.
        """
        kept = [current.deployment.spec for current in await self._journal.current_all() if current.deployment]
        claimed = await self.take(deployment.spec, kept, reserve=reserve)
        if claimed is not None:
            raise RequestError("ROUTE_CONFLICT", f"networking.domains: {claimed}; remove it there first")

    def release(self, spec: ServiceSpec) -> None:
        """Drop the reservation of a deployment that failed. That of a newer one of the service stays."""
        if (reserved := self._reserved.get(spec.service_id)) is not None and reserved[1] == spec:
            del self._reserved[spec.service_id]

    def forget(self, service_id: ServiceId) -> None:
        """Drop the reservation of a removed service."""
        self._reserved.pop(service_id, None)

    async def _rollback_specs(self) -> list[ServiceSpec]:
        """The specs that services with operations roll back to; they may have domains that the new specs lack."""
        return [
            current.deployment.spec
            for current in await self._journal.current_all()
            if current.deployment is not None and self._is_busy(current.row.service_id)
        ]
