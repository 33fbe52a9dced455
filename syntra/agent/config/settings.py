"""The settings of one agent process, frozen. Each field declares its key: kind, default, range, meaning. Pure.

To add a key, add a field. The file loader, the environment, `config show`, the did-you-mean hints and the tests use
the table built from the fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, field, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from syntra.agent.config.kubernetes_settings import KubernetesSettings
from syntra.agent.config.log_settings import LogSettings
from syntra.agent.config.prometheus import PrometheusSettings
from syntra.agent.config.schema import Declared, Key, Kind, Value, key
from syntra.agent.config.update_settings import UpdateSettings
from syntra.utils.frozen import frozen

Values = Mapping[str, Value | None]
"""Checked values by dotted key. Every key is present; None means that it is not set."""


@frozen
class ControlPlaneSettings:
    """The control plane's address and the agent's credentials."""

    endpoint: str = field(metadata=key(Kind.URL, "address to dial; without it the agent runs alone"))
    token: str = field(repr=False, metadata=key(Kind.SECRET, "the agent's credential; prefer token_file"))
    token_file: Path | None = field(
        default=None, metadata=key(Kind.PATH, "file holding the token, readable by its owner only")
    )
    dialect: str = field(
        default="auto",
        metadata=key(
            Kind.CHOICE,
            "what the control plane speaks; auto recognises the deployed hub by its frames",
            choices=("auto", "contract", "hub"),
        ),
    )
    heartbeat_interval_secs: int = field(
        default=30, metadata=key(Kind.INTEGER, "seconds between heartbeats", minimum=1, maximum=3600)
    )
    reconnect_max_delay_secs: int = field(
        default=60, metadata=key(Kind.INTEGER, "longest wait between two attempts to connect", minimum=1, maximum=3600)
    )


@frozen
class RuntimeSettings:
    """The runtime: Docker or Kubernetes."""

    runtime_type: str = field(
        default="auto",
        metadata=key(Kind.CHOICE, "what runs the containers", choices=("docker", "kubernetes", "auto")),
    )
    docker_socket: str = field(
        default="",
        metadata=key(Kind.SOCKET, "the engine's socket; empty means DOCKER_HOST, else the one that is found"),
    )
    kubernetes_config: Path | None = field(
        default=None,
        metadata=key(Kind.PATH, "a kubeconfig file; absent means in-cluster credentials or the user's own"),
    )
    min_healthy_secs: float = field(
        default=1.0,
        metadata=key(Kind.NUMBER, "how long a new container must hold before it counts as healthy", maximum=600),
    )


@frozen
class DnsSettings:
    """Service discovery: the name server."""

    mode: str = field(
        default="agent",
        metadata=key(Kind.CHOICE, "who answers for the names of services", choices=("agent", "docker-alias", "off")),
    )
    port: int = field(default=53, metadata=key(Kind.PORT, "where the resolver listens; mode agent needs 53"))
    ttl: int = field(default=5, metadata=key(Kind.INTEGER, "seconds that an answer may be kept", maximum=300))
    upstreams: tuple[str, ...] = field(
        default=(), metadata=key(Kind.ADDRESSES, "resolvers for all other names; empty means the host's")
    )


@frozen
class NetworkingSettings:
    """Routing to services, the proxy, and service discovery."""

    proxy: str = field(
        default="traefik-file",
        metadata=key(Kind.CHOICE, "how routes reach the proxy", choices=("traefik-file", "traefik-labels", "off")),
    )
    traefik_dynamic_dir: str = field(
        default="",
        metadata=key(Kind.OPTIONAL_PATH, "directory that Traefik watches; empty means traefik/dynamic in data_dir"),
    )
    traefik_api: str = field(
        default="http://127.0.0.1:8080", metadata=key(Kind.HTTP_URL, "where Traefik's API answers")
    )
    traefik_metrics: str = field(
        default="",
        metadata=key(
            Kind.OPTIONAL_HTTP_URL,
            "where Traefik's Prometheus metrics are (canaries count errors); empty means /metrics of traefik_api",
        ),
    )
    entrypoints: tuple[str, ...] = field(
        default=("websecure",),
        metadata=key(Kind.ENTRIES, "Traefik's entrypoints that services are reached by", minimum=1),
    )
    cert_resolver: str = field(
        default="letsencrypt",
        metadata=key(Kind.ENTRY, "Traefik's certificate resolver; empty means routers without TLS"),
    )
    https_redirect_entrypoint: str = field(
        default="web", metadata=key(Kind.ENTRY, "entrypoint whose requests are sent to https; empty means none")
    )
    drain_seconds: float = field(
        default=30.0,
        metadata=key(Kind.NUMBER, "longest wait for open requests before an old container is stopped", maximum=3600),
    )
    proxy_image: str = field(
        default="traefik:v3.7.13", metadata=key(Kind.IMAGE, "what `proxy up` runs: Traefik 3.7 or newer")
    )
    proxy_listen: tuple[str, ...] = field(
        default=("web=:80", "websecure=:443"),
        metadata=key(Kind.LISTENERS, "entrypoints of the proxy that `proxy up` runs", minimum=1),
    )
    acme_email: str = field(
        default="", metadata=key(Kind.EMAIL, "address of the account that `proxy up` gets certificates with")
    )
    dns: DnsSettings = field(default_factory=DnsSettings, metadata={"section": DnsSettings})

    @property
    def metrics_url(self) -> str:
        """The URL of Traefik's Prometheus metrics, where it serves them."""
        return self.traefik_metrics or f"{self.traefik_api.rstrip('/')}/metrics"

    def dynamic_dir(self, data_dir: Path) -> Path:
        """The directory that the proxy watches."""
        return Path(self.traefik_dynamic_dir) if self.traefik_dynamic_dir else data_dir / "traefik" / "dynamic"


