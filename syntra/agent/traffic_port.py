"""What the deployer asks of whatever routes traffic, and the answer of an agent that routes none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from syntra.model.errors import RequestError
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import Deployment, ServiceSpec, Strategy


class Traffic(Protocol):
    """Leads requests and names to replicas. Every method is safe to cancel and to repeat."""

    def routes(self, spec: ServiceSpec) -> bool:
        """Whether anything leads to the service through this."""

    def is_serving(self, container_id: ContainerId) -> bool:
        """Whether requests or names lead to the container now."""

    async def check(self, deployment: Deployment) -> None:
        """Raise RequestError when it cannot be routed as asked, such as when another service has one of its domains."""

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


class NoTraffic:
    """Routes nothing."""

    def routes(self, spec: ServiceSpec) -> bool:
        return False

    def is_serving(self, container_id: ContainerId) -> bool:
        return False

    async def check(self, deployment: Deployment) -> None:
        check_shares(deployment, by_proxy=False)

    async def prepare(self, spec: ServiceSpec) -> None:
        return

    async def publish(self, spec: ServiceSpec, containers: Sequence[ContainerId], *, share: int | None = None) -> None:
        return

    async def withdraw(self, service_id: ServiceId, containers: Sequence[ContainerId]) -> None:
        return

    async def forget(self, service_id: ServiceId) -> None:
        return


def check_shares(deployment: Deployment, *, by_proxy: bool) -> None:
    """Raise RequestError when it is a canary whose requests nobody can share out."""
    if deployment.strategy is not Strategy.CANARY:
        return
    if not deployment.spec.domains:
        raise RequestError("INVALID_PAYLOAD", "networking.domains: is missing; a canary gets a share of their requests")
    if not by_proxy:
        raise RequestError(
            "INVALID_PAYLOAD",
            "strategy: a canary needs networking.proxy traefik-file in the agent's configuration; use rolling",
        )
