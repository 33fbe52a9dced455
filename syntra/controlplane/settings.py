"""The settings of the control plane. Durations in seconds, sizes in bytes."""

from __future__ import annotations

import ipaddress
from dataclasses import field
from pathlib import Path

from syntra.connection.codec import MAX_FRAME_BYTES
from syntra.connection.enrolment import LIFETIME_SECS
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7420


@frozen
class Timings:
    """All deadlines. Tests shorten them."""

    # The first three are the contract's figures.
    hello: float = 30.0
    heartbeat: float = 90.0
    command: float = 30.0
    # WebSocket pings detect a broken link before the heartbeat does; a command sent over it would be lost.
    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    # From our close frame until the transport is aborted; also for discarding the body of a refused HTTP request.
    close: float = 5.0
    # For a whole request head (idle keep-alive included), a whole body and a whole write. They are not renewed by
    # single bytes, so a slow client cannot hold a connection.
    request_head: float = 15.0
    request_body: float = 30.0
    write: float = 10.0
    # The longest `?wait=`.
    longest_wait: float = 60.0
    # One database operation.
    store: float = 10.0


@frozen
class Limits:
    """Limits of what the control plane accepts and stores. Sizes in bytes."""

    body_bytes: int = 4 * 1024 * 1024
    # One answer of the API; the agents' frames have the same limit.
    answer_bytes: int = MAX_FRAME_BYTES
    # Records in one answer that lists something.
    answer_records: int = 1000
    message_bytes: int = MAX_FRAME_BYTES
    # A deploy that was queued travels inside `hello_ack`; the difference is room for the rest of that message.
    command_bytes: int = MAX_FRAME_BYTES - 64 * 1024
    hello_bytes: int = 64 * 1024
    heartbeat_bytes: int = 1024 * 1024
    # Stored texts. A deployment is answered with its command's response and at least one event: together they fit.
    response_bytes: int = 14 * 1024 * 1024
    report_bytes: int = 1024 * 1024
    # Connections without a valid token so far; connections with one, of all owners and of one server.
    unauthenticated: int = 64
    connections: int = 512
    connections_per_server: int = 16
    servers: int = 1000
    tokens_per_server: int = 16
    queued_per_server: int = 64
    # Rows and bytes kept per table. Beyond them each server keeps its share, see `retention`.
    kept_commands: int = 10_000
    kept_deployments: int = 10_000
    kept_events: int = 50_000
    kept_alerts: int = 10_000
    kept_log_lines: int = 100_000
    kept_bytes: int = 64 * 1024 * 1024
    # The same for telemetry: blocks, their bytes, and the ids by which a batch that comes again is recognised.
    kept_telemetry_blocks: int = 100_000
    kept_telemetry_bytes: int = 256 * 1024 * 1024
    kept_telemetry_ids: int = 100_000
    telemetry_days: int = 7
    # A binary frame of telemetry when it is decompressed: as much as one OTLP request may have. It is decoded in parts.
    telemetry_frame_bytes: int = 64 * 1024 * 1024
    # The data of a `telemetry_batch` when it is decompressed: as much as it could have in a frame of its own.
    telemetry_batch_bytes: int = MAX_FRAME_BYTES
    # Decompressed bytes that one query reads. If they have less than a page, its answer says that there is more.
    telemetry_query_bytes: int = 64 * 1024 * 1024


@frozen
class ControlPlaneSettings:
    """The address to listen on, the data directory, and the rest. With port 0 the system chooses a port.

    With `client_ca`, an agent must present a certificate signed by it; operators need their token only. With `enrol`, a
    certificate that the control plane issued itself is as good.
    A listen address that other machines can reach needs TLS or an explicit `allow_plain` (a proxy in front terminates
    TLS), because every request has a token. Raises AgentError for settings that contradict each other.
    """

    data_dir: Path
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    allow_plain: bool = False
    # Issue client certificates to agents that ask for one, valid for this long.
    enrol: bool = False
    certificate_secs: float = LIFETIME_SECS
    org_id: str = "org_local"
    # Sent to agents in `hello_ack.config`.
    heartbeat_interval_seconds: int = 30
    telemetry_batch_interval_seconds: int = 5
    agent_log_level: str = "info"
    limits: Limits = field(default_factory=Limits)
    timings: Timings = field(default_factory=Timings)

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise AgentError(
                "cannot serve TLS: a certificate and its key belong together; give --tls-cert and --tls-key"
            )
        if self.client_ca is not None and self.tls_cert is None:
            raise AgentError("cannot check client certificates: the listener has no TLS; give --tls-cert and --tls-key")
        if self.enrol and self.tls_cert is None:
            raise AgentError("cannot enrol agents: the listener has no TLS; give --tls-cert and --tls-key")
        if self.tls_cert is None and not self.allow_plain and not is_loopback(self.host):
            raise AgentError(
                f"cannot listen on {self.host}: tokens would cross the network unencrypted; "
                "give --tls-cert and --tls-key, or --allow-plain behind a proxy that terminates TLS"
            )

    @property
    def operator_token_path(self) -> Path:
        """The file with the operator's token."""
        return self.data_dir / "operator.token"

    @property
    def authority_path(self) -> Path:
        """The file with root and key of the authority that signs agents' certificates."""
        return self.data_dir / "authority.pem"

    @property
    def database_path(self) -> Path:
        return self.data_dir / "controlplane.db"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address. `localhost` is the only name that is recognized."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