@frozen
class ExportSettings:
    """Export of telemetry to an OTLP endpoint, beside the control plane."""

    endpoint: str = field(
        default="", metadata=key(Kind.OPTIONAL_HTTP_URL, "an OTLP endpoint that gets all telemetry; empty means none")
    )
    protocol: str = field(
        default="grpc", metadata=key(Kind.CHOICE, "how the endpoint is reached", choices=("grpc", "http/protobuf"))
    )
    headers: str | None = field(
        default=None,
        repr=False,
        metadata=key(Kind.SECRET, "headers of each request: NAME=VALUE,NAME=VALUE; prefer headers_file"),
    )
    headers_file: Path | None = field(
        default=None, metadata=key(Kind.PATH, "file holding the headers, readable by its owner only")
    )
    compression: str = field(
        default="gzip",
        metadata=key(Kind.CHOICE, "of each request; zstd costs least", choices=("none", "gzip", "zstd")),
    )
    signals: tuple[str, ...] = field(
        default=("traces", "metrics", "logs"),
        metadata=key(Kind.CHOICES, "what is exported", minimum=1, choices=("traces", "metrics", "logs", "profiles")),
    )
    timeout_secs: float = field(
        default=10.0, metadata=key(Kind.NUMBER, "longest wait for the endpoint's answer", minimum=0.1, maximum=300)
    )
    ca_path: Path | None = field(default=None, metadata=key(Kind.PATH, "authorities to trust beside the system's, PEM"))
    cert_path: Path | None = field(default=None, metadata=key(Kind.PATH, "client certificate, PEM; needs key_path"))
    key_path: Path | None = field(default=None, metadata=key(Kind.PATH, "its private key, PEM; needs cert_path"))


@frozen
class ReceiverTlsSettings:
    """TLS of the OTLP receivers on the addresses in `telemetry.listen`."""

    cert_path: Path | None = field(default=None, metadata=key(Kind.PATH, "server certificate, PEM; needs key_path"))
    key_path: Path | None = field(default=None, metadata=key(Kind.PATH, "its private key, PEM; needs cert_path"))
    client_ca_path: Path | None = field(
        default=None, metadata=key(Kind.PATH, "authorities of client certificates, PEM; set: clients need one")
    )


@frozen
class FiguresSettings:
    """Figures of the host and of the containers."""

    collect: str = field(
        default="on",
        metadata=key(
            Kind.CHOICE,
            "whether figures of host and containers become metrics; heartbeats have them in any case",
            choices=("on", "off"),
        ),
    )
    interval_secs: float = field(
        default=15.0, metadata=key(Kind.NUMBER, "seconds between two samples", minimum=1, maximum=3600)
    )


