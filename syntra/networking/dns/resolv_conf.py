"""resolv.conf(5): the host's resolvers, and the DNS settings of a new container. Pure.

The server forwards to the resolvers in the host's own file, including loopback stubs: it runs in the host's network, so
split DNS of a VPN or of systemd-resolved still works. Containers cannot reach those stubs. While the agent is down they
use the real resolvers behind them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from syntra.model.network import ContainerDns
from syntra.networking.dns.errors import InvalidUpstream
from syntra.networking.dns.upstream import Upstream, parse_upstream
from syntra.utils.frozen import frozen

HOST_FILE = "/etc/resolv.conf"
RESOLVED_FILE = "/run/systemd/resolve/resolv.conf"
"""The file in which systemd-resolved lists the resolvers behind its stub."""
MOST = 3
"""The C library (resolver(5)) and the engine's resolver use at most three."""


@frozen
class ResolvConf:
    """A parsed file. `nameservers` in order, without duplicates, at most MOST; invalid lines are skipped."""

    nameservers: tuple[Upstream, ...]
    search: tuple[str, ...]
    options: tuple[str, ...]


def parse(text: str) -> ResolvConf:
    """Parse a file. The last `search` or `domain` line wins, `options` add up; `#` and `;` start comments."""
    nameservers: list[Upstream] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        match words:
            case ["nameserver", address, *_]:
                found = _nameserver(address)
                if found is not None and found not in nameservers:
                    nameservers.append(found)
            case ["search", *domains]:
                search = tuple(domains)
            case ["domain", domain, *_]:
                search = (domain,)
            case ["options", *more]:
                options += more
    return ResolvConf(nameservers=tuple(nameservers[:MOST]), search=search, options=tuple(options))


def host_upstreams(text: str) -> tuple[Upstream, ...]:
    """The host's resolvers. Without a `nameserver` line it uses its own port 53 (resolv.conf(5))."""
    return parse(text).nameservers or (Upstream(address="127.0.0.1"),)


def container_dns(
    *,
    gateway: str,
    project: str,
    domain: str = "internal",
    host_files: Iterable[str] = (),
    configured: Iterable[str] = (),
) -> ContainerDns:
    """The DNS settings of a new container of `project`, when the server listens on `gateway` (port 53).

    First the gateway, then at most two resolvers for when the agent is down: the `configured` ones on port 53, else
    those of the first of `host_files` (contents of HOST_FILE, RESOLVED_FILE, in that order) that has one that a
    container can reach. `ndots:1` keeps the engine from forwarding single labels before it tries the search domain.
    """
    chosen = [upstream for upstream in map(parse_upstream, configured) if _reachable(upstream)]
    for text in host_files:
        chosen = chosen or [upstream for upstream in parse(text).nameservers if _reachable(upstream)]
    others = [upstream.address for upstream in chosen if upstream.address != gateway]
    return ContainerDns(
        servers=(gateway, *others[: MOST - 1]), search=(f"{project}.{domain}".lower(),), options=("ndots:1",)
    )


def _nameserver(address: str) -> Upstream | None:
    # A port is not allowed here: the C library does not accept `127.0.0.1:53` either.
    if address.startswith("[") or address.count(":") == 1:
        return None
    try:
        return parse_upstream(address)
    except InvalidUpstream:
        return None


def _reachable(upstream: Upstream) -> bool:
    """Whether a container can reach it: the engine takes no ports, and loopback is the container's own."""
    address = ipaddress.ip_address(upstream.address)
    return upstream.port == 53 and not (address.is_loopback or address.is_link_local or address.is_unspecified)
