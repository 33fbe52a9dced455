"""What the agent has published, as the proxy's container is concerned with it."""

from __future__ import annotations

from syntra.agent.proxy_routes import ProxyRoutes
from syntra.agent.traffic import TrafficSwitch


class PublishedRoutes:
    """`agent.proxy_container.Routes` over the switch that publishes them."""

    def __init__(self, traffic: TrafficSwitch, proxy: ProxyRoutes) -> None:
        self._traffic = traffic
        self._proxy = proxy

    @classmethod
    def of(cls, traffic: TrafficSwitch | None) -> PublishedRoutes | None:
        """None for an agent that writes no routes."""
        return cls(traffic, traffic.proxy) if traffic is not None and traffic.proxy is not None else None

    async def write(self) -> None:
        await self._traffic.write_again()

    async def applied(self) -> bool:
        return await self._proxy.applied(await self._traffic.table())

    async def complaints(self) -> tuple[str, ...]:
        return await self._proxy.complaints(await self._traffic.table())
