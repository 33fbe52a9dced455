"""Health checks: how to probe a service, and how often. Pure data, validated when created."""

from __future__ import annotations

import math
import re
from dataclasses import field
from enum import Enum

from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

_PATH = re.compile(r"/[!-~]*")  # visible ASCII: no spaces, no CR or LF that could begin another header
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.1
_HEADER_VALUE = re.compile(r"[\t -~]*")
# These set the end of the request and the state of the connection; the probe sets them itself.
_OWN_HEADERS = frozenset({"connection", "content-length", "transfer-encoding", "upgrade", "expect", "te", "trailer"})
_MAX_PATH = 2048
_MAX_HEADERS = 32
_MAX_HEADER_CHARS = 8192


class Scheme(Enum):
    """How to connect to the port. The certificate is not verified: it is for the public name, not this address."""

    HTTP = "http"
    HTTPS = "https"


@frozen
class HttpCheck:
    """Healthy when a GET of `path` returns 2xx or 3xx. Redirects are not followed."""

    path: str
    """The request target, including the query."""
    port: int
    scheme: Scheme = Scheme.HTTP
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent unchanged; `Host` and `User-Agent` replace the default ones."""

    def __post_init__(self) -> None:
        if not _PATH.fullmatch(self.path) or "#" in self.path or len(self.path) > _MAX_PATH:
            raise AgentError(
                f"cannot use health check path {self.path[:80]!r}: it must begin with / and hold visible ASCII without"
                f" #, at most {_MAX_PATH} characters; percent-encode the rest"
            )
        _require_port(self.port)
        if len(self.headers) > _MAX_HEADERS or sum(len(n) + len(v) for n, v in self.headers) > _MAX_HEADER_CHARS:
            raise AgentError(
                f"cannot use health check headers: more than {_MAX_HEADERS} or {_MAX_HEADER_CHARS} characters;"
                " send fewer"
            )
        for name, value in self.headers:
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
                raise AgentError(f"cannot use health check header {name[:40]!r}: it is not allowed here; remove it")
            if not _HEADER_VALUE.fullmatch(value):
                raise AgentError(
                    f"cannot use health check header {name}: its value holds control or non-ASCII characters;"
                    " remove them"
                )


@frozen
class TcpCheck:
    """Healthy when the port accepts a connection."""

    port: int

    def __post_init__(self) -> None:
        _require_port(self.port)


@frozen
class ExecCheck:
    """Healthy when the command, run inside the container without a shell, exits with 0."""

    argv: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.argv or not self.argv[0]:
            raise AgentError("cannot use the health check command: it is empty; give the program and its arguments")
        if any("\0" in word for word in self.argv):
            raise AgentError("cannot use the health check command: it holds a NUL character; remove it")


Check = HttpCheck | TcpCheck | ExecCheck


@frozen
class CheckTiming:
    """The intervals and limits of a check, in seconds."""

    interval_secs: float
    timeout_secs: float
    """The limit for one probe, from connecting to the last byte it reads."""
    retries: int
    """Consecutive failures after which the replica is unhealthy."""
    start_period_secs: float
    """Failures in this period after the start do not count."""

    def __post_init__(self) -> None:
        for name in ("interval_secs", "timeout_secs"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise AgentError(f"cannot use health check {name} {value}: it must be above 0; correct the setting")
        if not (math.isfinite(self.start_period_secs) and self.start_period_secs >= 0):
            raise AgentError(
                f"cannot use health check start_period_secs {self.start_period_secs}: it must not be negative;"
                " correct the setting"
            )
        if self.retries < 1:
            raise AgentError(
                f"cannot use health check retries {self.retries}: it must be 1 or more; correct the setting"
            )


def _require_port(port: int) -> None:
    if not 1 <= port <= 65535:
        raise AgentError(f"cannot use health check port {port}: ports are 1 to 65535; correct the setting")
