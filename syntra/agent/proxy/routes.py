"""Writes the proxy's routes file, and observes whether the proxy has applied it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from syntra.agent.config.settings import Settings
from syntra.agent.traffic.switch import TrafficSwitch
from syntra.model.spec import ServiceSpec
from syntra.networking import traefik, traefik_labels
from syntra.networking.errors import ProxyUnreachable
from syntra.networking.file_writer import FileWriter
from syntra.networking.proxy import ProxyObserver
from syntra.networking.routes import RouteTable
from syntra.runtime.errors import StepFailed
from syntra.utils.errors import AgentError

RouteLabels = Callable[[ServiceSpec, Mapping[str, str]], Mapping[str, str]]

log = logging.getLogger(__name__)

APPLY_SECS = 10.0
# The wait for a proxy that cannot be observed: its throttle between two configurations is two seconds
# (providersThrottleDuration), and one more is for its file watcher.
UNOBSERVED_SECS = 3.0
ATTEMPT_SECS = 1.0


class ProxyRoutes:
    """Implements `agent.traffic.port.RoutePublisher` with one generated file for Traefik's file provider."""

    routes = True
    why_no_shares: str | None = None

    def __init__(
        self,
        settings: traefik.ProxySettings,
        *,
        writer: FileWriter,
        observer: ProxyObserver,
        certificates: Callable[[], Sequence[traefik.ServedCertificate]] = tuple,
        unobserved_secs: float = UNOBSERVED_SECS,
        note: Callable[[str, bool], object] = lambda text, is_bad: None,
    ) -> None:
        """`certificates` returns the certificates to serve; the observer must get the same.

        `note` gets each change of `problem` as a sentence, and whether it is one.
        """
        self._note = note
        self._settings = settings
        self._writer = writer
        self._observer = observer
        self._certificates = certificates
        self._unobserved_secs = unobserved_secs
        self.problem = ""

    async def write(self, table: RouteTable) -> bool:
        """Write the file. Returns whether its content changed. Raises StepFailed; the old file then stays."""
        try:
            data = traefik.render(table, self._settings, self._certificates())
            return await asyncio.to_thread(self._writer.write, data)
        except AgentError as failed:
            raise StepFailed("ROUTE_FAILED", str(failed)) from failed

    async def until_applied(self, table: RouteTable, *, is_new: bool) -> None:
        """Return once the proxy has applied the table. An unreachable proxy gets a fixed wait when the table `is_new`.

        Raises StepFailed when the proxy answers and uses another table.
        """
        try:
            # Check once before waiting: do not wait APPLY_SECS for a proxy that is not there.
            applied = await self._observer.applied(table)
            if is_new or not applied:
                # Also when it is applied already: the API may report the new routes before other entrypoints use them.
                applied = await self._observer.wait_applied(table, APPLY_SECS)
        except ProxyUnreachable as unseen:
            self._set_unobserved(table, f"the proxy cannot be observed, so a fixed time is waited for it: {unseen}")
            if is_new:
                await asyncio.sleep(self._unobserved_secs)
            return
        self._set_problem(
            "" if applied else f"the proxy has not applied its routes within {APPLY_SECS:g} s; see its log"
        )
        if not applied:
            raise StepFailed("ROUTE_FAILED", f"cannot route: {self.problem}")

    async def look(self, table: RouteTable) -> None:
        """Check once whether the proxy has applied the table, and update `problem`."""
        try:
            applied = await self._observer.applied(table)
        except ProxyUnreachable as unseen:
            self._set_unobserved(table, f"the proxy cannot be observed: {unseen}")
            return
        self._set_problem("" if applied else "the proxy works with other routes than the agent's; see its log")

    async def applied(self, table: RouteTable) -> bool:
        """Whether the proxy has applied the table; if so, `problem` is cleared.

        Raises ProxyUnreachable.
        """
        return self._clear_problem(await self._observer.applied(table))

    async def wait_applied(self, table: RouteTable, secs: float) -> bool:
        """Wait until `applied`; False after `secs`. Raises ProxyUnreachable when the proxy is unreachable by then."""
        return self._clear_problem(await self._observer.wait_applied(table, secs))

    def _clear_problem(self, applied: bool) -> bool:
        if applied:
            self._set_problem("")
        return applied

    async def why_none(self) -> str:
        """Why no request can be routed: no proxy answers. Empty when one does."""
        try:
            await self._observer.applied(RouteTable(()))
        except ProxyUnreachable as unseen:
            return f"{unseen}; run syntra-agent proxy up"
        return ""

    async def complaints(self, table: RouteTable) -> tuple[str, ...]:
        """The proxy's errors about the table, one sentence each. Raises ProxyUnreachable."""
        return await self._observer.problems(table)

    def _set_unobserved(self, table: RouteTable, problem: str) -> None:
        # Without routes, no proxy is needed.
        self._set_problem(problem if any(route.domains for route in table.routes) else "")

    def _set_problem(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.warning("proxy", extra={"reason": problem})
        if problem != self.problem:
            self._note(problem or "the proxy works with the agent's routes again", bool(problem))
        self.problem = problem


class PublishedRoutes:
    """Implements `agent.proxy.container.Routes` with the switch that publishes them."""

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
            is_last = loop.time() + ATTEMPT_SECS >= deadline
            try:
                # In short waits, since the published routes may change meanwhile.
                if await self._proxy.wait_applied(await self._traffic.table(), min(secs, ATTEMPT_SECS)):
                    return True
            except ProxyUnreachable:
                if is_last:
                    raise
            if is_last:
                return False

    async def complaints(self) -> tuple[str, ...]:
        return await self._proxy.complaints(await self._traffic.table())


async def why_no_proxy(settings: Settings, traffic: TrafficSwitch | None) -> str:
    """Why requests for domains reach no service, with the next step; empty when a proxy answers or labels are used."""
    if settings.networking.proxy == "off":
        return 'networking.proxy is "off"; set it to "traefik-file", restart the agent and run syntra-agent proxy up'
    proxy = traffic.proxy if traffic is not None else None
    return await proxy.why_none() if isinstance(proxy, ProxyRoutes) else ""


def proxy_settings(settings: Settings) -> traefik.ProxySettings:
    """The names of entrypoints and certificate resolver in the proxy's own configuration."""
    networking = settings.networking
    return traefik.ProxySettings(
        entrypoints=networking.entrypoints,
        cert_resolver=networking.cert_resolver,
        https_redirect_entrypoint=networking.https_redirect_entrypoint,
    )


def route_labels(settings: Settings) -> RouteLabels:
    """The labels for Traefik of a service's containers, from the service's spec and its image's labels.

    Where the routes come from the file, a Traefik that also reads labels must not route a second time. They raise
    StepFailed for an image whose own labels would still route.
    """
    mode, proxy = settings.networking.proxy, proxy_settings(settings)

    def by_labels(spec: ServiceSpec, image_labels: Mapping[str, str]) -> Mapping[str, str]:
        try:
            return traefik_labels.labels(spec, proxy, image_labels)
        except AgentError as failed:
            raise StepFailed("ROUTE_FAILED", str(failed)) from failed

    if mode == "traefik-labels":
        return by_labels
    return lambda _spec, _image_labels: traefik_labels.NOT_ROUTED if mode == "traefik-file" else {}
