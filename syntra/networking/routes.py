"""The route table: which service answers for which domain and path, and at which endpoints. Pure.

It validates every value again, whatever validated it before: this is the last place before the value becomes part of a
proxy's configuration.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from syntra.model.domain import is_domain
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.routing_payload import MAX_PRIORITY, header_problem, is_path_prefix
from syntra.model.spec import Routing
from syntra.networking.errors import InvalidRoute
from syntra.utils.frozen import frozen

MAX_WEIGHT = 1_000_000

# Valid in labels, in the proxy's API paths, and next to the separators in the proxy's names.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@frozen
class Endpoint:
    """The address of one replica: an IPv4 or IPv6 address in canonical form, never a name; and its port."""

    container_id: ContainerId
    address: str
    port: int

    def __post_init__(self) -> None:
        try:
            canonical = str(ipaddress.ip_address(self.address))
        except ValueError:
            canonical = None
        if canonical != self.address or "%" in self.address:
            raise InvalidRoute(f"cannot route to {self.address[:60]!r}: it is not an IP address")
        if not 1 <= self.port <= 65535:
            raise InvalidRoute(f"cannot route to {self.address}: {self.port} is not a port (1–65535)")


@frozen
class Group:
    """Endpoints that share one weight: those of one deployment. With weight 0 they get no requests."""

    name: str
    weight: int
    endpoints: tuple[Endpoint, ...]

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise InvalidRoute(f"cannot route to group {self.name[:60]!r}: it is not a name")
        if not 0 <= self.weight <= MAX_WEIGHT:
            raise InvalidRoute(f"cannot route to group {self.name}: weight {self.weight} is not 0–{MAX_WEIGHT}")


@frozen
class ServiceRoute:
    """One service's routing. Without domains, no request reaches it. Without endpoints, it answers 503."""

    service_id: ServiceId
    domains: tuple[str, ...]
    routing: Routing
    groups: tuple[Group, ...]

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.service_id) is None:
            raise InvalidRoute(f"cannot route service {self.service_id[:60]!r}: it is not an id")
        problem = _domains_problem(self.domains) or _routing_problem(self.routing)
        names = [group.name for group in self.groups]
        if problem is None and len(set(names)) < len(names):
            problem = "two of its groups have the same name"
        if problem is not None:
            raise InvalidRoute(f"cannot route service {self.service_id}: {problem}")


@frozen
class Claim:
    """A domain and path that belong to a service."""

    service_id: ServiceId
    domain: str
    path_prefix: str | None

    def __str__(self) -> str:
        return f"{self.domain}{self.path_prefix or ''} belongs to service {self.service_id}"


@dataclass(frozen=True, slots=True)
class RouteTable:
    """One route per service, sorted by service id; groups and endpoints are sorted too.

    Two tables with the same content are equal, so a table can be compared with the previous one.
    """

    routes: tuple[ServiceRoute, ...] = ()

    def __post_init__(self) -> None:
        ids = [route.service_id for route in self.routes]
        if len(set(ids)) < len(ids):
            raise InvalidRoute("cannot build the route table: a service has two routes")
        ordered = sorted((_ordered(route) for route in self.routes), key=lambda route: route.service_id)
        object.__setattr__(self, "routes", tuple(ordered))


def conflict(table: RouteTable, candidate: ServiceRoute) -> Claim | None:
    """The first claim of the candidate that another service already has; None without a conflict.

    The candidate needs no groups, so this works before there are endpoints. The same domain with another path is a
    different claim, and so is a wildcard next to an exact name: the proxy prefers the more specific one.
    """
    wanted = set(candidate.domains)
    path_prefix = candidate.routing.path_prefix
    for route in table.routes:
        if route.service_id == candidate.service_id or route.routing.path_prefix != path_prefix:
            continue
        for domain in route.domains:
            if domain in wanted:
                return Claim(service_id=route.service_id, domain=domain, path_prefix=path_prefix)
    return None


def _ordered(route: ServiceRoute) -> ServiceRoute:
    groups = sorted(
        (
            Group(
                name=group.name,
                weight=group.weight,
                endpoints=tuple(sorted(group.endpoints, key=lambda at: (at.address, at.port, at.container_id))),
            )
            for group in route.groups
        ),
        key=lambda group: group.name,
    )
    return ServiceRoute(
        service_id=route.service_id,
        domains=tuple(sorted(set(route.domains))),
        routing=route.routing,
        groups=tuple(groups),
    )


def _domains_problem(domains: tuple[str, ...]) -> str | None:
    for domain in domains:
        if not is_domain(domain):
            return f"{domain[:80]!r} is not a domain in lower-case ASCII"
    return None


def _routing_problem(routing: Routing) -> str | None:
    if routing.path_prefix is not None and not is_path_prefix(routing.path_prefix):
        return f"{routing.path_prefix[:80]!r} is not a path prefix"
    if routing.priority is not None and not 1 <= routing.priority <= MAX_PRIORITY:
        return f"priority {routing.priority} is not 1–{MAX_PRIORITY}"
    limit = routing.rate_limit
    if limit is not None and (limit.average < 1 or limit.burst < 1):
        return "a rate limit below 1 request a second would let nothing through"
    for name, value in routing.response_headers:
        problem = header_problem(name, value)
        if problem is not None:
            return problem
    return None
