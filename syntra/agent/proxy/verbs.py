"""`proxy_up`, `proxy_down` and `proxy_status` as the router asks for them, and what `status` says of the proxy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from syntra.agent.config.settings import Settings
from syntra.agent.proxy.container import ProxyContainer, Say
from syntra.agent.proxy.routes import PublishedRoutes
from syntra.agent.proxy.setup import ProxySetup
from syntra.agent.traffic.switch import TrafficSwitch
from syntra.model.command import ProxyAction
from syntra.model.fields import Json
from syntra.runtime.docker.proxy_containers import ProxyContainers
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

EVERY_SECS = 30.0
DEADLINE_SECS = 10.0


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


class ProxyWatch:
    """Keeps the last answer of `look` in `warnings`. An answer that cannot be had leaves none."""

    def __init__(self, look: Callable[[], Awaitable[tuple[str, ...]]]) -> None:
        self._look = look
        self._nudge = asyncio.Event()
        self.warnings: tuple[str, ...] = ()

    def nudge(self) -> None:
        """Something was done to the proxy: look at once."""
        self._nudge.set()

    async def run(self) -> None:
        """Look every EVERY_SECS until cancelled."""
        while True:
            self._nudge.clear()
            try:
                async with asyncio.timeout(DEADLINE_SECS):
                    self._say(await self._look())
            except (AgentError, TimeoutError) as unknown:
                # An engine that is away is a warning of its own.
                log.debug("cannot check the proxy", extra={"reason": str(unknown)})
                self.warnings = ()
            try:
                async with asyncio.timeout(EVERY_SECS):
                    await self._nudge.wait()
            except TimeoutError:
                continue

    def _say(self, warnings: tuple[str, ...]) -> None:
        for warning in warnings:
            if warning not in self.warnings:
                log.warning("proxy", extra={"reason": warning})
        self.warnings = warnings
