"""Every configuration key there is: its section, type, default, range, and whether it is secret or reloadable. Pure.

The file loader, the environment, `config show`, the did-you-mean hints and the tests all read this one table.
"""

from __future__ import annotations

from enum import Enum

from syntra.utils.frozen import frozen


class Kind(Enum):
    """How a value is written, checked and shown."""

    NAME = "a name"
    PATH = "an absolute path"
    SOCKET = "the path of a unix socket"
    URL = "a WebSocket address"
    SECRET = "a secret"
    INTEGER = "a whole number"
    NUMBER = "a number"
    PORT = "a port"
    CHOICE = "a choice"
    OPTIONAL_PATH = "an absolute path, or empty"
    HTTP_URL = "an HTTP address"
    OPTIONAL_HTTP_URL = "an HTTP address, or empty"
    ENTRY = "a name of the proxy's, or empty"
    ENTRIES = "names of the proxy's"
    ADDRESSES = "IP addresses"
    LISTENERS = "entrypoints with their addresses"
    EMAIL = "an e-mail address, or empty"
    IMAGE = "an image"


Value = str | int | float | tuple[str, ...]
"""A checked value; lists are tuples of texts."""

LISTS = frozenset({Kind.ENTRIES, Kind.ADDRESSES, Kind.LISTENERS})
"""Written as lists in the file, with commas in a variable."""


