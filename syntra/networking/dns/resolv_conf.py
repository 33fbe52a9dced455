"""resolv.conf(5): the host's resolvers, and what a container is told at create. Pure.

The server forwards to what stands in the host's own file, loopback stubs included: it runs in the host's network, so
split DNS of a VPN or of systemd-resolved keeps working. Containers cannot reach those stubs; the resolvers they fall
back to while the agent is away are the real ones behind them.
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
"""Where systemd-resolved keeps the resolvers behind its stub."""
MOST = 3
"""resolver(5) and the engine's resolver use no more than three."""


@frozen
class ResolvConf:
    """What a file says. `nameservers` in order, without repetition, at most MOST; unusable lines are left out."""

    nameservers: tuple[Upstream, ...]
    search: tuple[str, ...]
    options: tuple[str, ...]


def parse(text: str) -> ResolvConf:
    """Read a file. The last `search` or `domain` line counts, `options` add up; `#` and `;` begin comments."""
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
    """Whom the host asks. Without a `nameserver` line that is its own port 53 (resolv.conf(5))."""
    return parse(text).nameservers or (Upstream(address="127.0.0.1"),)


def container_dns(
    *,
    gateway: str,
    project: str,
    domain: str = "internal",
    host_files: Iterable[str] = (),
    configured: Iterable[str] = (),
) -> ContainerDns:
    """What a container of `project` is created with, when the server listens on `gateway` (port 53).

    The gateway first, then at most two resolvers that are asked while the agent is away: the `configured` ones that
    have port 53, else those of the first of `host_files` (texts of HOST_FILE, RESOLVED_FILE, in that order) with one
    that a container can reach. `ndots:1` keeps the engine from sending single labels away before the search domain is
    tried.
    """
    chosen = [upstream for upstream in map(parse_upstream, configured) if _reachable(upstream)]
    for text in host_files:
        chosen = chosen or [upstream for upstream in parse(text).nameservers if _reachable(upstream)]
    others = [upstream.address for upstream in chosen if upstream.address != gateway]
    return ContainerDns(
        servers=(gateway, *others[: MOST - 1]), search=(f"{project}.{domain}".lower(),), options=("ndots:1",)
    )


def _nameserver(address: str) -> Upstream | None:
    # A port has no place here: `127.0.0.1:53` is no address for the C library either.
    if address.startswith("[") or address.count(":") == 1:
        return None
    try:
        return parse_upstream(address)
    except InvalidUpstream:
        return None


def _reachable(upstream: Upstream) -> bool:
    """Whether a container may reach it: no port can be named to the engine, and loopback is the container's own."""
    address = ipaddress.ip_address(upstream.address)
    return upstream.port == 53 and not (address.is_loopback or address.is_link_local or address.is_unspecified)
