"""Which containers requests and names lead to, and how that changes. Pure.

It is state of its own: a container that runs is not yet one that is reached, and one that is on its way out runs on
while it drains. A table is never changed; what changes it returns the next one, so a change that could not be written
leaves the old one standing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace

from syntra.model.container import Container
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import ServiceSpec
from syntra.model.status import Health
from syntra.networking.routes import Endpoint, Group, RouteTable, ServiceRoute
from syntra.utils.frozen import frozen

STABLE = "stable"
CANARY = "canary"


@frozen
class ReplicaEndpoint:
    """One container. `port` is that of the spec it was made from; None: only its name is asked for."""

    index: int
    address: str
    port: int | None
    is_ready: bool = True
    """False for the last one of a service, unhealthy: the proxy keeps it rather than nothing, names do not."""


@frozen
class ServiceEndpoints:
    """One service. The `canary` containers get `share` percent of the requests, the others what is left."""

    spec: ServiceSpec
    reached: Mapping[ContainerId, ReplicaEndpoint] = field(default_factory=dict)
    canary: frozenset[ContainerId] = frozenset()
    share: int = 100


@frozen
class NamedService:
    """A service as the names know it: replica index and address of those that are ready, in order."""

    spec: ServiceSpec
    ready: tuple[tuple[int, str], ...]


EndpointTable = Mapping[ServiceId, ServiceEndpoints]
"""Every service that has a spec here, also one that nothing leads to at present."""


def is_reached(table: EndpointTable, container_id: ContainerId) -> bool:
    """Whether anything leads to the container."""
    return any(container_id in service.reached for service in table.values())


def published(
    table: EndpointTable, spec: ServiceSpec, found: Mapping[ContainerId, ReplicaEndpoint], *, share: int | None = None
) -> dict[ServiceId, ServiceEndpoints]:
    """With these containers as well, and with the spec's domains. With `share` they are canaries, all of them."""
    before = table.get(spec.service_id, ServiceEndpoints(spec=spec))
    if share is not None:
        canary = frozenset(found)
    elif before.share < 100:
        canary = before.canary - found.keys()
    else:
        # It took everything over and no look at an idle service came in between: those that come now are its equals.
        canary = frozenset()
    now = replace(
        before,
        spec=spec,
        reached={**before.reached, **found},
        canary=canary,
        share=before.share if share is None else share,
    )
    return {**table, spec.service_id: now}


def withdrawn(
    table: EndpointTable, service_id: ServiceId, containers: Iterable[ContainerId]
) -> dict[ServiceId, ServiceEndpoints]:
    """Without these containers."""
    service, gone = table.get(service_id), frozenset(containers)
    if service is None:
        return dict(table)
    return {**table, service_id: _keeping(service, {c: r for c, r in service.reached.items() if c not in gone})}


def forgotten(table: EndpointTable, service_id: ServiceId) -> dict[ServiceId, ServiceEndpoints]:
    """Without the service."""
    return {known: service for known, service in table.items() if known != service_id}


def followed(table: EndpointTable, observed: Sequence[Container]) -> dict[ServiceId, ServiceEndpoints]:
    """What runs no more is gone, what has another address has that."""
    here = {replica.container_id: replica for replica in observed}
    now: dict[ServiceId, ServiceEndpoints] = {}
    for service_id, service in table.items():
        kept: dict[ContainerId, ReplicaEndpoint] = {}
        for container_id, one in service.reached.items():
            address = address_of(here[container_id]) if container_id in here else None
            if address is not None:
                kept[container_id] = replace(one, address=address)
        now[service_id] = _keeping(service, kept)
    return now


