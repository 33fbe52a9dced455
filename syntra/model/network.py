"""A project's network on the engine, and the DNS settings of its containers."""

from __future__ import annotations

import ipaddress

from syntra.utils.frozen import frozen

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


@frozen
class ProjectNetwork:
    """The network of one project. `gateways` are the host's own addresses on it, `bridge` the host's interface."""

    project: str
    name: str
    subnets: tuple[Subnet, ...]
    gateways: tuple[Address, ...]
    bridge: str


@frozen
class ContainerDns:
    """HostConfig's Dns, DnsSearch and DnsOptions (Engine API, "Create a container")."""

    servers: tuple[str, ...]
    search: tuple[str, ...]
    options: tuple[str, ...]
