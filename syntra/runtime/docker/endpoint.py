"""Finds the engine's address: from the configuration, or from the environment as the docker command does.

1. An address or socket path in the configuration.
2. Otherwise `DOCKER_HOST`: `unix:///path`, `tcp://host:port`, `http://host:port`, `https://host:port`.
3. Otherwise the socket at `/var/run/docker.sock`.

`tcp://` uses TLS when `DOCKER_TLS_VERIFY` is not empty, `https://` always does. The files `ca.pem`, `cert.pem` and
`key.pem` are in `DOCKER_CERT_PATH`, or in `~/.docker`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from syntra.runtime.docker.errors import BadEndpoint
from syntra.utils.frozen import frozen

DEFAULT_SOCKET = "/var/run/docker.sock"
PLAIN_PORT = 2375
TLS_PORT = 2376


@frozen
class TlsFiles:
    """PEM files for mutual TLS. None: the system's CAs and no client certificate."""

    directory: str | None

    def path(self, name: str) -> str:
        """The path of one of ca.pem, cert.pem and key.pem."""
        assert self.directory is not None, "asked only when there is a directory"
        return str(PurePosixPath(self.directory) / name)


@frozen
class Endpoint:
    """A socket path, or a host and a port. `tls` is None for unencrypted connections."""

    path: str | None = None
    host: str = ""
    port: int = 0
    tls: TlsFiles | None = None

    @property
    def address(self) -> str:
        """For people: the path, or `host:port`."""
        return self.path if self.path is not None else self.authority

    @property
    def authority(self) -> str:
        """The Host header, which a unix socket needs too."""
        if self.path is not None:
            return "docker"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def find_endpoint(environ: Mapping[str, str], configured: str | None = None) -> Endpoint:
    """The endpoint to use; raises BadEndpoint, which says what to change."""
    if configured:
        return _parse(configured, environ, source="the configuration")
    value = environ.get("DOCKER_HOST", "")
    return _parse(value, environ, source="DOCKER_HOST") if value else Endpoint(path=DEFAULT_SOCKET)


def _parse(value: str, environ: Mapping[str, str], *, source: str) -> Endpoint:
    fix = f"set {source} to unix:///path/to/docker.sock or tcp://host:port"
    if "\0" in value or "\n" in value:
        raise BadEndpoint(value, "it contains control characters", fix)
    if value.startswith("/"):
        return Endpoint(path=value)
    scheme, mark, rest = value.partition("://")
    if not mark:
        raise BadEndpoint(value, "it has no scheme", fix)
    if scheme == "unix":
        if not rest.startswith("/"):
            raise BadEndpoint(value, "the socket path is not absolute", fix)
        return Endpoint(path=rest)
    if scheme not in ("tcp", "http", "https"):
        raise BadEndpoint(value, f"{scheme}:// is not supported", fix)
    return _parse_network(value, scheme, environ, fix)


def _parse_network(value: str, scheme: str, environ: Mapping[str, str], fix: str) -> Endpoint:
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise BadEndpoint(value, str(exc), fix) from exc
    if parts.username is not None or parts.password is not None:
        raise BadEndpoint(f"{scheme}://…@{host}", "it contains credentials", "use client certificates instead")
    if not host or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise BadEndpoint(value, "it is not host and port", fix)
    if port == 0:
        raise BadEndpoint(value, "the port is 0", fix)
    encrypted = scheme == "https" or (scheme == "tcp" and bool(environ.get("DOCKER_TLS_VERIFY")))
    tls = _tls_files(environ, required=scheme == "tcp") if encrypted else None
    return Endpoint(host=host, port=port or (TLS_PORT if encrypted else PLAIN_PORT), tls=tls)


def _tls_files(environ: Mapping[str, str], *, required: bool) -> TlsFiles:
    directory = environ.get("DOCKER_CERT_PATH")
    if not directory and required:
        home = environ.get("HOME")
        if not home:
            reason = "DOCKER_TLS_VERIFY is set but neither DOCKER_CERT_PATH nor HOME is"
            raise BadEndpoint("tcp://", reason, "set DOCKER_CERT_PATH to the directory of ca.pem, cert.pem and key.pem")
        directory = str(PurePosixPath(home) / ".docker")
    return TlsFiles(directory=directory or None)
