"""What the deployer asks of whatever routes traffic, and the answer of an agent that routes none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import ServiceSpec


class Traffic(Protocol):
    """A router of requests. Every method is safe to cancel and to repeat."""

    def routes(self, spec: ServiceSpec) -> bool:
        """Whether requests to the service go through this."""

    async def check(self, spec: ServiceSpec) -> None:
        """Raise RequestError when another service claims one of its hosts and paths."""

    async def publish(self, spec: ServiceSpec, containers: Sequence[ContainerId]) -> None:
        """Send requests to these containers too; returns once the proxy is seen to do so.

        Raises StepFailed when a container has no address, or the configuration cannot be written.
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

    async def check(self, spec: ServiceSpec) -> None:
        return

    async def publish(self, spec: ServiceSpec, containers: Sequence[ContainerId]) -> None:
        return

    async def withdraw(self, service_id: ServiceId, containers: Sequence[ContainerId]) -> None:
        return

    async def forget(self, service_id: ServiceId) -> None:
        return
