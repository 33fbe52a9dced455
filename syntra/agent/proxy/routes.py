"""The proxy's side of the traffic: the file it reads, and that it is seen to work with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from syntra.agent.config.settings import Settings
from syntra.agent.traffic.switch import TrafficSwitch
from syntra.model.spec import ServiceSpec
from syntra.networking import traefik
from syntra.networking.errors import ProxyUnreachable
from syntra.networking.file_writer import FileWriter
from syntra.networking.proxy import ProxyObserver
from syntra.networking.routes import RouteTable
from syntra.runtime.errors import StepFailed
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

APPLY_SECS = 10.0
# Waited when nobody can be asked: the proxy's own throttle between two configurations is two seconds
# (providersThrottleDuration), and one more is for its file watcher.
UNOBSERVED_SECS = 3.0
TURN_SECS = 1.0


class ProxyRoutes:
    """`agent.traffic.port.RoutePublisher`: one machine-written file for Traefik's file provider."""

    routes = True
    why_no_shares: str | None = None

    def __init__(
        self,
        settings: traefik.ProxySettings,
        *,
        writer: FileWriter,
        observer: ProxyObserver,
        unobserved_secs: float = UNOBSERVED_SECS,
    ) -> None:
        self._settings = settings
        self._writer = writer
        self._observer = observer
        self._unobserved_secs = unobserved_secs
        self.problem = ""

    async def write(self, table: RouteTable) -> bool:
        """Make the table the file's; whether it said something new. Raises StepFailed: then the old file stands."""
        try:
            return await asyncio.to_thread(self._writer.write, traefik.render(table, self._settings))
        except AgentError as failed:
            raise StepFailed("ROUTE_FAILED", str(failed)) from failed

    async def until_applied(self, table: RouteTable, *, is_new: bool) -> None:
        """Return once the proxy works with the table. One that cannot be asked is waited for when it `is_new`.

        Raises StepFailed when the proxy answers and keeps to something else.
        """
        try:
            # Asked once before it is waited for: a proxy that is not there is not worth the whole of APPLY_SECS.
            applied = await self._observer.applied(table)
            if is_new or not applied:
                # Also when it was seen at once: the API's entrypoint may be the first to have what is new.
                applied = await self._observer.wait_applied(table, APPLY_SECS)
        except ProxyUnreachable as unseen:
            self._say_unseen(table, f"the proxy cannot be observed, so a fixed time is waited for it: {unseen}")
            if is_new:
                await asyncio.sleep(self._unobserved_secs)
            return
        self._say("" if applied else f"the proxy has not applied its routes within {APPLY_SECS:g} s; see its log")
        if not applied:
            raise StepFailed("ROUTE_FAILED", f"cannot route: {self.problem}")

    async def look(self, table: RouteTable) -> None:
        """Ask once whether the proxy works with the table, for the status' sake."""
        try:
            applied = await self._observer.applied(table)
        except ProxyUnreachable as unseen:
            self._say_unseen(table, f"the proxy cannot be observed: {unseen}")
            return
        self._say("" if applied else "the proxy works with other routes than the agent's; see its log")

    async def applied(self, table: RouteTable) -> bool:
        """Whether the proxy works with the table now; an earlier problem with that is over then.

        Raises ProxyUnreachable.
        """
        return self._solved(await self._observer.applied(table))

    async def wait_applied(self, table: RouteTable, secs: float) -> bool:
        """`applied`, waited for. Raises ProxyUnreachable when the proxy is away at the end."""
        return self._solved(await self._observer.wait_applied(table, secs))

    def _solved(self, applied: bool) -> bool:
        if applied:
            self._say("")
        return applied

    async def complaints(self, table: RouteTable) -> tuple[str, ...]:
        """What the proxy has against the table, as sentences; raises ProxyUnreachable."""
        return await self._observer.problems(table)

    def _say_unseen(self, table: RouteTable, problem: str) -> None:
        # Who routes nothing needs no proxy.
        self._say(problem if any(route.domains for route in table.routes) else "")

    def _say(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.warning("proxy", extra={"reason": problem})
        self.problem = problem


class PublishedRoutes:
    """`agent.proxy.container.Routes` over the switch that publishes them."""

    def __init__(self, traffic: TrafficSwitch, proxy: ProxyRoutes) -> None:
        self._traffic = traffic
        self._proxy = proxy

    @classmethod
    def of(cls, traffic: TrafficSwitch | None) -> PublishedRoutes | None:
        """None for an agent that writes no routes."""
        proxy = traffic.proxy if traffic is not None else None
        return cls(traffic, proxy) if traffic is not None and isinstance(proxy, ProxyRoutes) else None

    async def write(self) -> None:
        await self._traffic.write_again()

    async def applied(self) -> bool:
        return await self._proxy.applied(await self._traffic.table())

    async def wait_applied(self, secs: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + secs
        while True:
            is_last = loop.time() + TURN_SECS >= deadline
            try:
                # In short turns, since what is published may change meanwhile.
                if await self._proxy.wait_applied(await self._traffic.table(), min(secs, TURN_SECS)):
                    return True
            except ProxyUnreachable:
                if is_last:
                    raise
            if is_last:
                return False

    async def complaints(self) -> tuple[str, ...]:
        return await self._proxy.complaints(await self._traffic.table())


def proxy_settings(settings: Settings) -> traefik.ProxySettings:
    """What the proxy's own configuration calls things."""
    networking = settings.networking
    return traefik.ProxySettings(
        entrypoints=networking.entrypoints,
        cert_resolver=networking.cert_resolver,
        https_redirect_entrypoint=networking.https_redirect_entrypoint,
    )


def route_labels(settings: Settings) -> Callable[[ServiceSpec], Mapping[str, str]]:
    """The labels that lead a proxy to a service's containers; none unless routes are made by labels."""
    by_labels, proxy = settings.networking.proxy == "traefik-labels", proxy_settings(settings)
    return lambda spec: traefik.labels(spec, proxy) if by_labels else {}