@frozen
class TelemetrySettings:
    """Receivers, sampling, buffer and batches."""

    receivers: str = field(
        default="on", metadata=key(Kind.CHOICE, "whether the agent receives OTLP", choices=("on", "off"))
    )
    otlp_grpc_port: int = field(default=4317, metadata=key(Kind.PORT, "OTLP over gRPC"))
    otlp_http_port: int = field(default=4318, metadata=key(Kind.PORT, "OTLP over HTTP"))
    listen: tuple[str, ...] = field(
        default=(),
        metadata=key(Kind.ADDRESSES, "addresses to receive on beside loopback and the project networks' gateways"),
    )
    otlp_grpc_socket: str = field(
        default="", metadata=key(Kind.OPTIONAL_PATH, "unix socket for OTLP over gRPC; empty means none")
    )
    otlp_http_socket: str = field(
        default="", metadata=key(Kind.OPTIONAL_PATH, "unix socket for OTLP over HTTP; empty means none")
    )
    cors_origins: tuple[str, ...] = field(
        default=(), metadata=key(Kind.ORIGINS, "origins of browsers that may send; * means all")
    )
    max_request_mb: int = field(
        default=64, metadata=key(Kind.INTEGER, "largest request, decompressed, in MB", minimum=1, maximum=1024)
    )
    receive_memory_mb: int = field(
        default=96,
        metadata=key(
            Kind.INTEGER, "memory for all requests in progress, in MB; more are told to wait", minimum=1, maximum=4096
        ),
    )
    buffer_max_mb: int = field(
        default=50, metadata=key(Kind.INTEGER, "size of the ring on disk, in MB", minimum=1, maximum=10240)
    )
    buffer_fsync: str = field(
        default="interval",
        metadata=key(
            Kind.CHOICE,
            "when the ring is forced to disk: interval survives a kill, always a power failure too",
            choices=("interval", "always"),
        ),
    )
    batch_interval_secs: int = field(
        default=5, metadata=key(Kind.INTEGER, "longest wait before a batch is shipped", minimum=1, maximum=3600)
    )
    batch_max_items: int = field(
        default=1000,
        metadata=key(Kind.INTEGER, "items at which a batch is shipped at once", minimum=1, maximum=100_000),
    )
    sampling_rate: float = field(
        default=0.1,
        metadata=key(Kind.NUMBER, "share of traces kept at high volume; errors are always kept", maximum=1),
    )
    target_spans_per_sec: float = field(
        default=1000.0,
        metadata=key(
            Kind.NUMBER,
            "spans a second that the agent keeps; below it all traces are kept, above it rates adapt",
            minimum=1,
            maximum=10_000_000,
        ),
    )
    scrape: tuple[str, ...] = field(
        default=(), metadata=key(Kind.SCRAPES, "Prometheus endpoints beside those of services")
    )
    prometheus: PrometheusSettings = field(default_factory=PrometheusSettings, metadata={"section": PrometheusSettings})
    logs: LogSettings = field(default_factory=LogSettings, metadata={"section": LogSettings})
    export: ExportSettings = field(default_factory=ExportSettings, metadata={"section": ExportSettings})
    figures: FiguresSettings = field(default_factory=FiguresSettings, metadata={"section": FiguresSettings})
    tls: ReceiverTlsSettings = field(default_factory=ReceiverTlsSettings, metadata={"section": ReceiverTlsSettings})


@frozen
class TlsSettings:
    """Files of the control-plane connection; `cert_path` and `key_path` are both set or both None."""

    cert_path: Path | None = field(default=None, metadata=key(Kind.PATH, "client certificate, PEM; needs key_path"))
    key_path: Path | None = field(default=None, metadata=key(Kind.PATH, "its private key, PEM; needs cert_path"))
    ca_path: Path | None = field(default=None, metadata=key(Kind.PATH, "authorities to trust beside the system's, PEM"))


