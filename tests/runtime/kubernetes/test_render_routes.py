"""Rendered routes of each kind, shares of a canary, and what is refused by the name of its field."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from syntra.model.container_options import ContainerOptions, ExtraHost, Tmpfs, Ulimit
from syntra.model.errors import InvalidField
from syntra.model.spec import Deployment, RateLimit, Routing, Strategy, VolumeMount
from syntra.runtime.kubernetes.names import Slot
from syntra.runtime.kubernetes.render import Routes, check, slot_service, weighted
from tests.model.samples import deployment
from tests.runtime.kubernetes.rendering import CONTEXT, rendered

DOMAINS = ("a.example", "*.a.example")
FULL = Routing(
    path_prefix="/api",
    strip_prefix=True,
    sticky=True,
    response_headers=(("X-A", "1"),),
    rate_limit=RateLimit(average=10, burst=20),
)


def routed(routes: Routes, routing: Routing | None = None, **around: Any) -> list[dict[str, Any]]:
    wanted = deployment(domains=DOMAINS, routing=routing or Routing())
    return [dict(obj) for obj in rendered(wanted, routes=routes, **around).routes]


@pytest.mark.parametrize("routes", Routes)
def test_without_domains_there_are_no_routes(routes: Routes) -> None:
    assert rendered(routes=routes).routes == ()


def test_an_ingress_has_a_rule_for_each_domain() -> None:
    (found,) = routed(Routes.INGRESS, Routing(path_prefix="/api"), ingress_class="nginx")
    assert found["spec"]["ingressClassName"] == "nginx"
    assert [rule["host"] for rule in found["spec"]["rules"]] == list(DOMAINS)
    for rule in found["spec"]["rules"]:
        (path,) = rule["http"]["paths"]
        assert (path["path"], path["pathType"]) == ("/api", "Prefix")
        assert path["backend"] == {"service": {"name": "api", "port": {"name": "service"}}}
    (plain,) = routed(Routes.INGRESS)
    assert "ingressClassName" not in plain["spec"]
    assert plain["spec"]["rules"][0]["http"]["paths"][0]["path"] == "/"


def test_an_ingress_route_has_traefik_s_rules_priorities_and_middlewares() -> None:
    route, *middlewares = routed(Routes.INGRESS_ROUTE, FULL, entry_points=("websecure",), cert_resolver="le")
    assert route["spec"]["entryPoints"] == ["websecure"]
    exact, wildcard = route["spec"]["routes"]
    path = "(Path(`/api`) || PathPrefix(`/api/`))"
    assert exact["match"] == f"Host(`a.example`) && {path}"
    assert wildcard["match"] == rf"HostRegexp(`^[^.]+\.a\.example\.?$`) && {path}"
    assert exact["priority"] > wildcard["priority"]
    cookie = {"httpOnly": True, "secure": True, "sameSite": "lax"}
    assert exact["services"] == [{"name": "api", "port": "service", "sticky": {"cookie": cookie}}]
    assert route["spec"]["tls"] == {
        "certResolver": "le",
        "domains": [{"main": "a.example"}, {"main": "*.a.example"}],
    }
    assert [next(iter(one["spec"])) for one in middlewares] == ["headers", "rateLimit", "stripPrefix"]
    assert exact["middlewares"] == [{"name": one["metadata"]["name"]} for one in middlewares]


def test_a_plain_ingress_route_leaves_the_rest_to_traefik() -> None:
    (route,) = routed(Routes.INGRESS_ROUTE)
    assert route["spec"].keys() == {"routes"}
    assert "middlewares" not in route["spec"]["routes"][0]


def test_http_routes_have_at_most_sixteen_hostnames_each() -> None:
    many = tuple(f"d{index}.example" for index in range(33))
    found = rendered(deployment(domains=many), routes=Routes.HTTP_ROUTE, gateway="edge/main").routes
    specs: list[Any] = [obj["spec"] for obj in found]
    assert [len(spec["hostnames"]) for spec in specs] == [16, 16, 1]
    assert len({obj["metadata"]["name"] for obj in found}) == 3  # type: ignore[index]
    assert specs[0]["parentRefs"] == [{"name": "main", "namespace": "edge"}]
    assert specs[0]["rules"][0]["backendRefs"] == [{"name": "api", "port": 80, "weight": 1}]


def test_an_http_route_sets_headers_and_strips_the_prefix() -> None:
    routing = dataclasses.replace(FULL, sticky=False, rate_limit=None)
    (found,) = routed(Routes.HTTP_ROUTE, routing, gateway="main")
    (rule,) = found["spec"]["rules"]
    assert found["spec"]["parentRefs"] == [{"name": "main"}]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/api"}}]
    assert [one["type"] for one in rule["filters"]] == ["ResponseHeaderModifier", "URLRewrite"]


# Shares of requests


def test_a_canary_shares_requests_between_the_slots_services() -> None:
    wanted = deployment(domains=DOMAINS, routing=FULL)
    context = dataclasses.replace(CONTEXT, routes=Routes.INGRESS_ROUTE)
    found = rendered(wanted, routes=Routes.INGRESS_ROUTE)
    blue, green, service, route = (dict(obj) for obj in weighted(found, wanted, Slot.BLUE, Slot.GREEN, 10, context))
    assert [blue, green] == [slot_service(wanted, slot, context) for slot in Slot]
    shares: Any = service["spec"]
    names = {blue["metadata"]["name"]: 90, green["metadata"]["name"]: 10}  # type: ignore[index]
    assert {one["name"]: one["weight"] for one in shares["weighted"]["services"]} == names
    assert all(one["port"] == "service" for one in shares["weighted"]["services"])
    assert "sticky" in shares["weighted"]
    (target,) = route["spec"]["routes"][0]["services"]  # type: ignore[index]
    assert (target["name"], target["kind"]) == (service["metadata"]["name"], "TraefikService")  # type: ignore[index]
    # The next deploy, or a rollback, applies the same route without shares.
    assert route["metadata"] == found.routes[0]["metadata"] and route["kind"] == "IngressRoute"


@pytest.mark.parametrize(("percent", "weights"), [(0, [100, 0]), (100, [0, 100]), (33, [67, 33])])
def test_an_http_route_has_the_weights_itself(percent: int, weights: list[int]) -> None:
    wanted = deployment(domains=DOMAINS)
    context = dataclasses.replace(CONTEXT, routes=Routes.HTTP_ROUTE, gateway="main")
    found = rendered(wanted, routes=Routes.HTTP_ROUTE, gateway="main")
    green, blue, route = weighted(found, wanted, Slot.GREEN, Slot.BLUE, percent, context)
    backends: Any = route["spec"]["rules"][0]["backendRefs"]  # type: ignore[index]
    assert [one["weight"] for one in backends] == weights
    assert [one["name"] for one in backends] == [obj["metadata"]["name"] for obj in (green, blue)]  # type: ignore[index]


@pytest.mark.parametrize("routes", [Routes.NONE, Routes.INGRESS])
def test_routes_without_weights_share_nothing(routes: Routes) -> None:
    wanted = deployment(domains=DOMAINS)
    context = dataclasses.replace(CONTEXT, routes=routes)
    assert weighted(rendered(wanted, routes=routes), wanted, Slot.BLUE, Slot.GREEN, 10, context) == ()


# Refusals


def options(**of: Any) -> Deployment:
    return deployment(options=ContainerOptions(**of))


BIND = VolumeMount(name="", host_path="/etc", container_path="/conf", read_only=True)
CLAIM = VolumeMount(name="Claim_1", host_path=None, container_path="/data", read_only=False, external=True)
CANARY = Strategy.CANARY


@pytest.mark.parametrize(
    ("wanted", "routes", "field"),
    [
        (options(ulimits=(Ulimit(name="nofile", soft=1, hard=1),)), Routes.NONE, "config.ulimits"),
        (options(stop_signal="SIGQUIT"), Routes.NONE, "config.stop_signal"),
        (options(extra_hosts=(ExtraHost(name="h", address="host-gateway"),)), Routes.NONE, "config.extra_hosts"),
        (options(user="app"), Routes.NONE, "config.user"),
        (options(user="1:staff"), Routes.NONE, "config.user"),
        (options(user="99999999999"), Routes.NONE, "config.user"),
        (options(tmpfs=(Tmpfs(path="/t", options="size=64m,noexec"),)), Routes.NONE, "config.tmpfs"),
        (options(tmpfs=(Tmpfs(path="/t", options="size=50%"),)), Routes.NONE, "config.tmpfs"),
        (options(tmpfs=(Tmpfs(path="/dev/shm"),), shm_bytes=1), Routes.NONE, "config.tmpfs"),
        (deployment(env={"1BAD": "x"}), Routes.NONE, "config.env_vars"),
        (deployment(env={"a/b": "x"}), Routes.NONE, "config.env_vars"),
        (deployment(env={".": "x"}), Routes.NONE, "config.env_vars"),
        (deployment(env={"A": "x" * 2**20, "B": "y"}), Routes.NONE, "config.env_vars"),
        (deployment(volumes=(BIND,)), Routes.NONE, "config.volumes"),
        (deployment(volumes=(CLAIM,)), Routes.NONE, "config.volumes"),
        (deployment(domains=DOMAINS), Routes.NONE, "networking.domains"),
        (deployment(domains=DOMAINS, port=None), Routes.INGRESS, "config.port"),
        (deployment(domains=DOMAINS, routing=Routing(sticky=True)), Routes.INGRESS, "networking.sticky"),
        (deployment(domains=DOMAINS, routing=Routing(priority=7)), Routes.HTTP_ROUTE, "networking.priority"),
        (deployment(domains=DOMAINS, strategy=CANARY), Routes.INGRESS, "strategy"),
        (deployment(strategy=CANARY), Routes.INGRESS_ROUTE, "networking.domains"),
    ],
)
def test_what_a_cluster_cannot_do_is_refused_by_the_name_of_its_field(
    wanted: Deployment, routes: Routes, field: str
) -> None:
    with pytest.raises(InvalidField) as refusal:
        check(wanted, routes, host_paths=False)
    assert refusal.value.field == field
    assert "xxx" not in str(refusal.value)


@pytest.mark.parametrize(
    ("wanted", "routes"),
    [
        (deployment(), Routes.NONE),
        (deployment(volumes=(BIND,)), Routes.NONE),
        (deployment(env={"A": "x" * 2**20, "_a.b-C": ""}), Routes.NONE),
        (options(user="2147483647:0", tmpfs=(Tmpfs(path="/t", options="rw,size=64m,mode=1777"),)), Routes.NONE),
        (deployment(domains=DOMAINS, routing=FULL, strategy=CANARY), Routes.INGRESS_ROUTE),
        (deployment(domains=DOMAINS, routing=Routing(path_prefix="/a")), Routes.INGRESS),
        (deployment(internal_hostname="api.shop.internal"), Routes.NONE),
    ],
)
def test_all_else_is_taken(wanted: Deployment, routes: Routes) -> None:
    check(wanted, routes, host_paths=True)
