"""Routes that tests start from."""

from __future__ import annotations

from typing import Any

from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import Routing
from syntra.networking.routes import Endpoint, Group, ServiceRoute
from tests.networking.real_traefik import Backend

INJECTIONS = (
    *("a.example`) || Host(`b.example", "`", "a`.example", "a.example`) || PathPrefix(`/", '{{ env "HOME" }}', "{{.}}"),
    *("a.example\n", "a.example\r\nX: y", "\x00", "a\x1b[2J", "a b", "", "a.example,b.example", "\u0661.example"),
    *('a"}', "a\\", "${HOME}", "../../api", "a@file", "é.example"),
)
"""What must never get into a configuration, whatever field it comes by."""


def endpoint(address: str = "10.0.0.1", port: int = 80, container_id: str = "c1") -> Endpoint:
    return Endpoint(container_id=ContainerId(container_id), address=address, port=port)


def group(*endpoints: Endpoint, name: str = "d1", weight: int = 100) -> Group:
    return Group(name=name, weight=weight, endpoints=endpoints)


def to(*backends: Backend, name: str = "d1", weight: int = 100) -> Group:
    """A group of running backends."""
    return group(*(endpoint(at.address, at.port, at.name) for at in backends), name=name, weight=weight)


def route(service_id: str, *domains: str, groups: tuple[Group, ...] = (), **routing: Any) -> ServiceRoute:
    return ServiceRoute(
        service_id=ServiceId(service_id), domains=domains, routing=Routing(**routing), groups=groups or (group(),)
    )
