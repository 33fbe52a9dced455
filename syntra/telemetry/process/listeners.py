"""Where the receivers listen: loopback, the gateways of project networks, configured addresses, unix sockets.

An address that cannot be listened on, because another program has the port or the network is not there yet, is tried
again; until then it is a problem in `telemetry status`, and everything else works.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from syntra.model.fields import Json
from syntra.telemetry.otlp.listening import CannotListen, is_path
from syntra.telemetry.process.settings import ProcessSettings
from syntra.utils.frozen import frozen

log = logging.getLogger(__name__)

RETRY_SECS = 5.0

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Receiver(Protocol):
    """A receiver of one protocol; see `telemetry.otlp`."""

    async def listen(self, address: str) -> int:
        """Listen on an address or the path of a unix socket; raises CannotListen."""
        ...

    async def unlisten(self, address: str) -> None:
        """Stop listening on it."""
        ...


@frozen
class Place:
    """One address of one receiver."""

    protocol: str
    address: str
    port: int
    with_tls: bool

    @property
    def url(self) -> str:
        """As a sender writes it."""
        if is_path(self.address):
            return f"unix:{self.address}"
        scheme = "https" if self.with_tls else "http"
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{scheme}://{host}:{self.port}"


class Listeners:
    """Keeps the receivers on the places that they should listen on."""

    def __init__(
        self,
        settings: ProcessSettings,
        receiver: Callable[[str, bool], Receiver],
        *,
        loopback: Sequence[str],
        retry_secs: float = RETRY_SECS,
    ) -> None:
        """`receiver` returns the receiver of a protocol (`grpc` or `http`), with TLS or without."""
        self._loopback = tuple(loopback)
        self._settings = settings
        self._receiver = receiver
        self._retry_secs = retry_secs
        self._gateways: tuple[str, ...] = ()
        self._open: set[Place] = set()
        self._problems: dict[Place, str] = {}
        self._changing = asyncio.Lock()

    async def open(self, gateways: Sequence[str] = ()) -> None:
        """Listen on the fixed places and these gateways, and on nothing else."""
        async with self._changing:
            self._gateways = tuple(gateways)
            wanted = places(self._settings, [*self._loopback, *self._gateways])
            for place in self._open - wanted:
                await self._receiver(place.protocol, place.with_tls).unlisten(place.address)
                self._open.discard(place)
            self._problems = {place: why for place, why in self._problems.items() if place in wanted}
            for place in sorted(wanted - self._open, key=str):
                await self._try(place)

    async def run(self) -> None:
        """Try again what could not be listened on, until cancelled."""
        while True:
            await asyncio.sleep(self._retry_secs)
            if self._problems:
                await self.open(self._gateways)

    def view(self) -> list[Json]:
        """Each place with its problem, if it has one."""
        shown: list[Json] = [{"protocol": p.protocol, "url": p.url} for p in sorted(self._open, key=str)]
        for place, why in sorted(self._problems.items(), key=str):
            shown.append({"protocol": place.protocol, "url": place.url, "problem": why})
        return shown

    @property
    def problem(self) -> str | None:
        """The first problem, as a sentence."""
        return next(iter(self._problems.values()), None)

    async def _try(self, place: Place) -> None:
        try:
            await self._receiver(place.protocol, place.with_tls).listen(place.address)
        except CannotListen as refused:
            if place not in self._problems:
                log.warning("cannot receive telemetry", extra={"url": place.url, "reason": str(refused)})
            self._problems[place] = str(refused)
        else:
            self._problems.pop(place, None)
            self._open.add(place)


def loopback_addresses() -> tuple[str, ...]:
    """The host's own addresses; a host may have no IPv6."""
    try:
        interfaces = Path("/proc/net/if_inet6").read_text()
    except OSError:
        interfaces = ""
    return ("127.0.0.1", "::1") if f"{1:032x}" in interfaces else ("127.0.0.1",)


def places(settings: ProcessSettings, local: Sequence[str]) -> set[Place]:
    """Where the receivers should listen; `local` has loopback and the gateways. Pure.

    An address that is given as `listen` has TLS if it is configured. A wildcard address includes all other addresses of
    its family, which could not be bound beside it.
    """
    has_tls = settings.tls.cert_path is not None
    covered = _covered(settings.listen)
    found = set()
    for protocol, port, path in (
        ("grpc", settings.grpc_port, settings.grpc_socket),
        ("http", settings.http_port, settings.http_socket),
    ):
        with_tls = dict.fromkeys(local, False) | dict.fromkeys(settings.listen, has_tls)
        for address, its_tls in with_tls.items():
            if not covered(ipaddress.ip_address(address)):
                found.add(Place(protocol=protocol, address=address, port=port, with_tls=its_tls))
        if path:
            found.add(Place(protocol=protocol, address=path, port=0, with_tls=False))
    return found


def _covered(listen: Sequence[str]) -> Callable[[IPAddress], bool]:
    """Whether a wildcard among `listen` includes an address."""
    wildcards = {address.version for address in map(ipaddress.ip_address, listen) if address.is_unspecified}

    def covered(address: IPAddress) -> bool:
        return not address.is_unspecified and address.version in wildcards

    return covered
