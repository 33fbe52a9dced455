"""Renders the route table as Traefik's dynamic configuration. Pure.

The file is YAML that is also JSON below its comments, one object per line and sorted, so that diffs are readable. It is
never empty: Traefik rejects a file with empty sections (`http: {}` "cannot be a standalone element") and keeps the old
configuration; some releases ignore a completely empty file.

Names in the file start with `syn-<service id>`. Ids cannot contain `~`, so no two objects share a name.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping, Sequence

from syntra.model.spec import Routing
from syntra.networking.errors import InvalidRoute
from syntra.networking.routes import Endpoint, Group, RouteTable, ServiceRoute
from syntra.utils.frozen import frozen

Json = dict[str, object]

GENERATION = "syntra-generation"
"""A middleware that no router uses; its one header tells which configuration the proxy uses."""
GENERATION_HEADER = "X-Syntra-Generation"
HTTPS = "syntra-https"
TRANSPORT = "syntra"

_HEADER = """\
# Written by syntra-agent, which replaces this file whenever a route changes: edits are lost.
# One object to a line, in order. Routes are asked for in a service's `networking` section.
"""

# An exact name wins over a wildcard, whatever their paths; then a path wins over none, and a longer path over a shorter
# one (at most 255 characters). Without priorities Traefik sorts by rule length, so that a long wildcard would win.
_EXACT = 2000
_WILDCARD = 1000
_WITH_PATH = 500

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@frozen
class ProxySettings:
    """Names from the proxy's static configuration.

    Empty `cert_resolver`: routers without TLS. Empty `https_redirect_entrypoint`: no redirects. There are none without
    TLS either, nor if it is one of `entrypoints`.
    """

    entrypoints: tuple[str, ...] = ("websecure",)
    cert_resolver: str = "letsencrypt"
    https_redirect_entrypoint: str = "web"

    def __post_init__(self) -> None:
        names = [*self.entrypoints, *filter(None, (self.cert_resolver, self.https_redirect_entrypoint))]
        for name in names:
            if _NAME.fullmatch(name) is None:
                raise InvalidRoute(f"cannot write routes: {name[:60]!r} is not a name (letters, digits, `-`, `_`)")
        if not self.entrypoints:
            raise InvalidRoute("cannot write routes: there is no entrypoint to put them on; set networking.entrypoints")

    @property
    def redirects(self) -> bool:
        """Whether HTTP is redirected to HTTPS."""
        at = self.https_redirect_entrypoint
        return bool(at and self.cert_resolver) and at not in self.entrypoints


@frozen
class ServedCertificate:
    """A certificate that the agent installed for a domain: paths that the proxy can read."""

    domain: str
    cert_path: str
    key_path: str


def configuration(table: RouteTable, proxy: ProxySettings, certificates: Sequence[ServedCertificate] = ()) -> Json:
    """The dynamic configuration: Traefik's `http` tree, `generation` included, and `tls` when there are certificates.

    A certificate is left out while its domain has no route.
    """
    routed = {domain for route in table.routes for domain in route.domains}
    used = [one for one in certificates if one.domain in routed and proxy.cert_resolver]
    tree = _tree(table, proxy, frozenset(one.domain for one in used))
    entries = [{"certFile": one.cert_path, "keyFile": one.key_path} for one in used]
    tls: Json = {"tls": {"certificates": entries}} if used else {}
    digest = hashlib.sha256(json.dumps({**tree, **tls}, sort_keys=True).encode()).hexdigest()[:16]
    middlewares = tree["middlewares"]
    assert isinstance(middlewares, dict), "cannot happen because _tree builds it"
    middlewares[GENERATION] = {"headers": {"customResponseHeaders": {GENERATION_HEADER: digest}}}
    return {"http": tree, **tls}


def generation(tree: Mapping[str, object]) -> str:
    """16 hex digits that identify a configuration; different configurations have different ones."""
    at: object = tree
    for key in ("http", "middlewares", GENERATION, "headers", "customResponseHeaders", GENERATION_HEADER):
        assert isinstance(at, Mapping), "cannot happen because configuration() builds it"
        at = at[key]
    return str(at)


def render(table: RouteTable, proxy: ProxySettings, certificates: Sequence[ServedCertificate] = ()) -> bytes:
    """Render the file. The same arguments give the same bytes."""
    made = configuration(table, proxy, certificates)
    http = made["http"]
    assert isinstance(http, dict), "cannot happen because configuration() builds it"
    sections = []
    for name, entries in sorted(http.items()):
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(entry)}" for key, entry in sorted(entries.items()))
        sections.append(f'"{name}": {{\n{lines}\n}}')
    tls = f',\n"tls": {json.dumps(made["tls"])}' if "tls" in made else ""
    text = _HEADER + '{"http": {\n' + ",\n".join(sections) + f"\n}}{tls}}}\n"
    # Traefik runs the file as a template, whose functions can read its environment.
    assert "{{" not in text, "cannot happen because the route table refuses it"
    return text.encode("ascii")


def rule(domains: tuple[str, ...], path_prefix: str | None) -> str:
    """The router rule for these domains and that path prefix."""
    hosts = " || ".join(_host(domain) for domain in domains)
    if path_prefix is None:
        return hosts
    # PathPrefix alone compares characters: `/api` would also match `/apiary`.
    path = f"(Path(`{path_prefix}`) || PathPrefix(`{path_prefix}/`))"
    return f"{f'({hosts})' if len(domains) > 1 else hosts} && {path}"


def service_name(route: ServiceRoute) -> str:
    """The name of the service in the file."""
    return f"syn-{route.service_id}"


def group_name(route: ServiceRoute, group: Group) -> str:
    """The name of one of its groups in the file."""
    return f"syn-{route.service_id}~{group.name}"


def url(endpoint: Endpoint) -> str:
    """The URL of an endpoint, as a Traefik server."""
    is_v6 = ipaddress.ip_address(endpoint.address).version == 6
    return f"http://{f'[{endpoint.address}]' if is_v6 else endpoint.address}:{endpoint.port}"


def _tree(table: RouteTable, proxy: ProxySettings, with_certificate: frozenset[str]) -> Json:
    routers: Json = {}
    middlewares: Json = {}
    services: Json = {}
    for route in table.routes:
        if not route.domains:
            continue
        own = _middlewares(route)
        middlewares.update(own)
        services.update(_services(route, proxy))
        for domain in route.domains:
            own_certificate = domain in with_certificate
            routers.update(_routers(route, domain, tuple(own), proxy, own_certificate=own_certificate))
    if proxy.redirects:
        middlewares[HTTPS] = {"redirectScheme": {"scheme": "https", "permanent": True}}
    transport: Json = {
        # Without this a transport keeps 2 idle connections, not the 200 of Traefik's default transport.
        "maxIdleConnsPerHost": 200,
        # From outside an idle connection looks like an open request, so it must end soon after its last request.
        "forwardingTimeouts": {"dialTimeout": "5s", "idleConnTimeout": "1s"},
    }
    tree: Json = {"middlewares": middlewares, "serversTransports": {TRANSPORT: transport}}
    # Traefik rejects the whole file if a section is empty.
    return tree | ({"routers": routers, "services": services} if routers else {})


def _routers(
    route: ServiceRoute, domain: str, middlewares: tuple[str, ...], proxy: ProxySettings, *, own_certificate: bool
) -> Json:
    """One router per domain: if one certificate cannot be obtained, the other domains keep theirs."""
    name = f"{service_name(route)}~{domain}"
    common: Json = {
        "rule": rule((domain,), route.routing.path_prefix),
        "priority": _priority(domain, route.routing),
    }
    main: Json = {**common, "entryPoints": list(proxy.entrypoints), "service": service_name(route)}
    if middlewares:
        main["middlewares"] = list(middlewares)
    if own_certificate:
        # No ACME request for a domain with its own certificate.
        main["tls"] = {}
    elif proxy.cert_resolver:
        tls: Json = {"certResolver": proxy.cert_resolver}
        if domain.startswith("*."):
            tls["domains"] = [{"main": domain}]
        main["tls"] = tls
    if not proxy.redirects:
        return {name: main}
    redirect = {
        "entryPoints": [proxy.https_redirect_entrypoint],
        "middlewares": [HTTPS],
        "service": "noop@internal",
    }
    return {name: main, f"{name}~http": common | redirect}


def _services(route: ServiceRoute, proxy: ProxySettings) -> Json:
    cookie: Json = {"httpOnly": True, "secure": bool(proxy.cert_resolver), "sameSite": "lax"}
    sticky: Json = {"sticky": {"cookie": cookie}} if route.routing.sticky else {}
    services: Json = {}
    for group in route.groups:
        servers = [{"url": address} for address in sorted({url(endpoint) for endpoint in group.endpoints})]
        balancer = {"passHostHeader": True, "servers": servers, "serversTransport": TRANSPORT, **sticky}
        services[group_name(route, group)] = {"loadBalancer": balancer}
    # A group without endpoints would answer its share with 503.
    serving = [group for group in route.groups if group.weight and group.endpoints]
    if not serving:
        services[service_name(route)] = {"loadBalancer": {"servers": [], "serversTransport": TRANSPORT}}
        return services
    weighted = [{"name": group_name(route, group), "weight": group.weight} for group in serving]
    services[service_name(route)] = {"weighted": {"services": weighted, **sticky}}
    return services


def _middlewares(route: ServiceRoute) -> Json:
    """The middlewares, in the order in which a request passes them."""
    routing, name = route.routing, service_name(route)
    found: Json = {}
    if routing.response_headers:
        found[f"{name}~headers"] = {"headers": {"customResponseHeaders": dict(routing.response_headers)}}
    if routing.rate_limit is not None:
        limit = routing.rate_limit
        found[f"{name}~limit"] = {"rateLimit": {"average": limit.average, "burst": limit.burst}}
    if routing.strip_prefix and routing.path_prefix is not None:
        found[f"{name}~strip"] = {"stripPrefix": {"prefixes": [routing.path_prefix]}}
    return found


def _priority(domain: str, routing: Routing) -> int:
    if routing.priority is not None:
        return routing.priority
    base = _WILDCARD if domain.startswith("*.") else _EXACT
    return base if routing.path_prefix is None else base + _WITH_PATH + len(routing.path_prefix)


def _host(domain: str) -> str:
    if not domain.startswith("*."):
        return f"Host(`{domain}`)"
    # Host(`*.…`) exists since Traefik 3.7; every v3 understands this. Of a plain name Traefik itself takes the form
    # with a final dot (RFC 1034 section 3.1), of a pattern it does not.
    suffix = domain.removeprefix("*").replace(".", r"\.")
    return rf"HostRegexp(`^[^.]+{suffix}\.?$`)"