@frozen
class LoggingSettings:
    """How the agent logs."""

    level: str = field(
        default="info",
        metadata=key(Kind.CHOICE, "minimum log level", choices=("debug", "info", "warn", "error"), reloadable=True),
    )
    format: str | None = field(
        default=None,
        metadata=key(Kind.CHOICE, "absent means text on a terminal, json elsewhere", choices=("json", "text")),
    )
    file: Path | None = field(default=None, metadata=key(Kind.PATH, "log file; absent means stderr"))


@frozen
class Settings:
    """All settings. `control_plane` and `tls` are None when they are not configured."""

    agent_id: str | None = field(default=None, metadata=key(Kind.NAME, "who this agent is to the control plane"))
    server_id: str | None = field(default=None, metadata=key(Kind.NAME, "which server of the control plane this is"))
    data_dir: Path = field(
        default=Path("/var/lib/syntra"), metadata=key(Kind.PATH, "journal, stored specs, telemetry ring, keys")
    )
    socket: Path = field(
        default=Path("/run/syntra/agent.sock"),
        metadata=key(Kind.SOCKET, "where the command line reaches the agent"),
    )
    control_plane: ControlPlaneSettings | None = field(default=None, metadata={"section": ControlPlaneSettings})
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings, metadata={"section": RuntimeSettings})
    kubernetes: KubernetesSettings = field(default_factory=KubernetesSettings, metadata={"section": KubernetesSettings})
    networking: NetworkingSettings = field(default_factory=NetworkingSettings, metadata={"section": NetworkingSettings})
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings, metadata={"section": TelemetrySettings})
    tls: TlsSettings | None = field(default=None, metadata={"section": TlsSettings})
    update: UpdateSettings = field(default_factory=UpdateSettings, metadata={"section": UpdateSettings})
    logging: LoggingSettings = field(default_factory=LoggingSettings, metadata={"section": LoggingSettings})


def _keys(of: Any, section: str) -> Iterator[Key]:
    for one in fields(of):
        if "key" in one.metadata:
            declared: Declared = one.metadata["key"]
            default = None if one.default is MISSING else one.default
            yield Key(
                section=section,
                name=one.name,
                kind=declared.kind,
                meaning=declared.meaning,
                default=str(default) if isinstance(default, Path) else default,
                minimum=declared.minimum,
                maximum=declared.maximum,
                choices=declared.choices,
                reloadable=declared.reloadable,
            )
    for one in fields(of):
        if "section" in one.metadata:
            yield from _keys(one.metadata["section"], f"{section}.{one.name}" if section else one.name)


KEYS: tuple[Key, ...] = tuple(_keys(Settings, ""))
BY_DOTTED = {key.dotted: key for key in KEYS}
BY_VARIABLE = {key.variable: key for key in KEYS}
SECTIONS = tuple(dict.fromkeys(key.section for key in KEYS if key.section))


def build(values: Values) -> Settings:
    """Build settings from checked values. No endpoint means no control plane; no path means no TLS files."""
    settings: Settings = _built(Settings, "", values)
    return settings


def _built(of: Any, prefix: str, values: Values) -> Any:
    given = {one.name: _value_of(one, prefix + one.name, values) for one in fields(of)}
    return of(**given)


def _value_of(one: Field[Any], dotted: str, values: Values) -> Any:
    section = one.metadata.get("section")
    if section is None:
        value = values[dotted]
        return Path(value) if isinstance(value, str) and str(one.type).startswith("Path") else value
    if section is ControlPlaneSettings and values["control_plane.endpoint"] is None:
        return None
    made = _built(section, f"{dotted}.", values)
    return None if made == TlsSettings() else made


def flatten(settings: Settings) -> dict[str, Value | None]:
    """Every key's value by dotted name, in the table's order, paths as text. Includes the token: never print it.

    Keys of a section that is None have their defaults.
    """
    flat: dict[str, Value | None] = {}
    for one in KEYS:
        owner = attrgetter(one.section)(settings) if one.section else settings
        value = getattr(owner, one.name) if owner is not None else one.default
        flat[one.dotted] = str(value) if isinstance(value, Path) else value
    return flat


def changed(old: Settings, new: Settings) -> tuple[Key, ...]:
    """Keys whose values differ, in the table's order. `Key.reloadable`: a running agent can apply the new value."""
    before, after = flatten(old), flatten(new)
    return tuple(one for one in KEYS if before[one.dotted] != after[one.dotted])
