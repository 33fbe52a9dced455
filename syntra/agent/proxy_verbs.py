"""`proxy_up`, `proxy_down` and `proxy_status` as the router asks for them."""

from __future__ import annotations

from syntra.agent.config.settings import Settings
from syntra.agent.proxy_container import ProxyContainer, Say
from syntra.agent.proxy_setup import ProxySetup
from syntra.agent.proxy_watch import ProxyWatch
from syntra.agent.published_routes import PublishedRoutes
from syntra.agent.traffic import TrafficSwitch
from syntra.model.command import ProxyAction
from syntra.model.fields import Json
from syntra.runtime.docker.proxy_containers import ProxyContainers


class ProxyVerbs:
    """Carries them out, and has the proxy looked at again when something was done to it. `watch` is to be run."""

    def __init__(self, proxy: ProxyContainer, watch: ProxyWatch) -> None:
        self._proxy = proxy
        self.watch = watch

    @classmethod
    def of(cls, settings: Settings, containers: ProxyContainers, traffic: TrafficSwitch | None) -> ProxyVerbs:
        """Those of an agent with these settings."""
        setup = ProxySetup(settings=settings, owner=containers.owner)
        proxy = ProxyContainer(setup, containers, PublishedRoutes.of(traffic))
        return cls(proxy, ProxyWatch(proxy.problems))

    async def carry_out(self, action: ProxyAction, say: Say) -> dict[str, Json]:
        """The data of the response. Raises AgentError."""
        match action:
            case ProxyAction.STATUS:
                return await self._proxy.status()
            case ProxyAction.UP:
                try:
                    return await self._proxy.up(say)
                finally:
                    self.watch.nudge()
            case ProxyAction.DOWN:
                try:
                    return await self._proxy.down()
                finally:
                    self.watch.nudge()
