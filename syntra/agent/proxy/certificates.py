"""Certificates that a control plane sends for routed domains: stored in files and served by the proxy.

A private key is only in its file (0600, in a directory with 0700): never in the journal, a log, an error or a response.
File names contain the certificate's digest, because the proxy reads a file again only when the routes name another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from syntra.model.command import InstallCertificate
from syntra.model.domain import is_domain, read_domain
from syntra.model.errors import InvalidField, RequestError
from syntra.model.fields import Json
from syntra.networking.certificates import CheckedCertificate, check, expires_at
from syntra.networking.errors import ProxyUnreachable
from syntra.networking.routes import RouteTable
from syntra.networking.traefik import ProxySettings, ServedCertificate
from syntra.utils import atomic_file
from syntra.utils.errors import AgentError
from syntra.utils.keyed_lock import KeyedLock
from syntra.utils.timestamps import format_secs

log = logging.getLogger(__name__)

APPLY_SECS = 10.0
MAX_DOMAIN = 200
"""It is part of a file's name, which may have 255 bytes."""
_WILDCARD = "_wildcard"


class CertificateStore:
    """The certificate files, and which of them are served. `load`, `write` and `remove` block on the disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._served: dict[str, ServedCertificate] = {}

    def served(self) -> Sequence[ServedCertificate]:
        """The certificates for the proxy to serve."""
        return tuple(self._served[domain] for domain in sorted(self._served))

    def load(self, now: float) -> None:
        """Load the files of earlier runs, except certificates that have expired by `now` (epoch seconds)."""
        try:
            found = sorted(self._directory.glob("*.crt"), key=lambda path: path.stat().st_mtime)
        except OSError as unread:
            log.error("cannot read the certificates", extra={"reason": str(unread)})
            return
        for path in found:
            name, _, digest = path.stem.rpartition("-")
            domain = name.replace(_WILDCARD, "*", 1)
            served = self._entry(domain, digest)
            ends = self._ends(path)
            if is_domain(domain) and Path(served.key_path).is_file() and ends is not None and ends > now:
                self._served[domain] = served
            else:
                log.warning("certificate is not served", extra={"file": path.name, "expired": ends is not None})

    def write(self, checked: CheckedCertificate) -> ServedCertificate:
        """Write both files, without serving them yet. Raises AgentError."""
        served = self._entry(checked.domain, checked.digest)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory.chmod(0o700)
        except OSError as refused:
            raise AgentError(f"cannot make {self._directory}: {refused.strerror}; check path and rights") from refused
        atomic_file.write(served.key_path, checked.private_key, mode=0o600)
        atomic_file.write(served.cert_path, checked.chain, mode=0o600)
        return served

    def serve(self, served: ServedCertificate) -> ServedCertificate | None:
        """Serve this certificate for its domain. Returns the previous one."""
        before = self._served.get(served.domain)
        self._served[served.domain] = served
        return before

    def withdraw(self, served: ServedCertificate, before: ServedCertificate | None) -> None:
        """Undo `serve`."""
        if before is None:
            self._served.pop(served.domain, None)
        else:
            self._served[served.domain] = before

    def remove(self, old: ServedCertificate) -> None:
        """Delete the files of a certificate that is no longer served."""
        for path in (old.key_path, old.cert_path):
            with contextlib.suppress(OSError):
                Path(path).unlink()

    def _ends(self, path: Path) -> float | None:
        try:
            return expires_at(path.read_bytes())
        except OSError:
            return None

    def _entry(self, domain: str, digest: str) -> ServedCertificate:
        base = self._directory / f"{domain.replace('*', _WILDCARD, 1)}-{digest}"
        return ServedCertificate(domain=domain, cert_path=f"{base}.crt", key_path=f"{base}.key")


class RoutedTable(Protocol):
    """The routes; see `agent.traffic.switch`."""

    async def table(self) -> RouteTable:
        """The current route table. Raises RuntimeUnavailable."""


class WrittenRoutes(Protocol):
    """The routes file; see `agent.proxy.routes.PublishedRoutes`."""

    async def write(self) -> None:
        """Write the file again. Raises AgentError."""

    async def wait_applied(self, secs: float) -> bool:
        """Whether the proxy applies it within `secs`. Raises ProxyUnreachable."""


class ProxyCertificates:
    """Implements `agent.api.router.Certificates` for an agent that writes the proxy's routes."""

    def __init__(
        self,
        store: CertificateStore,
        settings: ProxySettings,
        traffic: RoutedTable,
        routes: WrittenRoutes,
        *,
        warnings: Callable[[], Sequence[str]] = tuple,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`warnings` returns what is wrong with the proxy: a container from before may not mount the directory."""
        self._store = store
        self._settings = settings
        self._traffic = traffic
        self._routes = routes
        self._warnings = warnings
        self._clock = clock
        # One installation per domain at a time.
        self._lock = KeyedLock()

    async def install(self, command: InstallCertificate) -> dict[str, Json]:
        """Check, store and serve the certificate. Returns the data of the response. Raises AgentError."""
        domain = _domain(command)
        if len(domain) > MAX_DOMAIN:
            raise InvalidField("domain", f"{len(domain)} characters are more than {MAX_DOMAIN}")
        if not self._settings.cert_resolver:
            raise RequestError(
                "UNSUPPORTED", "cannot install a certificate: routers have no TLS; set networking.cert_resolver"
            )
        async with self._lock.holding(domain):
            await self._require_route(command, domain)
            checked = await asyncio.to_thread(check, domain, command.certificate, command.private_key, self._clock())
            applied = await self._serve(checked)
        log.info(
            "certificate installed",
            extra={"domain": domain, "service_id": command.service_id, "digest": checked.digest, "applied": applied},
        )
        data: dict[str, Json] = {
            "domain": domain,
            "service_id": command.service_id,
            "not_after": format_secs(checked.not_after),
            "applied": applied,
        }
        if notes := self._warnings():
            data["notes"] = list(notes)
        return data

    async def _require_route(self, command: InstallCertificate, domain: str) -> None:
        table = await self._traffic.table()
        for route in table.routes:
            if route.service_id == command.service_id and domain in route.domains:
                return
        raise RequestError(
            "ROUTE_NOT_FOUND",
            f"domain: {domain} is not routed to service {command.service_id}; deploy the service with it first",
        )

    async def _serve(self, checked: CheckedCertificate) -> bool:
        """Returns whether the proxy has applied it; False when the proxy is unreachable. Raises AgentError."""
        served = await asyncio.to_thread(self._store.write, checked)
        before = self._store.serve(served)
        try:
            await self._routes.write()
        except AgentError:
            self._store.withdraw(served, before)
            if before != served:
                await asyncio.to_thread(self._store.remove, served)
            raise
        try:
            applied = await self._routes.wait_applied(APPLY_SECS)
        except ProxyUnreachable:
            # It reads the file when it starts.
            return False
        if not applied:
            raise RequestError(
                "ROUTE_FAILED", f"the proxy has not taken the certificate within {APPLY_SECS:g} s; see its log"
            )
        if before is not None and before != served:
            await asyncio.to_thread(self._store.remove, before)
        return True


def _domain(command: InstallCertificate) -> str:
    try:
        return read_domain("domain", command.domain)
    except InvalidField:
        # Without the value: it may be the key, in the wrong field.
        raise InvalidField("domain", "is not a domain name") from None