def settled(
    table: EndpointTable,
    spec: ServiceSpec,
    replicas: Sequence[Container],
    readiness: Callable[[Container, ServiceSpec], Health],
) -> dict[ServiceId, ServiceEndpoints]:
    """A service that no operation is at: its ready replicas are reached, unhealthy ones are not.

    `replicas` are those of the current deployment, with `spec`; others are what an operation could not take away, and
    are reached in place of nothing only. The last one that is reached stays for the proxy, whatever its health: an
    answer that may be wrong is better than none.
    """
    service = table.get(spec.service_id, ServiceEndpoints(spec=spec))
    reached = dict(service.reached)
    unhealthy: list[ContainerId] = []
    for replica in replicas:
        address = address_of(replica)
        if address is None:
            continue
        match readiness(replica, spec):
            case Health.HEALTHY:
                reached[replica.container_id] = ReplicaEndpoint(index=replica.index, address=address, port=spec.port)
            case Health.UNHEALTHY if replica.container_id in reached:
                unhealthy.append(replica.container_id)
    # One that was kept as the last goes before one that has only now turned.
    for container_id in sorted(unhealthy, key=lambda c: reached[c].is_ready):
        if len(reached) > 1:
            del reached[container_id]
        else:
            reached[container_id] = replace(reached[container_id], is_ready=False)
    # A canary that could not be taken back, say: without this it would be the equal of those that serve.
    current = {replica.container_id for replica in replicas}
    if any(one.is_ready for container_id, one in reached.items() if container_id in current):
        reached = {container_id: one for container_id, one in reached.items() if container_id in current}
    return {**table, spec.service_id: ServiceEndpoints(spec=spec, reached=reached)}


def tended(
    table: EndpointTable,
    spec: ServiceSpec,
    replicas: Sequence[Container],
    readiness: Callable[[Container, ServiceSpec], Health],
) -> dict[ServiceId, ServiceEndpoints]:
    """Like `settled`, while a canary of the service is held: its replicas and its share stay as they are.

    `replicas`, with `spec`, are those of what served before; the last one of them stays too.
    """
    service = table.get(spec.service_id)
    if service is None:
        return dict(table)
    canary = {c: one for c, one in service.reached.items() if c in service.canary}
    stable = {c: one for c, one in service.reached.items() if c not in service.canary}
    alone = settled({spec.service_id: ServiceEndpoints(spec=spec, reached=stable)}, spec, replicas, readiness)
    return {**table, spec.service_id: replace(service, reached={**alone[spec.service_id].reached, **canary})}


def only_ends_services(before: EndpointTable, after: EndpointTable) -> bool:
    """Whether every service that changes has no replica left afterwards: no request of it can be served any more."""
    return all(
        (now := after.get(service_id)) is None or not now.reached or now == before.get(service_id)
        for service_id in {*before, *after}
    )


def route_table(table: EndpointTable) -> RouteTable:
    """What the proxy is to do."""
    return RouteTable(tuple(route_of(service) for service in table.values() if service.spec.domains))


def route_of(service: ServiceEndpoints) -> ServiceRoute:
    """One service's route; an endpoint needs a port."""
    stable = {c: r for c, r in service.reached.items() if c not in service.canary}
    canary = {c: r for c, r in service.reached.items() if c in service.canary}
    groups = [_group(STABLE, 100 - service.share if canary and stable else 100, stable)]
    if canary:
        groups.append(_group(CANARY, service.share if stable else 100, canary))
    spec = service.spec
    return ServiceRoute(service_id=spec.service_id, domains=spec.domains, routing=spec.routing, groups=tuple(groups))


def named(table: EndpointTable) -> list[NamedService]:
    """What names are to answer. They know no shares: a canary has none before it has all the requests."""
    found = []
    for service in table.values():
        waits = service.canary if service.share < 100 and service.canary != service.reached.keys() else frozenset()
        ready = [(r.index, r.address) for c, r in service.reached.items() if r.is_ready and c not in waits]
        found.append(NamedService(spec=service.spec, ready=tuple(sorted(ready))))
    return found


def address_of(replica: Container) -> str | None:
    """Where a running replica answers; None when it does not run or has no address."""
    return replica.address if replica.is_running else None


def _keeping(service: ServiceEndpoints, reached: Mapping[ContainerId, ReplicaEndpoint]) -> ServiceEndpoints:
    canary = frozenset(container_id for container_id in service.canary if container_id in reached)
    return replace(service, reached=reached, canary=canary)


def _group(name: str, weight: int, members: Mapping[ContainerId, ReplicaEndpoint]) -> Group:
    endpoints = tuple(
        Endpoint(container_id=container_id, address=one.address, port=one.port)
        for container_id, one in members.items()
        if one.port is not None
    )
    return Group(name=name, weight=weight, endpoints=endpoints)
