"""How to reach a cluster: address, TLS and credentials, as the official client reads them.

The package `kubernetes` reads kubeconfig files and service accounts, runs exec plugins and renews tokens. It is
imported here only, when a cluster is used: it takes about 20 MB. The agent makes the requests itself (`client`): those
of the package run in threads that no deadline and no cancellation ends, and decode each object into a class of its own.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from syntra.runtime.kubernetes.errors import ClusterUnavailable
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEFAULT_NAMESPACE = "default"
# Where the common distributions put the administrator's kubeconfig.
USUAL_PLACES = (
    "/etc/rancher/k3s/k3s.yaml",
    "/var/snap/microk8s/current/credentials/client.config",
    "/etc/kubernetes/admin.conf",
)
# An exec plugin may ask a cloud for a token.
CREDENTIALS_SECS = 60.0
# How long a credential is used before the package is asked again; it renews one that is about to expire.
FRESH_SECS = 30.0


@frozen
class Source:
    """Where access comes from: a kubeconfig (or several, separated as in PATH), or the pod's service account (None)."""

    kubeconfig: str | None

    def __str__(self) -> str:
        return self.kubeconfig or "the service account of the agent's pod"


def find_source(configured: Path | None, environ: Mapping[str, str]) -> Source | None:
    """The source to use: the configured file, the pod's service account, KUBECONFIG, or a usual place."""
    if configured is not None:
        return Source(kubeconfig=str(configured))
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return Source(kubeconfig=None)
    if environ.get("KUBECONFIG"):
        return Source(kubeconfig=environ["KUBECONFIG"])
    own = Path(environ["HOME"], ".kube/config") if environ.get("HOME") else None
    places = [*([own] if own is not None else []), *map(Path, USUAL_PLACES)]
    return next((Source(kubeconfig=str(place)) for place in places if os.access(place, os.R_OK)), None)


@frozen
class Address:
    """Where the API server is. `path` is a prefix of all paths, and empty for most. `proxy` is (host, port)."""

    host: str
    port: int
    path: str = ""
    server_name: str | None = None
    tls: ssl.SSLContext | None = None
    proxy: tuple[str, int] | None = None

    @property
    def authority(self) -> str:
        """Host and port as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Access:
    """An address, and credentials that stay valid. `open` it; use it on one event loop."""

    def __init__(self, source: Source, configuration: Any, address: Address, namespace: str) -> None:
        self.source = source
        self.address = address
        self.namespace = namespace
        """The namespace of the agent's pod, or of the kubeconfig's context."""
        self._configuration = configuration
        self._authorization: str | None = None
        self._asked_at = -FRESH_SECS
        self._lock = asyncio.Lock()

    @classmethod
    async def open(cls, source: Source) -> Access:
        """Read the source; raises AgentError when it is not usable, ClusterUnavailable when a plugin does not end."""
        configuration, namespace = await _in_thread(str(source), lambda: (_load(source), _namespace(source)))
        return cls(source, configuration, _address(configuration, source), namespace)

    async def authorization(self) -> str | None:
        """The value of the Authorization header; None when a client certificate is all."""
        async with self._lock:
            if time.monotonic() - self._asked_at >= FRESH_SECS:
                ask = self._configuration.get_api_key_with_prefix
                self._authorization = await _in_thread(str(self.source), lambda: ask("BearerToken", "authorization"))
                self._asked_at = time.monotonic()
            return self._authorization

    async def renew(self) -> None:
        """The API server refused the credentials: read the source again."""
        async with self._lock:
            self._configuration = await _in_thread(str(self.source), lambda: _load(self.source))
            self.address = _address(self._configuration, self.source)
            self._asked_at = -FRESH_SECS


async def _in_thread(what: str, read: Any) -> Any:
    try:
        async with asyncio.timeout(CREDENTIALS_SECS):
            return await asyncio.to_thread(read)
    except TimeoutError as late:
        raise ClusterUnavailable(what, f"its credentials did not come within {CREDENTIALS_SECS:g} s") from late


def _load(source: Source) -> Any:
    from kubernetes import config
    from kubernetes.client import Configuration

    files = source.kubeconfig.split(os.pathsep) if source.kubeconfig is not None else []
    if files and not any(os.path.exists(os.path.expanduser(path)) for path in files):
        raise AgentError(f"cannot use {source}: there is no such file; check the path of the kubeconfig")
    load_in_cluster: Any = config.load_incluster_config  # the package has no types for them
    load_file: Any = config.load_kube_config
    configuration = Configuration()
    try:
        if source.kubeconfig is None:
            load_in_cluster(client_configuration=configuration)
        else:
            load_file(config_file=source.kubeconfig, client_configuration=configuration)
    # The package raises what its parts raise: of YAML, of base64, of processes.
    except Exception as unusable:
        raise AgentError(
            f"cannot use {source}: {unusable}; check runtime.kubernetes_config or KUBECONFIG"
        ) from unusable
    return configuration


def _namespace(source: Source) -> str:
    if source.kubeconfig is None:
        # Written by the kubelet beside the token.
        try:
            return (ACCOUNT_DIR / "namespace").read_text().strip() or DEFAULT_NAMESPACE
        except OSError:
            return DEFAULT_NAMESPACE
    from kubernetes import config

    contexts: Any = config.list_kube_config_contexts  # the package has no types for it
    _, current = contexts(config_file=source.kubeconfig)
    return str(current["context"].get("namespace") or DEFAULT_NAMESPACE)


def _address(configuration: Any, source: Source) -> Address:
    parts = urlsplit(configuration.host)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AgentError(f"cannot use {source}: {configuration.host!r} is no URL of an API server; correct `server`")
    is_encrypted = parts.scheme == "https"
    try:
        context = _tls(configuration) if is_encrypted else None
    except (OSError, ValueError) as unusable:
        raise AgentError(f"cannot use {source}: its certificates are not readable ({unusable})") from unusable
    proxy = urlsplit(configuration.proxy) if configuration.proxy else None
    if proxy is not None and (proxy.scheme != "http" or not proxy.hostname):
        raise AgentError(f"cannot use {source}: the proxy is not of the form http://host:port; correct `proxy-url`")
    return Address(
        host=parts.hostname,
        port=parts.port or (443 if is_encrypted else 80),
        path=parts.path.rstrip("/"),
        server_name=configuration.tls_server_name or None,
        tls=context,
        proxy=(proxy.hostname, proxy.port or 80) if proxy is not None and proxy.hostname else None,
    )


def _tls(configuration: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert or None)
    # Many clusters' own CAs lack the extensions that strict verification asks for since Python 3.13.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file or None)
    return context
