"""The interface through which the deployer routes traffic, and its implementation for an agent that routes none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from syntra.agent.traffic.endpoints import NamedService
from syntra.model.container import Container
from syntra.model.errors import RequestError
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import Deployment, ServiceSpec, Strategy
from syntra.networking.routes import RouteTable


class Traffic(Protocol):
    """Routes requests and resolves names to replicas. Every method is safe to cancel and to repeat."""

    def routes(self, spec: ServiceSpec) -> bool:
        """Whether this publishes the service: in routes or in DNS."""

    def is_serving(self, container_id: ContainerId) -> bool:
        """Whether the container is published now."""

    async def check(self, deployment: Deployment, *, reserve: bool = True) -> None:
        """Raise RequestError when it cannot be routed as requested: for example, another service has its domain.

        With `reserve` the domains are reserved for the operation that follows.
        """

    async def prepare(self, spec: ServiceSpec) -> None:
        """Prepare the network of the service's project, which exists, before its first container is created."""

    async def publish(self, spec: ServiceSpec, containers: Sequence[ContainerId], *, share: int | None = None) -> None:
        """Send requests to these containers too; returns once the proxy has applied it.

        With `share` (1–100) these containers get that percentage of the requests, and the service's others the rest;
        without it all are equal. Raises StepFailed when a container has no address, or the routes cannot be written.
        """

    async def withdraw(self, service_id: ServiceId, containers: Sequence[ContainerId]) -> None:
        """Stop sending requests to these containers; returns once the proxy has applied it and none are open.

        Bounded by the drain time; requests still open then are cut. Raises StepFailed when routes cannot be written.
        """

    def open_connections(self, containers: Sequence[ContainerId]) -> int | None:
        """How many connections keep these containers from being drained now; None when that is not known."""

    async def give_back(self, spec: ServiceSpec, *, is_first: bool) -> None:
        """A deployment with this spec failed: drop the reservation of its domains.

        `is_first`: the service has no other deployment, so its routes are removed. Raises StepFailed when they cannot
        be written.
        """

    async def forget(self, service_id: ServiceId) -> None:
        """Remove the routes of a removed service. Raises StepFailed when they cannot be written."""


class ServiceNames(Protocol):
    """Service discovery: answers for the names of services."""

    answers: bool
    """False when the agent does not answer for names; then all other methods do nothing."""

    async def prepare(self, project: str) -> None:
        """Listen on the project's network, which exists now."""

    def show(self, services: Iterable[NamedService]) -> None:
        """Replace the services that names resolve to."""

    def see(self, replicas: Sequence[Container]) -> None:
        """Replace the list of all containers."""

    async def refresh(self, projects: frozenset[str]) -> None:
        """Listen on the networks of exactly these projects; failures are in `problems`."""

    async def until_forgotten(self, addresses: Iterable[str]) -> None:
        """Return once no client can still cache an answer with one of the addresses."""

    @property
    def problems(self) -> Sequence[str]:
        """Problems for `status`, one sentence each."""


class NoNames:
    """For an agent that does not answer for names."""

    answers = False
    problems: Sequence[str] = ()

    async def prepare(self, project: str) -> None:
        return

    def show(self, services: Iterable[NamedService]) -> None:
        return

    def see(self, replicas: Sequence[Container]) -> None:
        return

    async def refresh(self, projects: frozenset[str]) -> None:
        return

    async def until_forgotten(self, addresses: Iterable[str]) -> None:
        return


class RoutePublisher(Protocol):
    """Hands routes to the proxy."""

    routes: bool
    """False when there is no proxy; then all other methods do nothing."""
    problem: str
    """One sentence for `status`, or empty."""
    why_no_shares: str | None
    """Why the proxy cannot give some replicas a share of the requests; None when it can."""

    async def write(self, table: RouteTable) -> bool:
        """Write the table. Returns whether it differs from the last. Raises StepFailed; the old table then stays."""

    async def until_applied(self, table: RouteTable, *, is_new: bool) -> None:
        """Return once the proxy has applied the table. Raises StepFailed when the proxy uses another one."""

    async def look(self, table: RouteTable) -> None:
        """Check once whether the proxy has applied the table, and update `problem`."""


class NoRoutes:
    """For an agent that writes no routes."""

    routes = False
    problem = ""
    why_no_shares: str | None = "networking.proxy traefik-file in the agent's configuration"

    async def write(self, table: RouteTable) -> bool:
        return False

    async def until_applied(self, table: RouteTable, *, is_new: bool) -> None:
        return

    async def look(self, table: RouteTable) -> None:
        return


class NoTraffic:
    """For an agent that neither routes nor answers for names."""

    def routes(self, spec: ServiceSpec) -> bool:
        return False

    def is_serving(self, container_id: ContainerId) -> bool:
        return False

    async def check(self, deployment: Deployment, *, reserve: bool = True) -> None:
        check_shares(deployment, why_not=NoRoutes.why_no_shares)

    async def prepare(self, spec: ServiceSpec) -> None:
        return

    async def publish(self, spec: ServiceSpec, containers: Sequence[ContainerId], *, share: int | None = None) -> None:
        return

    async def withdraw(self, service_id: ServiceId, containers: Sequence[ContainerId]) -> None:
        return

    def open_connections(self, containers: Sequence[ContainerId]) -> int | None:
        return None

    async def give_back(self, spec: ServiceSpec, *, is_first: bool) -> None:
        return

    async def forget(self, service_id: ServiceId) -> None:
        return


def check_shares(deployment: Deployment, *, why_not: str | None) -> None:
    """Raise RequestError for a canary when requests cannot be split; `why_not` says what that needs."""
    if deployment.strategy is not Strategy.CANARY:
        return
    if not deployment.spec.domains:
        raise RequestError("INVALID_PAYLOAD", "networking.domains: is missing; a canary gets a share of their requests")
    if why_not is not None:
        raise RequestError("INVALID_PAYLOAD", f"strategy: a canary needs {why_not}; use rolling")
