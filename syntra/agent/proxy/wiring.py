"""From the `[networking]` settings to what leads traffic."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from syntra.agent.config.settings import Settings
from syntra.agent.journal.journal import Journal
from syntra.agent.proxy.routes import ProxyRoutes
from syntra.agent.traffic.port import ServiceNames
from syntra.agent.traffic.switch import TrafficSettings, TrafficSwitch
from syntra.model.ids import ServiceId
from syntra.model.spec import ServiceSpec
from syntra.model.status import Health, Replica
from syntra.networking.file_writer import FileWriter
from syntra.networking.proxy import ProxyObserver
from syntra.networking.traefik import ProxySettings, labels
from syntra.runtime.adapter import Adapter


def traffic_of(
    settings: Settings,
    *,
    adapter: Adapter,
    journal: Journal,
    is_busy: Callable[[ServiceId], bool],
    readiness: Callable[[Replica, ServiceSpec], Health],
    names: ServiceNames | None = None,
    is_held: Callable[[ServiceId], bool] = lambda _: False,
) -> TrafficSwitch | None:
    """The switch of an agent with these settings; None when it leads nothing anywhere."""
    networking = settings.networking
    proxy: ProxyRoutes | None = None
    if networking.proxy == "traefik-file":
        named = proxy_settings(settings)
        proxy = ProxyRoutes(
            named,
            writer=FileWriter(networking.dynamic_dir(settings.data_dir)),
            observer=ProxyObserver(networking.traefik_api, named),
        )
    if proxy is None and names is None:
        return None
    return TrafficSwitch(
        TrafficSettings(drain_secs=networking.drain_seconds, state_dir=settings.data_dir),
        adapter=adapter,
        journal=journal,
        is_busy=is_busy,
        readiness=readiness,
        proxy=proxy,
        names=names,
        is_held=is_held,
    )


def proxy_settings(settings: Settings) -> ProxySettings:
    """What the proxy's own configuration calls things."""
    networking = settings.networking
    return ProxySettings(
        entrypoints=networking.entrypoints,
        cert_resolver=networking.cert_resolver,
        https_redirect_entrypoint=networking.https_redirect_entrypoint,
    )


def route_labels(settings: Settings) -> Callable[[ServiceSpec], Mapping[str, str]]:
    """The labels that lead a proxy to a service's containers; none unless routes are made by labels."""
    by_labels, proxy = settings.networking.proxy == "traefik-labels", proxy_settings(settings)
    return lambda spec: labels(spec, proxy) if by_labels else {}
