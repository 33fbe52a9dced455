"""A small world of two projects, and queries as a client makes them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import dns.flags
import dns.message

from syntra.networking.dns.zone import Address, Replica, Service, Zone, build

SHOP_NETWORK = ipaddress.ip_network("172.18.0.0/16")
SHOP_NETWORK_6 = ipaddress.ip_network("fd00:18::/64")
BLOG_NETWORK = ipaddress.ip_network("172.19.0.0/20")
NETWORKS = {SHOP_NETWORK: "shop", SHOP_NETWORK_6: "shop", BLOG_NETWORK: "blog"}


def addresses(*texts: str) -> tuple[Address, ...]:
    """Parsed addresses."""
    return tuple(ipaddress.ip_address(text) for text in texts)


def replica(label: str, *texts: str) -> Replica:
    """A ready replica with these addresses."""
    return Replica(label=label, addresses=addresses(*texts))


WEB = Service(
    project="shop",
    name="web",
    hostname="front",
    ports=(8080,),
    replicas=(replica("1", "172.18.0.5", "fd00:18::5"), replica("2", "172.18.0.6")),
)
DB = Service(project="shop", name="db", hostname="database.corp", ports=(5432,))
"""Exists, and none of its replicas is ready."""
POSTS = Service(project="blog", name="posts", ports=(80,), replicas=(replica("1", "172.19.0.5"),))
SERVICES = (WEB, DB, POSTS)


def world(services: Iterable[Service] | None = SERVICES, *, ttl: int = 5) -> Zone:
    """The zone of both projects."""
    return build(NETWORKS, services, ttl=ttl)


def query(
    name: str, kind: str = "A", *, payload: int | None = None, rd: bool = True, rdclass: str = "IN"
) -> dns.message.Message:
    """A query; `payload` not None means EDNS."""
    made = dns.message.make_query(name, kind, rdclass, use_edns=payload is not None, payload=payload or 0)
    if not rd:
        made.flags &= ~dns.flags.RD
    return made
