"""A proxy in memory: who gets which share of a service's requests. It outlives the agent, as a real one does."""

from __future__ import annotations

from collections.abc import Sequence

from syntra.agent.traffic.port import check_shares
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import Deployment, ServiceSpec


class FakeTraffic:
    """Implements `agent.traffic.port.Traffic`. `shares` are all that canaries were given, in order."""

    def __init__(self) -> None:
        self.published: set[ContainerId] = set()
        self.canary: frozenset[ContainerId] = frozenset()
        self.share = 0
        self.shares: list[int] = []

    def routes(self, spec: ServiceSpec) -> bool:
        return bool(spec.domains)

    def is_serving(self, container_id: ContainerId) -> bool:
        return container_id in self.published

    async def check(self, deployment: Deployment, *, reserve: bool = True) -> None:
        check_shares(deployment, why_not=None)

    async def prepare(self, spec: ServiceSpec) -> None:
        return

    async def publish(self, spec: ServiceSpec, containers: Sequence[ContainerId], *, share: int | None = None) -> None:
        self.published |= set(containers)
        self.canary = self.canary - set(containers) if share is None else frozenset(containers)
        if share is not None:
            self.share = share
            self.shares.append(share)

    async def withdraw(self, service_id: ServiceId, containers: Sequence[ContainerId]) -> None:
        self.published -= set(containers)
        self.canary -= set(containers)

    def open_connections(self, containers: Sequence[ContainerId]) -> int | None:
        return None

    async def give_back(self, spec: ServiceSpec, *, is_first: bool) -> None:
        return

    async def forget(self, service_id: ServiceId) -> None:
        self.published.clear()
