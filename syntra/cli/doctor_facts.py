"""Collects the facts that `doctor` judges: from the host, the engine, the control plane and containers.

Every function blocks, for as long as what it asks takes; the caller limits that. All raise AgentError or OSError when
they cannot find out.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from syntra.agent.config.load import Loaded
from syntra.agent.config.settings import Settings
from syntra.cli.agent_client import ask
from syntra.cli.doctor_findings import Certificate, Disk, Engine, Port
from syntra.cli.exit_codes import CommandFailed
from syntra.cli.reading import Json, number, section, text
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

ANSWER_SECS = 5.0
EXEC_SECS = 5.0
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
_CANNOT_RUN = (126, 127)
"""Exit codes of a command that is not in the image (POSIX.1, "Exit Status for Commands")."""


@frozen
class Answered:
    """The control plane's HTTP answer. `skew_secs` is None without a `Date`; `proxy` is "" for a direct connection."""

    address: str
    status: int
    proxy: str
    skew_secs: float | None


def environment_of(pid: int) -> dict[str, str]:
    """The environment of the agent's process; this program's own where that cannot be read."""
    try:
        data = Path(f"/proc/{pid}/environ").read_bytes() if pid > 0 else b""
    except OSError:
        data = b""
    pairs = (item.partition(b"=") for item in data.split(b"\0") if b"=" in item)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs} or dict(os.environ)


