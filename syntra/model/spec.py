"""What a service is meant to be: the desired side of every deployment."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field

from syntra.model.container_options import ContainerOptions
from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.image import ImageRef, ResolvedImage
from syntra.model.log_options import LogOptions
from syntra.utils.frozen import frozen

# What the agent itself tells every container. Whatever else is asked for under these names is not part of a spec.
AGENT_ENV = frozenset({"SYNTRA_SERVICE_ID", "SYNTRA_DEPLOYMENT_ID", "SYNTRA_OTLP_ENDPOINT"})


class Strategy(enum.Enum):
    """How new replicas take over from old ones."""

    ROLLING = "rolling"
    INSTANT = "instant"
    BLUE_GREEN = "blue_green"
    CANARY = "canary"


class HealthKind(enum.Enum):
    """How a health check asks."""

    HTTP = "http"
    TCP = "tcp"
    EXEC = "exec"


@frozen
class HealthSpec:
    """A health check as asked for. Times in seconds; `port` None means the service's port."""

    kind: HealthKind
    path: str
    port: int | None
    command: tuple[str, ...]
    interval: float
    timeout: float
    retries: int
    start_period: float
    restart_unhealthy: bool = False
    """Restart a replica that became unhealthy. The agent's own, and optional in every payload."""


class ImageVolumes(enum.Enum):
    """What becomes of the paths that an image declares as volumes (`VOLUME`) and the spec mounts nothing at."""

    KEEP = "keep"
    """Each replica has a named volume there, which stays over deploys."""
    DISCARD = "discard"
    """Each container has an anonymous volume there, which is removed with it."""


@frozen
class VolumeMount:
    """A named volume, or a bind of `host_path` when that is set.

    `external`: the volume has exactly this name on the engine, and must exist. Other names get the project's in front.
    """

    name: str
    host_path: str | None
    container_path: str
    read_only: bool
    external: bool = False


@frozen
class RateLimit:
    """Requests that a route takes from one client address: `average` a second over time, `burst` at once."""

    average: int
    burst: int


@frozen
class Routing:
    """How the proxy reaches a service, beside its domains. The agent's own, and optional in every payload.

    `priority` None is by precision: an exact host with a path first, a wildcard last.
    """

    path_prefix: str | None = None
    strip_prefix: bool = False
    priority: int | None = None
    sticky: bool = False
    response_headers: tuple[tuple[str, str], ...] = ()
    rate_limit: RateLimit | None = None


@frozen
class MetricsSpec:
    """The Prometheus endpoint of each replica. `port` None is the service's, `interval_secs` None the agent's."""

    port: int | None = None
    path: str = "/metrics"
    interval_secs: float | None = None
    metric_names: tuple[str, ...] = ()
    """Globs of the metrics to keep; one that begins with `!` leaves out. None of them keeps all."""
    native_histograms: bool = False
    """Whether to ask for them, which makes a page more expensive to read."""


@frozen
class Autoscale:
    """Let a cluster set the number of replicas, between `least` and `most`, by CPU.

    `cpu_percent` is the use of the CPU that each replica has reserved, which the cluster aims at.
    """

    least: int
    most: int
    cpu_percent: int = 80


@frozen
class ServiceSpec:
    """One service. `cpu_nanos` are billionths of a core, `memory_bytes` bytes; None means unlimited.

    `host_port` is the published port on the host, None when the service is not published.
    Environment values are secrets: they are kept out of every representation.
    """

    service_id: ServiceId
    service_name: str
    project_name: str
    image: ImageRef
    command: tuple[str, ...]
    port: int | None
    replicas: int
    cpu_nanos: int | None
    memory_bytes: int | None
    env: Mapping[str, str] = field(repr=False)
    labels: Mapping[str, str]
    volumes: tuple[VolumeMount, ...]
    health: HealthSpec | None
    domains: tuple[str, ...]
    routing: Routing
    internal_hostname: str | None
    host_port: int | None
    options: ContainerOptions = ContainerOptions()
    release_command: tuple[str, ...] = ()
    """Run once by each deploy, before the new version starts. The agent's own, and optional in every payload."""
    image_volumes: ImageVolumes = ImageVolumes.KEEP
    metrics: MetricsSpec | None = None
    """What the agent scrapes. The agent's own, and optional in every payload."""
    logs: LogOptions = LogOptions()
    """How its log is read. No container depends on it."""
    autoscale: Autoscale | None = None
    """On a cluster only. The agent's own, and optional in every payload."""
    env_secrets: tuple[tuple[str, str], ...] = ()
    """Variables whose value is a secret of the agent, with its name; the value is in `env` once it was read."""


@frozen
class CanaryStep:
    """This percentage of the requests (1–100) goes to the new replicas, for so long before the next step."""

    percent: int
    hold_secs: float


@frozen
class Canary:
    """How strategy `canary` goes. The steps rise, and the last is 100 %.

    With `max_error_percent` a step fails when more than that percentage of the new replicas' answers during its hold
    are 5xx; fewer than `min_requests` of them are not judged.
    """

    steps: tuple[CanaryStep, ...] = (
        CanaryStep(percent=10, hold_secs=60.0),
        CanaryStep(percent=50, hold_secs=60.0),
        CanaryStep(percent=100, hold_secs=0.0),
    )
    max_error_percent: float | None = None
    min_requests: int = 20


@frozen
class Deployment:
    """A spec on its way to being real.

    `timeout_secs` bounds the whole of it, pull included; what a canary holds comes on top. `canary` is of no use to the
    other strategies. `resolved` is which image `spec.image` stood for, once that is known; every replica is made of it.
    """

    deployment_id: DeploymentId
    spec: ServiceSpec
    strategy: Strategy
    rollback_on_failure: bool
    timeout_secs: float
    canary: Canary = Canary()
    resolved: ResolvedImage | None = None


@frozen
class RegistryAuth:
    """Short-lived credentials for one pull; never stored."""

    username: str
    password: str = field(repr=False)
