"""The connection's settings: endpoint, identity, timeouts. Validated when created, so dialling need not check them."""

from __future__ import annotations

import ipaddress
from dataclasses import field
from urllib.parse import urlsplit

from syntra.connection.codec import MAX_FRAME_BYTES
from syntra.connection.errors import ConnectionSettingsError
from syntra.utils.frozen import frozen


@frozen
class Timings:
    """Timeouts and intervals in seconds. Production uses the defaults; tests shorten them."""

    open_timeout_secs: float = 10.0  # TCP, TLS, proxy and upgrade together
    hello_timeout_secs: float = 20.0  # to collect the hello payload, before dialling
    ack_timeout_secs: float = 30.0  # hello_ack after hello; the control plane also allows 30 s
    close_timeout_secs: float = 5.0  # closing handshake and TCP; then the socket is aborted
    send_timeout_secs: float = 120.0  # to write one frame: 16 MiB at 1 Mbit/s
    silent_intervals: float = 3.0  # heartbeat intervals without a frame before the peer counts as dead
    file_check_secs: float = 60.0  # between checks of the TLS files
    ping_interval_secs: float = 20.0  # WebSocket pings keep NAT entries and proxies open
    ping_timeout_secs: float = 60.0  # generous: a pong waits behind data in the kernel's send buffer on slow uplinks


@frozen
class TlsSettings:
    """Paths of PEM files. `ca_path` adds to the platform's roots; `cert_path` may also hold the key."""

    ca_path: str | None = None
    cert_path: str | None = None
    key_path: str | None = None


@frozen
class ConnectionSettings:
    """The transport's settings.

    `version` is the agent's version (X-Agent-Version). `max_frame_bytes` limits frames in both directions.
    Raises ConnectionSettingsError, naming the configuration key, when no dial could succeed.
    """

    endpoint: str
    token: str = field(repr=False)
    version: str
    heartbeat_interval_secs: float = 30.0
    reconnect_max_delay_secs: float = 60.0
    tls: TlsSettings = field(default_factory=TlsSettings)
    max_frame_bytes: int = MAX_FRAME_BYTES
    stream_queue: int = 16  # the most stream messages that wait; each may be as large as a telemetry batch
    timings: Timings = field(default_factory=Timings)

    def __post_init__(self) -> None:
        _check_endpoint(self.endpoint)
        # A space or line end would end the header there, and the rest would become a header of its own.
        for name, value in (("the agent token", self.token), ("the agent version", self.version)):
            if not value:
                raise ConnectionSettingsError(f"cannot use {name}: it is empty; set it in the configuration")
            if not all("!" <= char <= "~" for char in value):
                raise ConnectionSettingsError(
                    f"cannot use {name}: it holds characters that no HTTP header can carry; copy it again"
                )

    @property
    def secure(self) -> bool:
        """Whether the endpoint uses TLS."""
        return urlsplit(self.endpoint).scheme.lower() == "wss"

    @property
    def loopback(self) -> bool:
        """Whether the endpoint is this machine: no proxy is used, and plain text is safe."""
        host = urlsplit(self.endpoint).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")


def _check_endpoint(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError as exc:
        raise ConnectionSettingsError(f"cannot use the endpoint: {exc}; write wss://HOST/agent/ws") from exc
    if parts.scheme.lower() not in ("ws", "wss"):
        reason = "it does not begin with wss:// or ws://"
    elif not parts.hostname or port == 0:
        reason = "it names no host to dial"
    elif parts.username is not None or parts.password is not None:
        reason = "it holds a user name or password, which logs would show"
    elif parts.fragment:
        reason = "it has a fragment"
    else:
        return
    raise ConnectionSettingsError(f"cannot use the endpoint: {reason}; write wss://HOST/agent/ws")
