"""Carries out `proxy_up`, `proxy_down` and `proxy_status`, and collects the proxy's warnings for `status`."""

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
    """Carries the commands out, and triggers `watch` after each change. Run `watch` as a task."""

    def __init__(self, proxy: ProxyContainer, watch: ProxyWatch) -> None:
        self._proxy = proxy
        self.watch = watch

    @classmethod
    def of(cls, settings: Settings, containers: ProxyContainers, traffic: TrafficSwitch | None) -> ProxyVerbs:
        """Build them for these settings."""
        setup = ProxySetup(settings=settings, owner=containers.owner)
        proxy = ProxyContainer(setup, containers, PublishedRoutes.of(traffic))
        return cls(proxy, ProxyWatch(proxy.problems))

    async def carry_out(self, action: ProxyAction, say: Say) -> dict[str, Json]:
        """Returns the data of the response. Raises AgentError."""
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
    """Keeps the last result of `check` in `warnings`; empty when `check` fails."""

    def __init__(self, check: Callable[[], Awaitable[tuple[str, ...]]]) -> None:
        self._check = check
        self._nudge = asyncio.Event()
        self.warnings: tuple[str, ...] = ()

    def nudge(self) -> None:
        """Check at once, after a change to the proxy."""
        self._nudge.set()

    async def run(self) -> None:
        """Check every EVERY_SECS until cancelled."""
        while True:
            self._nudge.clear()
            try:
                async with asyncio.timeout(DEADLINE_SECS):
                    self._set_warnings(await self._check())
            except (AgentError, TimeoutError) as unknown:
                # An unavailable engine has its own warning.
                log.debug("cannot check the proxy", extra={"reason": str(unknown)})
                self.warnings = ()
            try:
                async with asyncio.timeout(EVERY_SECS):
                    await self._nudge.wait()
            except TimeoutError:
                continue

    def _set_warnings(self, warnings: tuple[str, ...]) -> None:
        for warning in warnings:
            if warning not in self.warnings:
                log.warning("proxy", extra={"reason": warning})
        self.warnings = warnings
