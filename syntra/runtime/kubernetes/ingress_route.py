"""A service's domains as Traefik's IngressRoute, with Middlewares, and shares of requests as a TraefikService. Pure.

The kinds are those of Traefik 3 (`traefik.io/v1alpha1`). Rules and priorities are the ones that the agent writes for
Traefik on a single machine.
"""

from __future__ import annotations

from collections.abc import Mapping

from syntra.model.fields import Json
from syntra.model.spec import ServiceSpec
from syntra.runtime.kubernetes import names
from syntra.runtime.kubernetes.metadata import owned
from syntra.runtime.kubernetes.objects import Object, without_empty
from syntra.runtime.kubernetes.resources import INGRESS_ROUTE, MIDDLEWARE, TRAEFIK_SERVICE

# An exact name wins over a wildcard, whatever their paths; then a path wins over none, and a longer path over a shorter
# one (at most 255 characters).
_EXACT = 2000
_WILDCARD = 1000
_WITH_PATH = 500


def ingress_route(
    spec: ServiceSpec, labels: Mapping[str, str], *, entry_points: tuple[str, ...], cert_resolver: str
) -> tuple[Object, ...]:
    """The IngressRoute of all domains, to the service's Service, then its Middlewares."""
    name = names.service_name(spec)
    service: Object = {"name": name, "port": names.PORT_NAME, **_sticky(spec, is_secure=bool(cert_resolver))}
    return _routes(spec, labels, service, entry_points=entry_points, cert_resolver=cert_resolver)


def weighted_ingress_route(
    spec: ServiceSpec,
    labels: Mapping[str, str],
    weights: Mapping[str, int],
    *,
    entry_points: tuple[str, ...],
    cert_resolver: str,
) -> tuple[Object, ...]:
    """The same to a TraefikService, which comes first. `weights` are by the name of a Service."""
    name = names.service_name(spec)
    sticky = _sticky(spec, is_secure=bool(cert_resolver))
    backends = [
        {"name": service, "port": names.PORT_NAME, "weight": weight, **sticky} for service, weight in weights.items()
    ]
    weighted = owned(TRAEFIK_SERVICE, name, spec, labels, spec={"weighted": {"services": backends, **sticky}})
    service: Object = {"name": name, "kind": TRAEFIK_SERVICE.kind}
    return weighted, *_routes(spec, labels, service, entry_points=entry_points, cert_resolver=cert_resolver)


def _routes(
    spec: ServiceSpec, labels: Mapping[str, str], service: Object, *, entry_points: tuple[str, ...], cert_resolver: str
) -> tuple[Object, ...]:
    name = names.service_name(spec)
    middlewares = _middlewares(spec, labels)
    used = [{"name": str(_metadata(one)["name"])} for one in middlewares]
    routes = [
        {
            "kind": "Rule",
            "match": _rule(domain, spec.routing.path_prefix),
            "priority": _priority(domain, spec),
            **({"middlewares": used} if used else {}),
            "services": [service],
        }
        for domain in spec.domains
    ]
    wanted = without_empty(
        (("entryPoints", list(entry_points)), ("routes", routes), ("tls", _tls(spec, cert_resolver)))
    )
    return owned(INGRESS_ROUTE, name, spec, labels, spec=wanted), *middlewares


def _metadata(obj: Object) -> dict[str, Json]:
    found = obj["metadata"]
    assert isinstance(found, dict), "cannot happen because `owned` builds it"
    return found


def _tls(spec: ServiceSpec, cert_resolver: str) -> Object:
    if not cert_resolver:
        return {}
    wildcards = [{"main": domain} for domain in spec.domains if domain.startswith("*.")]
    # A rule with a pattern names no host, so Traefik must be given the domain.
    exact = [{"main": domain} for domain in spec.domains if not domain.startswith("*.")] if wildcards else []
    return {"certResolver": cert_resolver, **({"domains": [*exact, *wildcards]} if wildcards else {})}


def _middlewares(spec: ServiceSpec, labels: Mapping[str, str]) -> tuple[Object, ...]:
    """The Middlewares, in the order in which a request passes them."""
    routing, name = spec.routing, names.service_name(spec)
    wanted: dict[str, Object] = {}
    if routing.response_headers:
        wanted["headers"] = {"headers": {"customResponseHeaders": dict(routing.response_headers)}}
    if routing.rate_limit is not None:
        limit = routing.rate_limit
        wanted["limit"] = {"rateLimit": {"average": limit.average, "burst": limit.burst}}
    if routing.strip_prefix and routing.path_prefix is not None:
        wanted["strip"] = {"stripPrefix": {"prefixes": [routing.path_prefix]}}
    return tuple(
        # Two services, `web` and `web-strip`, must not have one name for two objects.
        owned(MIDDLEWARE, names.content_name(f"{name}-{part}", spec.service_id), spec, labels, spec=body)
        for part, body in wanted.items()
    )


def _sticky(spec: ServiceSpec, *, is_secure: bool) -> Object:
    cookie: Object = {"httpOnly": True, "secure": is_secure, "sameSite": "lax"}
    return {"sticky": {"cookie": cookie}} if spec.routing.sticky else {}


def _rule(domain: str, path_prefix: str | None) -> str:
    if path_prefix is None:
        return _host(domain)
    # PathPrefix alone compares characters: `/api` would also match `/apiary`.
    return f"{_host(domain)} && (Path(`{path_prefix}`) || PathPrefix(`{path_prefix}/`))"


def _host(domain: str) -> str:
    if not domain.startswith("*."):
        return f"Host(`{domain}`)"
    suffix = domain.removeprefix("*").replace(".", r"\.")
    return rf"HostRegexp(`^[^.]+{suffix}\.?$`)"


def _priority(domain: str, spec: ServiceSpec) -> int:
    routing = spec.routing
    if routing.priority is not None:
        return routing.priority
    base = _WILDCARD if domain.startswith("*.") else _EXACT
    return base if routing.path_prefix is None else base + _WITH_PATH + len(routing.path_prefix)
