"""The settings of one agent process, frozen, and their construction from checked values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from operator import attrgetter
from pathlib import Path

from syntra.agent.config.schema import KEYS, Key, Value
from syntra.utils.frozen import frozen

Values = Mapping[str, Value | None]
"""Checked values by dotted key; every key is present, None means absent."""


@frozen
class ControlPlaneSettings:
    """Where to dial and as whom."""

    endpoint: str
    """ws:// or wss:// address, without credentials."""
    token: str = field(repr=False)
    """Bearer credential: printable ASCII, safe in a header."""
    token_file: Path | None = None
    """Where the token is re-read on reload; None when it came from elsewhere."""
    heartbeat_interval_secs: int = 30
    reconnect_max_delay_secs: int = 60


@frozen
class RuntimeSettings:
    """What runs the containers."""

    runtime_type: str = "auto"
    """`docker`, `kubernetes` or `auto`."""
    docker_socket: str = ""
    """Absolute path without scheme; empty means DOCKER_HOST or /var/run/docker.sock."""
    kubernetes_config: Path | None = None
    min_healthy_secs: float = 1.0


@frozen
class DnsSettings:
    """Who answers for the names of services."""

    mode: str = "agent"
    """`agent`, `docker-alias` or `off`."""
    port: int = 53
    ttl: int = 5
    """Seconds that an answer may be kept; 0 means not at all."""
    upstreams: tuple[str, ...] = ()
    """IP addresses of resolvers for all other names; empty means the host's."""


@frozen
class NetworkingSettings:
    """How the world reaches services, and how they reach each other."""

    proxy: str = "traefik-file"
    """`traefik-file`, `traefik-labels` or `off`."""
    traefik_dynamic_dir: str = ""
    """Absolute path; empty means `traefik/dynamic` in the data directory."""
    traefik_api: str = "http://127.0.0.1:8080"
    traefik_metrics: str = ""
    """The whole address of Traefik's Prometheus metrics; empty means `/metrics` of `traefik_api`."""
    entrypoints: tuple[str, ...] = ("websecure",)
    cert_resolver: str = "letsencrypt"
    """Empty: routers without TLS."""
    https_redirect_entrypoint: str = "web"
    """Empty: no redirects."""
    drain_seconds: float = 30.0
    proxy_image: str = "traefik:v3.7.13"
    proxy_listen: tuple[str, ...] = ("web=:80", "websecure=:443")
    """Entrypoints with their addresses, as `networking.traefik_static.parse_listener` reads them."""
    acme_email: str = ""
    """Empty: no certificates, so `cert_resolver` has to be empty too when the proxy is to be ours."""
    dns: DnsSettings = field(default_factory=DnsSettings)

    @property
    def metrics_url(self) -> str:
        """Where Traefik's Prometheus metrics are, when it has any."""
        return self.traefik_metrics or f"{self.traefik_api.rstrip('/')}/metrics"

    def dynamic_dir(self, data_dir: Path) -> Path:
        """The directory that the proxy watches."""
        return Path(self.traefik_dynamic_dir) if self.traefik_dynamic_dir else data_dir / "traefik" / "dynamic"


@frozen
class TelemetrySettings:
    """Receivers, ring and batches."""

    otlp_grpc_port: int = 4317
    otlp_http_port: int = 4318
    buffer_max_mb: int = 50
    batch_interval_secs: int = 5
    batch_max_items: int = 1000
    sampling_rate: float = 0.1
    """Share of traces kept at high volume, 0 to 1."""


@frozen
class TlsSettings:
    """Files of the control-plane connection; `cert_path` and `key_path` are both set or both None."""

    cert_path: Path | None = None
    key_path: Path | None = None
    ca_path: Path | None = None


@frozen
class LoggingSettings:
    """How the agent logs."""

    level: str = "info"
    """`debug`, `info`, `warn` or `error`."""
    format: str | None = None
    """`json`, `text`, or None: text when stderr is a terminal, json elsewhere."""
    file: Path | None = None
    """None means stderr."""


