"""The settings of `[kubernetes]`; see `settings`. Pure."""

from __future__ import annotations

from dataclasses import field

from syntra.agent.config.schema import Kind, key
from syntra.utils.frozen import frozen


@frozen
class KubernetesSettings:
    """How services run on a cluster, where the runtime is one. Entrypoints and resolver are those of networking."""

    namespaces: tuple[str, ...] = field(
        default=(),
        metadata=key(Kind.NAMESPACES, "the only namespaces in which the agent has rights; empty means all"),
    )
    routes: str = field(
        default="auto",
        metadata=key(
            Kind.CHOICE,
            "what routes domains; auto: HTTPRoute with a gateway, IngressRoute with Traefik's CRDs, else Ingress",
            choices=("auto", "ingress", "ingress_route", "http_route"),
        ),
    )
    gateway: str = field(
        default="",
        metadata=key(Kind.GATEWAY, "the Gateway of HTTPRoutes, as NAME or NAMESPACE/NAME; empty means none"),
    )
    ingress_class: str = field(
        default="", metadata=key(Kind.OBJECT, "the class of Ingresses; empty means the cluster's default")
    )
    storage_class: str = field(
        default="", metadata=key(Kind.OBJECT, "the class of volume claims; empty means the cluster's default")
    )
    host_paths: str = field(
        default="off", metadata=key(Kind.CHOICE, "whether services may mount paths of nodes", choices=("on", "off"))
    )
    cpu_request_fraction: float = field(
        default=0.1, metadata=key(Kind.NUMBER, "the part of a CPU limit that a node reserves", maximum=1)
    )
    otlp_endpoint: str = field(
        default="",
        metadata=key(Kind.OPTIONAL_HTTP_URL, "where pods send telemetry over OTLP/HTTP; empty means they are not told"),
    )
    pre_stop_seconds: int = field(
        default=5,
        metadata=key(Kind.INTEGER, "how long a pod with a port still serves before its stop signal", maximum=600),
    )
    scale_down_delay_seconds: float = field(
        default=30.0,
        metadata=key(Kind.NUMBER, "how long the old pods stay after a blue-green switch", maximum=3600),
    )
