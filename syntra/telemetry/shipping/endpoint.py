"""Reads the address of an OTLP endpoint, and gives each signal its path. Pure.

OTLP/HTTP: the signal's path is added to the path of the endpoint, as for OTEL_EXPORTER_OTLP_ENDPOINT. OTLP/gRPC: the
endpoint is scheme, host and port alone. `https` means TLS.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from syntra.telemetry.signals import Signal
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

_PATHS = {
    Signal.TRACES: "/v1/traces",
    Signal.METRICS: "/v1/metrics",
    Signal.LOGS: "/v1/logs",
    Signal.PROFILES: "/v1development/profiles",
}
SIGNALS = frozenset(_PATHS)
"""The signals that OTLP has."""
_PACKAGE = "opentelemetry.proto.collector"
_METHODS = {
    Signal.TRACES: f"/{_PACKAGE}.trace.v1.TraceService/Export",
    Signal.METRICS: f"/{_PACKAGE}.metrics.v1.MetricsService/Export",
    Signal.LOGS: f"/{_PACKAGE}.logs.v1.LogsService/Export",
    Signal.PROFILES: f"/{_PACKAGE}.profiles.v1development.ProfilesService/Export",
}


@frozen
class Endpoint:
    """An address that can be dialled."""

    host: str
    """A name, or an IP address without brackets."""
    port: int
    is_tls: bool
    base: str = ""
    """Path in front of every signal's path, without a slash at its end."""

    @property
    def authority(self) -> str:
        """`host:port` as in a URL and in gRPC's target."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def host_header(self) -> str:
        """The value of `Host` in HTTP/1.1 and of `:authority` in HTTP/2: without the scheme's own port."""
        return self.authority.removesuffix(f":{443 if self.is_tls else 80}")

    @property
    def url(self) -> str:
        """The whole address, for messages."""
        return f"{'https' if self.is_tls else 'http'}://{self.authority}{self.base}"

    def path(self, signal: Signal) -> str:
        """The path of a signal for OTLP/HTTP. Raises KeyError for a signal that OTLP does not have."""
        return self.base + _PATHS[signal]


def method(signal: Signal) -> str:
    """The gRPC method of a signal. Raises KeyError for a signal that OTLP does not have."""
    return _METHODS[signal]


def parse_endpoint(text: str, *, is_grpc: bool) -> Endpoint:
    """Read a URL. Raises AgentError; the text of the error has no part of the URL, which may hold credentials."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise _wrong("it is not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _wrong("it does not begin with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise _wrong("it contains credentials, which belong into telemetry.export.headers")
    if parts.query or parts.fragment:
        raise _wrong("it has a query or a fragment")
    base = parts.path.rstrip("/")
    if not (base.isascii() and base.isprintable() and " " not in base and parts.hostname.isprintable()):
        raise _wrong("it contains characters that must be percent-encoded")
    if is_grpc and base:
        raise _wrong("gRPC has no path")
    is_tls = parts.scheme == "https"
    return Endpoint(host=parts.hostname, port=port or (443 if is_tls else 80), is_tls=is_tls, base=base)


def _wrong(reason: str) -> AgentError:
    return AgentError(f"cannot use telemetry.export.endpoint: {reason}; write for example http://collector:4318")
