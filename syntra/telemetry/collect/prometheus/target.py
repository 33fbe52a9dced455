"""A target: an endpoint, how it is scraped, and the resource that its metrics belong to. Pure."""

from __future__ import annotations

import fnmatch
import re
import zlib
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from syntra.telemetry.collect.prometheus.connection import Address
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

PATH_MAX = 2048
ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=1.0.0;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
)
"""As Prometheus 3 asks for text. A page whose type says nothing is read as the text format."""
_DELIMITED = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
ACCEPT_NATIVE = f"{_DELIMITED};escaping=allow-utf-8;q=0.8,{_DELIMITED};q=0.7,{ACCEPT}"
"""As Prometheus asks where it wants native histograms."""


@frozen
class TlsFiles:
    """Paths of PEM files, or empty."""

    ca_path: str = ""
    cert_path: str = ""
    key_path: str = ""


@frozen
class Target:
    """One endpoint. `attributes` are those of its resource; an empty value removes what `target_info` claims."""

    url: str
    attributes: tuple[tuple[str, str], ...]
    interval_secs: float
    timeout_secs: float
    metric_names: tuple[str, ...] = ()
    """Globs; one that begins with `!` leaves out."""
    headers_file: str = ""
    tls: TlsFiles = TlsFiles()
    wants_native: bool = False
    """Whether to ask for protobuf, the only format that has native histograms."""
    is_here: bool = False
    """Whether it runs on this server: compression would cost both sides, and saves nothing."""

    @property
    def name(self) -> str:
        """The name of its service."""
        return dict(self.attributes).get("service.name", "")


def address_of(url: str) -> tuple[Address, str]:
    """Where a URL points to: the address, and path with query. Raises AgentError, without the URL in it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _wrong("it is not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _wrong("it does not begin with http:// or https:// and a host")
    if "@" in parts.netloc:
        raise _wrong("it contains credentials, which belong into headers_file")
    if parts.fragment:
        raise _wrong("it has a fragment")
    is_tls = parts.scheme == "https"
    path = (parts.path or "/metrics") + (f"?{parts.query}" if parts.query else "")
    if not (path.isascii() and path.isprintable() and " " not in path) or len(path) > PATH_MAX:
        raise _wrong("its path is too long, or has characters that must be percent-encoded")
    return Address(host=parts.hostname, port=port or (443 if is_tls else 80), is_tls=is_tls), path


def scraped_attributes(url: str, own: Sequence[tuple[str, str]], job: str = "") -> tuple[tuple[str, str], ...]:
    """The attributes of a target's resource. Without attributes of its own it is known by `job` and address.

    The names are those of the compatibility specification ("Resource Attributes"). Raises AgentError.
    """
    address, _ = address_of(url)
    named = tuple(own) or (("service.name", job or address.host), ("service.instance.id", address.authority))
    where = (("server.address", address.host), ("server.port", str(address.port)), ("url.scheme", address.scheme))
    return named + where


def request_of(target: Target, headers: Sequence[tuple[str, str]], agent: str) -> bytes:
    """The encoded request of a scrape."""
    address, path = address_of(target.url)
    default = 443 if address.is_tls else 80
    host = address.authority if address.port != default else address.authority.removesuffix(f":{default}")
    rows = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        f"User-Agent: {agent}",
        f"Accept: {ACCEPT_NATIVE if target.wants_native else ACCEPT}",
        f"Accept-Encoding: {'identity' if target.is_here else 'gzip'}",
        f"X-Prometheus-Scrape-Timeout-Seconds: {target.timeout_secs:g}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return ("\r\n".join(rows) + "\r\n\r\n").encode("latin-1")


def is_open_metrics(content_type: str) -> bool:
    """Whether a page is OpenMetrics, from its Content-Type."""
    return _media_type(content_type) == "application/openmetrics-text"


def is_protobuf(content_type: str) -> bool:
    """Whether a page is protobuf, from its Content-Type."""
    return _media_type(content_type) == "application/vnd.google.protobuf"


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def name_filter(globs: Sequence[str]) -> Callable[[str], bool]:
    """Keeps a metric's name if a glob matches it, or if there is none to match; one with `!` in front leaves it out."""
    keep = [fnmatch.translate(glob) for glob in globs if not glob.startswith("!")]
    drop = [fnmatch.translate(glob[1:]) for glob in globs if glob.startswith("!")]
    kept = re.compile("|".join(keep)).match if keep else None
    dropped = re.compile("|".join(drop)).match if drop else None
    return lambda name: (kept is None or kept(name) is not None) and (dropped is None or dropped(name) is None)


def offset_secs(target: Target) -> float:
    """When in its interval a target is scraped: spread, and the same after a restart."""
    return zlib.crc32(target.url.encode()) / 2**32 * target.interval_secs


def _wrong(reason: str) -> AgentError:
    return AgentError(f"cannot scrape the URL: {reason}; write for example http://127.0.0.1:9100/metrics")