@frozen
class Key:
    """One key. `section` is empty at the top level; `default` None means: absent unless given."""

    section: str
    name: str
    kind: Kind
    meaning: str
    default: Value | None = None
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()
    reloadable: bool = False
    """A running agent takes a new value on SIGHUP; every other key needs a restart."""

    @property
    def dotted(self) -> str:
        """`telemetry.otlp_http_port`, as errors and `config show` write it."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def variable(self) -> str:
        """`SYNTRA_TELEMETRY__OTLP_HTTP_PORT`: two underscores before the key, because names have single ones."""
        return PREFIX + self.dotted.replace(".", "__").upper()

    @property
    def secret(self) -> bool:
        """Whether the value must never be shown."""
        return self.kind is Kind.SECRET


PREFIX = "SYNTRA_"

NOT_KEYS = frozenset(
    {
        "SYNTRA_CONFIG",  # the file's path
        "SYNTRA_PEERS",  # a development aid
        "SYNTRA_REGISTRY_PASSWORD",  # the deploy verb's password
        # What services find in their environment; an agent started inside one is not misconfigured.
        "SYNTRA_DEPLOYMENT_ID",
        "SYNTRA_OTLP_ENDPOINT",
        "SYNTRA_SERVICE_ID",
    }
)
"""Variables of ours that are not configuration keys."""

KEYS: tuple[Key, ...] = (
    Key(section="", name="agent_id", kind=Kind.NAME, meaning="who this agent is to the control plane"),
    Key(section="", name="server_id", kind=Kind.NAME, meaning="which server of the control plane this is"),
    Key(
        section="",
        name="data_dir",
        kind=Kind.PATH,
        default="/var/lib/syntra",
        meaning="journal, stored specs, telemetry ring, keys",
    ),
    Key(
        section="",
        name="socket",
        kind=Kind.SOCKET,
        default="/run/syntra/agent.sock",
        meaning="where the command line reaches the agent",
    ),
    Key(
        section="control_plane",
        name="endpoint",
        kind=Kind.URL,
        meaning="address to dial; without it the agent runs alone",
    ),
    Key(
        section="control_plane",
        name="token",
        kind=Kind.SECRET,
        meaning="the agent's credential; prefer token_file",
    ),
    Key(
        section="control_plane",
        name="token_file",
        kind=Kind.PATH,
        meaning="file holding the token, readable by its owner only",
    ),
    Key(
        section="control_plane",
        name="heartbeat_interval_secs",
        kind=Kind.INTEGER,
        default=30,
        minimum=1,
        maximum=3600,
        meaning="seconds between heartbeats",
    ),
    Key(
        section="control_plane",
        name="reconnect_max_delay_secs",
        kind=Kind.INTEGER,
        default=60,
        minimum=1,
        maximum=3600,
        meaning="longest wait between two attempts to connect",
    ),
    Key(
        section="runtime",
        name="runtime_type",
        kind=Kind.CHOICE,
        default="auto",
        choices=("docker", "kubernetes", "auto"),
        meaning="what runs the containers",
    ),
    Key(
        section="runtime",
        name="docker_socket",
        kind=Kind.SOCKET,
        default="",
        meaning="the engine's socket; empty means DOCKER_HOST or /var/run/docker.sock",
    ),
    Key(
        section="runtime",
        name="kubernetes_config",
        kind=Kind.PATH,
        meaning="a kubeconfig file; absent means in-cluster credentials or the user's own",
    ),
    Key(
        section="runtime",
        name="min_healthy_secs",
        kind=Kind.NUMBER,
        default=1.0,
        maximum=600,
        meaning="how long a new container must hold before it counts as proven",
    ),
    Key(
        section="networking",
        name="proxy",
        kind=Kind.CHOICE,
        default="traefik-file",
        choices=("traefik-file", "traefik-labels", "off"),
        meaning="how routes reach the proxy",
    ),
    Key(
        section="networking",
        name="traefik_dynamic_dir",
        kind=Kind.OPTIONAL_PATH,
        default="",
        meaning="directory that Traefik watches; empty means traefik/dynamic in data_dir",
    ),
    Key(
        section="networking",
        name="traefik_api",
        kind=Kind.HTTP_URL,
        default="http://127.0.0.1:8080",
        meaning="where Traefik's API answers",
    ),
    Key(
        section="networking",
        name="traefik_metrics",
        kind=Kind.OPTIONAL_HTTP_URL,
        default="",
        meaning="where Traefik's Prometheus metrics are (canaries count errors); empty means /metrics of traefik_api",
    ),
    Key(
        section="networking",
        name="entrypoints",
        kind=Kind.ENTRIES,
        default=("websecure",),
        minimum=1,
        meaning="Traefik's entrypoints that services are reached by",
    ),
    Key(
        section="networking",
        name="cert_resolver",
        kind=Kind.ENTRY,
        default="letsencrypt",
        meaning="Traefik's certificate resolver; empty means routers without TLS",
    ),
    Key(
        section="networking",
        name="https_redirect_entrypoint",
        kind=Kind.ENTRY,
        default="web",
        meaning="entrypoint whose requests are sent to https; empty means none",
    ),
    Key(
        section="networking",
        name="drain_seconds",
        kind=Kind.NUMBER,
        default=30.0,
        maximum=3600,
        meaning="longest wait for open requests before an old container is stopped",
    ),
    Key(
        section="networking",
        name="proxy_image",
        kind=Kind.IMAGE,
        default="traefik:v3.7.13",
        meaning="what `proxy up` runs: Traefik 3.7 or newer",
    ),
    Key(
        section="networking",
        name="proxy_listen",
        kind=Kind.LISTENERS,
        default=("web=:80", "websecure=:443"),
        minimum=1,
        meaning="entrypoints of the proxy that `proxy up` runs",
    ),
    Key(
        section="networking",
        name="acme_email",
        kind=Kind.EMAIL,
        default="",
        meaning="address of the account that `proxy up` gets certificates with",
    ),
    Key(
        section="networking.dns",
        name="mode",
        kind=Kind.CHOICE,
        default="agent",
        choices=("agent", "docker-alias", "off"),
        meaning="who answers for the names of services",
    ),
    Key(
        section="networking.dns",
        name="port",
        kind=Kind.PORT,
        default=53,
        meaning="where the resolver listens; mode agent needs 53",
    ),
    Key(
        section="networking.dns",
        name="ttl",
        kind=Kind.INTEGER,
        default=5,
        maximum=300,
        meaning="seconds that an answer may be kept",
    ),
    Key(
        section="networking.dns",
        name="upstreams",
        kind=Kind.ADDRESSES,
        default=(),
        meaning="resolvers for all other names; empty means the host's",
    ),
    Key(section="telemetry", name="otlp_grpc_port", kind=Kind.PORT, default=4317, meaning="OTLP over gRPC"),
    Key(section="telemetry", name="otlp_http_port", kind=Kind.PORT, default=4318, meaning="OTLP over HTTP"),
    Key(
        section="telemetry",
        name="buffer_max_mb",
        kind=Kind.INTEGER,
        default=50,
        minimum=1,
        maximum=10240,
        meaning="size of the ring on disk, in MB",
    ),
    Key(
        section="telemetry",
        name="batch_interval_secs",
        kind=Kind.INTEGER,
        default=5,
        minimum=1,
        maximum=3600,
        meaning="longest wait before a batch is shipped",
    ),
    Key(
        section="telemetry",
        name="batch_max_items",
        kind=Kind.INTEGER,
        default=1000,
        minimum=1,
        maximum=100_000,
        meaning="items at which a batch is shipped at once",
    ),
    Key(
        section="telemetry",
        name="sampling_rate",
        kind=Kind.NUMBER,
        default=0.1,
        maximum=1,
        meaning="share of traces kept at high volume; errors are always kept",
    ),
    Key(section="tls", name="cert_path", kind=Kind.PATH, meaning="client certificate, PEM; needs key_path"),
    Key(section="tls", name="key_path", kind=Kind.PATH, meaning="its private key, PEM; needs cert_path"),
    Key(section="tls", name="ca_path", kind=Kind.PATH, meaning="authorities to trust beside the system's, PEM"),
    Key(
        section="logging",
        name="level",
        kind=Kind.CHOICE,
        default="info",
        choices=("debug", "info", "warn", "error"),
        reloadable=True,
        meaning="the least that is logged",
    ),
    Key(
        section="logging",
        name="format",
        kind=Kind.CHOICE,
        choices=("json", "text"),
        meaning="absent means text on a terminal, json elsewhere",
    ),
    Key(section="logging", name="file", kind=Kind.PATH, meaning="log file; absent means stderr"),
)

BY_DOTTED = {key.dotted: key for key in KEYS}
BY_VARIABLE = {key.variable: key for key in KEYS}
SECTIONS = tuple(dict.fromkeys(key.section for key in KEYS if key.section))
