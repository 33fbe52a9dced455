"""The published containers, which receive requests and to which names resolve, and how they change. Pure.

Published is not the same as running: a new container may not be published yet, and a withdrawn one runs while it
drains. A table is immutable and each change returns a new one, so a change that cannot be written has no effect.
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
    """One container. `port` is from the spec that it was created with; None: it is published in DNS only."""

    index: int
    address: str
    port: int | None
    is_ready: bool = True
    """False for a service's last container when it is unhealthy: the proxy keeps it, DNS drops it."""


@frozen
class ServiceEndpoints:
    """One service. `reached` holds its published containers; `canary` ones get `share` percent of the requests."""

    spec: ServiceSpec
    reached: Mapping[ContainerId, ReplicaEndpoint] = field(default_factory=dict)
    canary: frozenset[ContainerId] = frozenset()
    share: int = 100


@frozen
class NamedService:
    """A service for DNS: replica index and address of the ready replicas, in order."""

    spec: ServiceSpec
    ready: tuple[tuple[int, str], ...]


EndpointTable = Mapping[ServiceId, ServiceEndpoints]
"""By service id; a service may have no published containers."""


def is_reached(table: EndpointTable, container_id: ContainerId) -> bool:
    """Whether the container is published."""
    return any(container_id in service.reached for service in table.values())


def published(
    table: EndpointTable, spec: ServiceSpec, found: Mapping[ContainerId, ReplicaEndpoint], *, share: int | None = None
) -> dict[ServiceId, ServiceEndpoints]:
    """Add these containers and the spec's domains. With `share` these containers are the canary."""
    before = table.get(spec.service_id, ServiceEndpoints(spec=spec))
    if share is not None:
        canary = frozenset(found)
    elif before.share < 100:
        canary = before.canary - found.keys()
    else:
        # The canary has all requests, and the service was not reconciled since: new containers are its equals.
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
    """Remove these containers."""
    service, gone = table.get(service_id), frozenset(containers)
    if service is None:
        return dict(table)
    return {**table, service_id: _with_reached(service, {c: r for c, r in service.reached.items() if c not in gone})}


def forgotten(table: EndpointTable, service_id: ServiceId) -> dict[ServiceId, ServiceEndpoints]:
    """Remove the service."""
    return {known: service for known, service in table.items() if known != service_id}


def with_observed(table: EndpointTable, observed: Sequence[Container]) -> dict[ServiceId, ServiceEndpoints]:
    """Remove containers that no longer run, and update changed addresses."""
    observed_by_id = {replica.container_id: replica for replica in observed}
    now: dict[ServiceId, ServiceEndpoints] = {}
    for service_id, service in table.items():
        kept: dict[ContainerId, ReplicaEndpoint] = {}
        for container_id, one in service.reached.items():
            address = address_of(observed_by_id[container_id]) if container_id in observed_by_id else None
            if address is not None:
                kept[container_id] = replace(one, address=address)
        now[service_id] = _with_reached(service, kept)
    return now


def reconciled(
    table: EndpointTable,
    spec: ServiceSpec,
    replicas: Sequence[Container],
    readiness: Callable[[Container, ServiceSpec], Health],
) -> dict[ServiceId, ServiceEndpoints]:
    """Reconcile a service without a running operation: publish its ready replicas, withdraw unhealthy ones.

    `replicas` are those of the current deployment, with `spec`. Others are leftovers of an operation; they stay
    published only while no current replica is ready. The last published one stays for the proxy, whatever its health:
    a response that may be wrong is better than none.
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
    # Withdraw a replica that was unhealthy before ahead of one that has just become unhealthy.
    for container_id in sorted(unhealthy, key=lambda c: reached[c].is_ready):
        if len(reached) > 1:
            del reached[container_id]
        else:
            reached[container_id] = replace(reached[container_id], is_ready=False)
    # Drop leftovers, such as a canary that could not be removed: it would get a full share of the requests.
    current = {replica.container_id for replica in replicas}
    if any(one.is_ready for container_id, one in reached.items() if container_id in current):
        reached = {container_id: one for container_id, one in reached.items() if container_id in current}
    return {**table, spec.service_id: ServiceEndpoints(spec=spec, reached=reached)}


def reconciled_during_canary(
    table: EndpointTable,
    spec: ServiceSpec,
    replicas: Sequence[Container],
    readiness: Callable[[Container, ServiceSpec], Health],
) -> dict[ServiceId, ServiceEndpoints]:
    """Like `reconciled`, while a canary of the service is held: the canary's replicas and share stay as they are.

    `replicas` and `spec` are those of the previous deployment; its last replica stays published too.
    """
    service = table.get(spec.service_id)
    if service is None:
        return dict(table)
    canary = {c: one for c, one in service.reached.items() if c in service.canary}
    stable = {c: one for c, one in service.reached.items() if c not in service.canary}
    alone = reconciled({spec.service_id: ServiceEndpoints(spec=spec, reached=stable)}, spec, replicas, readiness)
    return {**table, spec.service_id: replace(service, reached={**alone[spec.service_id].reached, **canary})}


def only_ends_services(before: EndpointTable, after: EndpointTable) -> bool:
    """Whether each service that changes has no published replica afterwards, so that it gets no requests."""
    return all(
        (now := after.get(service_id)) is None or not now.reached or now == before.get(service_id)
        for service_id in {*before, *after}
    )


def route_table(table: EndpointTable) -> RouteTable:
    """The routes for the proxy."""
    return RouteTable(tuple(route_of(service) for service in table.values() if service.spec.domains))


def route_of(service: ServiceEndpoints) -> ServiceRoute:
    """One service's route, without the containers that have no port."""
    stable = {c: r for c, r in service.reached.items() if c not in service.canary}
    canary = {c: r for c, r in service.reached.items() if c in service.canary}
    groups = [_group(STABLE, 100 - service.share if canary and stable else 100, stable)]
    if canary:
        groups.append(_group(CANARY, service.share if stable else 100, canary))
    spec = service.spec
    return ServiceRoute(service_id=spec.service_id, domains=spec.domains, routing=spec.routing, groups=tuple(groups))


def named(table: EndpointTable) -> list[NamedService]:
    """The services for DNS. It has no shares: a canary's names resolve only once it has all requests."""
    found = []
    for service in table.values():
        held = service.canary if service.share < 100 and service.canary != service.reached.keys() else frozenset()
        ready = [(r.index, r.address) for c, r in service.reached.items() if r.is_ready and c not in held]
        found.append(NamedService(spec=service.spec, ready=tuple(sorted(ready))))
    return found


def address_of(replica: Container) -> str | None:
    """The address of a running replica; None when it does not run or has no address."""
    return replica.address if replica.is_running else None


def _with_reached(service: ServiceEndpoints, reached: Mapping[ContainerId, ReplicaEndpoint]) -> ServiceEndpoints:
    canary = frozenset(container_id for container_id in service.canary if container_id in reached)
    return replace(service, reached=reached, canary=canary)


def _group(name: str, weight: int, members: Mapping[ContainerId, ReplicaEndpoint]) -> Group:
    endpoints = tuple(
        Endpoint(container_id=container_id, address=one.address, port=one.port)
        for container_id, one in members.items()
        if one.port is not None
    )
    return Group(name=name, weight=weight, endpoints=endpoints)