def disk(path: Path) -> Disk:
    """The file system of a directory, or of the nearest one above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    figures = os.statvfs(path)
    used = figures.f_blocks - figures.f_bfree
    whole = used + figures.f_bavail
    inodes = 100.0 * (figures.f_files - figures.f_ffree) / figures.f_files if figures.f_files else None
    return Disk(
        path=str(path),
        free_bytes=figures.f_bavail * figures.f_frsize,
        percent=100.0 * used / whole if whole else 0.0,
        inodes_percent=inodes,
    )


def cgroup_version() -> int:
    """2, 1, or 0 without control groups (the kernel's "Control Group v2")."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return 2
    return 1 if (root / "memory").is_dir() or (root / "cpu").is_dir() else 0


def engine(loaded: Loaded, environ: Mapping[str, str]) -> Engine:
    """Ask the engine or cluster that the agent would use."""
    # Imported here: it takes an event loop and the clients of both runtimes.
    import asyncio

    return asyncio.run(_engine(loaded, environ))


async def _engine(loaded: Loaded, environ: Mapping[str, str]) -> Engine:
    from syntra.agent.hosts import cluster_answers
    from syntra.runtime.detect import RuntimeKind
    from syntra.runtime.docker.client import EngineClient
    from syntra.runtime.docker.endpoint import find_endpoint
    from syntra.runtime.docker.system import System
    from syntra.runtime.finder import find_runtime
    from syntra.runtime.kubernetes.access import Access, Source, find_source
    from syntra.runtime.kubernetes.client import KubernetesClient

    settings = loaded.settings
    choice = await find_runtime(
        settings.runtime, environ, settings.data_dir, cluster_answers=cluster_answers, is_remembered=False
    )
    if choice.kind is RuntimeKind.DOCKER:
        endpoint = find_endpoint(environ, choice.engine or None)
        async with EngineClient(endpoint) as client:
            info = await System(client).info()
            product = (await client.product()).value.capitalize()
        root = info.root_dir if endpoint.path is not None else ""
        return Engine(kind="docker", name=product, version=info.server_version, address=endpoint.address, root=root)
    source = Source(kubeconfig=choice.address) if choice.address else find_source(None, environ)
    if source is None:
        raise AgentError("cannot reach the cluster: there is no kubeconfig; set runtime.kubernetes_config")
    async with KubernetesClient(await Access.open(source)) as client:
        found = await client.get("/version", what="ask the cluster")
    return Engine(
        kind="kubernetes",
        name="Kubernetes",
        version=text(found, "gitVersion").removeprefix("v"),
        address=source.kubeconfig or "the cluster of this pod",
    )


def control_plane(settings: Settings, environ: Mapping[str, str]) -> Answered:
    """Ask the control plane's address for any HTTP answer, as the agent dials: through the same proxy."""
    import ssl
    from urllib.error import HTTPError, URLError
    from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener
    from urllib.request import proxy_bypass_environment as is_bypassed  # type: ignore[attr-defined]  # not in typeshed

    from syntra.connection.settings import TlsSettings
    from syntra.connection.tls import TlsFiles

    known = settings.control_plane
    assert known is not None, "asked only when there is one"
    address = urlsplit(known.endpoint)
    scheme = "https" if address.scheme == "wss" else "http"
    proxies = _proxies(environ)
    host = address.hostname or ""
    is_direct = host in ("localhost", "::1") or host.startswith("127.") or host.endswith(".localhost")
    proxy = "" if is_direct or is_bypassed(address.netloc, proxies) else _proxy_for(scheme, proxies)
    opener = build_opener(ProxyHandler({scheme: proxy} if proxy else {}))
    if scheme == "https":
        files = settings.tls
        context = TlsFiles(
            TlsSettings(
                ca_path=_path(files.ca_path if files else None),
                cert_path=_path(files.cert_path if files else None),
                key_path=_path(files.key_path if files else None),
            )
        ).context()
        opener = build_opener(ProxyHandler({scheme: proxy} if proxy else {}), HTTPSHandler(context=context))
    url = urlunsplit((scheme, address.netloc, address.path or "/", "", ""))
    through = f" through the proxy {urlsplit(proxy).hostname}" if proxy else ""
    begun = time.time()
    try:
        with opener.open(Request(url, headers={"user-agent": "syntra-agent"}), timeout=ANSWER_SECS) as answer:
            status, date = answer.status, answer.headers.get("date")
    except HTTPError as refused:
        # Any answer shows that the address is reached: without a token it is a refusal.
        status, date = refused.code, refused.headers.get("date")
    except (URLError, TimeoutError, ssl.SSLError, ValueError) as failed:
        reason = getattr(failed, "reason", None) or failed
        raise AgentError(f"cannot reach {address.netloc}{through}: {reason}") from failed
    middle = (begun + time.time()) / 2
    return Answered(
        address=address.netloc, status=status, proxy=urlsplit(proxy).hostname or "", skew_secs=_skew(middle, date)
    )


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """As urllib names them; a name in lower case comes first."""
    found = {}
    for name in _PROXIES:
        if value := environ.get(name) or environ.get(name.upper(), ""):
            found[name.removesuffix("_proxy")] = value
    return found


def _proxy_for(scheme: str, proxies: Mapping[str, str]) -> str:
    found = proxies.get("https") or (proxies.get("http", "") if scheme == "http" else "")
    return found if "://" in found or not found else f"http://{found}"


def _path(path: Path | None) -> str | None:
    return str(path) if path is not None else None


def _skew(now: float, date: str | None) -> float | None:
    try:
        return now - parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None


def ports(listeners: tuple[str, ...]) -> list[Port]:
    """The ports of the proxy, and who has each."""
    from syntra.networking.port_check import obstacle, port_holder
    from syntra.networking.traefik_static import parse_listener

    found = []
    for one in map(parse_listener, listeners):
        holder = ""
        if obstacle(one) is not None:
            holder = port_holder(one.port) or "another process"
        elif one.port < 1024 and os.geteuid() != 0:
            # Without the right to bind, whether it is free can only be seen.
            holder = port_holder(one.port)
        found.append(Port(number=one.port, holder=holder))
    return found


def resolved(socket: Path, service: Json, name: str) -> str | None:
    """What a container of the service gets for a name; None when its image has no command that asks.

    Raises AgentError when there is no answer.
    """
    for command in (["getent", "hosts", name], ["nslookup", name]):
        payload = {"service_id": service["service_id"], "command": command, "timeout_seconds": EXEC_SECS}
        try:
            data = ask(socket, "exec", payload, timeout=EXEC_SECS + ANSWER_SECS)
        except CommandFailed as failed:
            if failed.code == "RUNTIME_UNAVAILABLE":
                raise
            continue
        code = number(data, "exit_code")
        if code == 0:
            return " ".join(text(data, "stdout", "").split())
        if code not in _CANNOT_RUN:
            said = " ".join((text(data, "stderr", "") or text(data, "stdout", "")).split())
            raise AgentError(f"no answer for {name}" + (f": {said[:120]}" if said else ""))
    return None


def certificates(settings: Settings) -> list[Certificate]:
    """The certificates on this machine that this user may read: files of the configuration, and the proxy's."""
    named = [
        ("tls.cert_path", settings.tls.cert_path if settings.tls else None),
        ("telemetry.tls.cert_path", settings.telemetry.tls.cert_path),
    ]
    found = [one for name, path in named if path is not None for one in _read(name, path)]
    directory = settings.data_dir / "traefik"
    for path in sorted(directory.glob("certificates/*.crt")):
        found += _read(path.stem, path)
    return [*found, *_acme(directory / "acme" / "acme.json")]


def _read(name: str, path: Path) -> Iterator[Certificate]:
    yield _certificate(name, path, path.read_bytes())


def _acme(path: Path) -> Iterator[Certificate]:
    """Traefik's store: `{resolver: {"Certificates": [{"domain": {"main"}, "certificate": base64 of PEM}]}}`."""
    try:
        stored = json.loads(path.read_bytes() or b"{}")
    except FileNotFoundError:
        return
    except ValueError as exc:
        raise AgentError(f"cannot read {path}: it is not JSON") from exc
    for resolver in stored.values() if isinstance(stored, dict) else ():
        for one in (resolver or {}).get("Certificates") or ():
            pem = base64.b64decode(one.get("certificate", ""))
            yield _certificate(text(section(one, "domain"), "main"), path, pem)


def _certificate(name: str, path: Path, pem: bytes) -> Certificate:
    from cryptography import x509

    try:
        ends = x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
    except ValueError as exc:
        raise AgentError(f"cannot read the certificate {name} in {path}: {exc}") from exc
    return Certificate(name=name, path=str(path), days_left=(ends - time.time()) / 86_400)