@frozen
class Settings:
    """Everything an operator decides before start."""

    agent_id: str | None = None
    """None: the agent makes one at first start and keeps it in `data_dir`."""
    server_id: str | None = None
    data_dir: Path = Path("/var/lib/syntra")
    socket: Path = Path("/run/syntra/agent.sock")
    control_plane: ControlPlaneSettings | None = None
    """None: the agent runs alone, served by its local socket only."""
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    networking: NetworkingSettings = field(default_factory=NetworkingSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    tls: TlsSettings | None = None
    logging: LoggingSettings = field(default_factory=LoggingSettings)


def build(values: Values) -> Settings:
    """Settings from values that passed their checks. No endpoint means no control plane, no path means no TLS."""
    control_plane = None
    if values["control_plane.endpoint"] is not None:
        control_plane = ControlPlaneSettings(
            endpoint=_text(values, "control_plane.endpoint"),
            token=_text(values, "control_plane.token"),
            token_file=_path(values, "control_plane.token_file"),
            heartbeat_interval_secs=_integer(values, "control_plane.heartbeat_interval_secs"),
            reconnect_max_delay_secs=_integer(values, "control_plane.reconnect_max_delay_secs"),
        )
    tls = TlsSettings(
        cert_path=_path(values, "tls.cert_path"),
        key_path=_path(values, "tls.key_path"),
        ca_path=_path(values, "tls.ca_path"),
    )
    return Settings(
        agent_id=_optional(values, "agent_id"),
        server_id=_optional(values, "server_id"),
        data_dir=Path(_text(values, "data_dir")),
        socket=Path(_text(values, "socket")),
        control_plane=control_plane,
        runtime=RuntimeSettings(
            runtime_type=_text(values, "runtime.runtime_type"),
            docker_socket=_text(values, "runtime.docker_socket"),
            kubernetes_config=_path(values, "runtime.kubernetes_config"),
            min_healthy_secs=_number(values, "runtime.min_healthy_secs"),
        ),
        networking=NetworkingSettings(
            proxy=_text(values, "networking.proxy"),
            traefik_dynamic_dir=_text(values, "networking.traefik_dynamic_dir"),
            traefik_api=_text(values, "networking.traefik_api"),
            traefik_metrics=_text(values, "networking.traefik_metrics"),
            entrypoints=_texts(values, "networking.entrypoints"),
            cert_resolver=_text(values, "networking.cert_resolver"),
            https_redirect_entrypoint=_text(values, "networking.https_redirect_entrypoint"),
            drain_seconds=_number(values, "networking.drain_seconds"),
            proxy_image=_text(values, "networking.proxy_image"),
            proxy_listen=_texts(values, "networking.proxy_listen"),
            acme_email=_text(values, "networking.acme_email"),
            dns=DnsSettings(
                mode=_text(values, "networking.dns.mode"),
                port=_integer(values, "networking.dns.port"),
                ttl=_integer(values, "networking.dns.ttl"),
                upstreams=_texts(values, "networking.dns.upstreams"),
            ),
        ),
        telemetry=TelemetrySettings(
            otlp_grpc_port=_integer(values, "telemetry.otlp_grpc_port"),
            otlp_http_port=_integer(values, "telemetry.otlp_http_port"),
            buffer_max_mb=_integer(values, "telemetry.buffer_max_mb"),
            batch_interval_secs=_integer(values, "telemetry.batch_interval_secs"),
            batch_max_items=_integer(values, "telemetry.batch_max_items"),
            sampling_rate=_number(values, "telemetry.sampling_rate"),
        ),
        tls=tls if tls != TlsSettings() else None,
        logging=LoggingSettings(
            level=_text(values, "logging.level"),
            format=_optional(values, "logging.format"),
            file=_path(values, "logging.file"),
        ),
    )


def flatten(settings: Settings) -> dict[str, Value | None]:
    """The value of every key by its dotted name, in the table's order, paths as text. Holds the token: never print it.

    Keys of a section that is None have their defaults.
    """
    flat: dict[str, Value | None] = {}
    for key in KEYS:
        owner = attrgetter(key.section)(settings) if key.section else settings
        value = getattr(owner, key.name) if owner is not None else key.default
        flat[key.dotted] = str(value) if isinstance(value, Path) else value
    return flat


def changed(old: Settings, new: Settings) -> tuple[Key, ...]:
    """Keys whose values differ, in the table's order; `Key.reloadable` says which of them a running agent can take."""
    before, after = flatten(old), flatten(new)
    return tuple(key for key in KEYS if before[key.dotted] != after[key.dotted])


def _text(values: Values, key: str) -> str:
    value = values[key]
    assert isinstance(value, str), f"{key} cannot be absent because it was checked"
    return value


def _optional(values: Values, key: str) -> str | None:
    return None if values[key] is None else _text(values, key)


def _texts(values: Values, key: str) -> tuple[str, ...]:
    value = values[key]
    assert isinstance(value, tuple), f"{key} cannot be anything but a list because it was checked"
    return value


def _path(values: Values, key: str) -> Path | None:
    return None if values[key] is None else Path(_text(values, key))


def _integer(values: Values, key: str) -> int:
    value = values[key]
    assert isinstance(value, int), f"{key} cannot be anything but an int because it was checked"
    return value


def _number(values: Values, key: str) -> float:
    value = values[key]
    assert isinstance(value, float), f"{key} cannot be anything but a float because it was checked"
    return value
