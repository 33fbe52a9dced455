"""How the agent uses a cluster, from its settings."""

from __future__ import annotations

from typing import Protocol

from syntra.runtime.kubernetes.planner import SCALE_DOWN_DELAY_SECS
from syntra.runtime.kubernetes.render_context import PRE_STOP_SECS, Routes
from syntra.utils.frozen import frozen


class Groups(Protocol):
    """What of a cluster is needed."""

    async def groups(self) -> frozenset[str]: ...


@frozen
class KubernetesSettings:
    """`routes_kind` is what routes domains: a kind, or `auto`. The rest is as in `render_context`.

    `namespaces`: the only ones that the agent may use; empty means all, which it creates and deletes as needed.
    """

    namespaces: tuple[str, ...] = ()
    routes_kind: str = "auto"
    gateway: str = ""
    ingress_class: str = ""
    entry_points: tuple[str, ...] = ()
    cert_resolver: str = ""
    storage_class: str = ""
    host_paths: bool = False
    cpu_request_fraction: float = 0.1
    otlp_endpoint: str = ""
    min_healthy_secs: float = 0.0
    pre_stop_secs: int = PRE_STOP_SECS
    scale_down_delay_secs: float = SCALE_DOWN_DELAY_SECS

    async def routes(self, cluster: Groups) -> Routes:
        """The kind of objects that route domains in this cluster."""
        if self.routes_kind != "auto":
            return Routes(self.routes_kind)
        if self.gateway:
            return Routes.HTTP_ROUTE
        return Routes.INGRESS_ROUTE if "traefik.io" in await cluster.groups() else Routes.INGRESS
