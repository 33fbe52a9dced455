"""What the agent and the cluster add to a deployment when it is rendered as objects. Pure."""

from __future__ import annotations

import enum

from syntra.model.spec import RegistryAuth
from syntra.runtime.kubernetes.names import Slot
from syntra.utils.frozen import frozen

VOLUME_BYTES = 10 * 1024**3
PRE_STOP_SECS = 5
"""A pod gets its stop signal while proxies still send requests to it, so it waits first."""


class Routes(enum.Enum):
    """The kind of objects that route domains to a service."""

    NONE = "none"
    INGRESS = "ingress"
    INGRESS_ROUTE = "ingress_route"
    HTTP_ROUTE = "http_route"


@frozen
class RenderContext:
    """Everything about the objects of a deployment that its spec does not say."""

    owner: str
    """The id of the agent that owns the objects."""
    slot: Slot
    replicas: int | None
    """None: an autoscaler owns `spec.replicas`, so it is left out."""
    routes: Routes
    min_healthy_secs: float = 0.0
    """How long a new pod must stay ready before it counts as available, and an old one may end."""
    pre_stop_secs: int = PRE_STOP_SECS
    """How long a pod with a port still serves before its stop signal, because proxies still send to it."""
    cpu_request_fraction: float = 0.1
    """The part of a service's CPU limit that the scheduler reserves. Memory is reserved whole."""
    otlp_endpoint: str = ""
    """The agent's OTLP receiver over HTTP, such as `http://syntra-agent.syntra.svc:4318`; empty: none."""
    restarted_at: str = ""
    """When a restart began, in epoch seconds; empty: none did since the deploy."""
    auth: RegistryAuth | None = None
    """Credentials for the pull Secret. Without them there is none, unless `pull_secret` names one."""
    pull_secret: str = ""
    """The name of a pull Secret that exists."""
    entry_points: tuple[str, ...] = ()
    """Traefik's entry points, for an IngressRoute; none: Traefik's own default."""
    cert_resolver: str = ""
    """Traefik's certificate resolver, for an IngressRoute; empty: no TLS."""
    ingress_class: str = ""
    gateway: str = ""
    """The Gateway of an HTTPRoute, as `name` or `namespace/name`."""
    sleep_action: bool = True
    """Whether the cluster has the lifecycle action `sleep` (on by default since Kubernetes 1.30)."""
    volume_bytes: int = VOLUME_BYTES
    """The size of a new volume."""
    storage_class: str = ""
    """The storage class of a new volume; empty: the cluster's default."""
