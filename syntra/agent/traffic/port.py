"""What the deployer asks of whatever routes traffic, and the answer of an agent that routes none."""

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
    """Leads requests and names to replicas. Every method is safe to cancel and to repeat."""

    def routes(self, spec: ServiceSpec) -> bool:
        """Whether anything leads to the service through this."""

    def is_serving(self, container_id: ContainerId) -> bool:
        """Whether requests or names lead to the container now."""

    async def check(self, deployment: Deployment, *, reserve: bool = True) -> None:
        """Raise RequestError when it cannot be routed as asked, such as when another service has one of its domains.

        With `reserve` the domains are kept for the operation that is about to begin.
        """

    async def prepare(self, spec: ServiceSpec) -> None:
        """The network of the service's project is there; its first container is about to be."""

    async def publish(self, spec: ServiceSpec, containers: Sequence[ContainerId], *, share: int | None = None) -> None:
        """Send requests to these containers too; returns once the proxy is seen to do so.

        With `share` (1–100) these containers get that percentage of the requests, and all others of the service what is
        left; without it all are equal. Raises StepFailed when a container has no address, or it cannot be written.
        """

    async def withdraw(self, service_id: ServiceId, containers: Sequence[ContainerId]) -> None:
        """Send these containers no more requests; returns once the proxy is seen not to and they have none open.

        Bounded by the drain time; what is open then is cut. Raises StepFailed when it cannot be written.
        """

    async def forget(self, service_id: ServiceId) -> None:
        """The service was removed: its routes go. Raises StepFailed when that cannot be written."""


class ServiceNames(Protocol):
    """Service discovery: who answers for the names of services."""

    answers: bool
    """False when nobody of ours does: then every other method does nothing."""

    async def prepare(self, project: str) -> None:
        """The project's network is there: listen on it."""

    def show(self, services: Iterable[NamedService]) -> None:
        """These are all services, from now on."""

    def see(self, replicas: Sequence[Container]) -> None:
        """These are all containers there are."""

    async def refresh(self, projects: frozenset[str]) -> None:
        """Listen on the networks of exactly these projects; one that cannot be listened on is said."""

    async def until_forgotten(self, addresses: Iterable[str]) -> None:
        """Return once no client may remember any of the addresses from an answer."""

    @property
    def problems(self) -> Sequence[str]:
        """Sentences for the status."""


class NoNames:
    """Service discovery is not the agent's."""

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
    """The proxy's side of a change of routes."""

    routes: bool
    """False when there is no proxy: then every other method does nothing."""
    problem: str
    """A sentence for the status, or empty."""
    why_no_shares: str | None
    """What it would take to give some replicas a share of the requests; None when that is possible."""

    async def write(self, table: RouteTable) -> bool:
        """Make the table the proxy's; whether it said something new. Raises StepFailed: then the old one stands."""

    async def until_applied(self, table: RouteTable, *, is_new: bool) -> None:
        """Return once the proxy works with the table. Raises StepFailed when it keeps to something else."""

    async def look(self, table: RouteTable) -> None:
        """Ask once whether the proxy works with the table, for the sake of `problem`."""


class NoRoutes:
    """There is no proxy whose routes are the agent's."""

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
    """Routes nothing."""

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

    async def forget(self, service_id: ServiceId) -> None:
        return


def check_shares(deployment: Deployment, *, why_not: str | None) -> None:
    """Raise RequestError when it is a canary whose requests nobody can share out; `why_not` is what it would take."""
    if deployment.strategy is not Strategy.CANARY:
        return
    if not deployment.spec.domains:
        raise RequestError("INVALID_PAYLOAD", "networking.domains: is missing; a canary gets a share of their requests")
    if why_not is not None:
        raise RequestError("INVALID_PAYLOAD", f"strategy: a canary needs {why_not}; use rolling")
