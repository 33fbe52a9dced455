"""From the route table to Traefik's dynamic configuration, and to labels. Pure.

The file is YAML that is also JSON below its comments, one object to a line and in order, so that a diff reads well. It
is never empty: Traefik keeps the old configuration when it refuses a file, and it refuses one whose sections are empty
(`http: {}` "cannot be a standalone element"); some releases skip an empty one altogether.

Names in the file start with `syn-<service id>`. A `~` cannot be part of an id, so no two things share a name.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping

from syntra.model.ids import ServiceId
from syntra.model.spec import Routing, ServiceSpec
from syntra.networking.errors import InvalidRoute
from syntra.networking.routes import Endpoint, Group, RouteTable, ServiceRoute
from syntra.utils.frozen import frozen

Json = dict[str, object]

GENERATION = "syntra-generation"
"""A middleware that no router uses; its one header tells which configuration the proxy works with."""
GENERATION_HEADER = "X-Syntra-Generation"
HTTPS = "syntra-https"
TRANSPORT = "syntra"

_HEADER = """\
# Written by syntra-agent, which replaces this file whenever a route changes: edits are lost.
# One object to a line, in order. Routes are asked for in a service's `networking` section.
"""

# An exact name beats a wildcard whatever their paths; with a path beats without, and the longer path the shorter one
# (at most 255 characters). Without numbers Traefik goes by the length of the rule, where a long wildcard wins.
_EXACT = 2000
_WILDCARD = 1000
_WITH_PATH = 500

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@frozen
class ProxySettings:
    """Names from the proxy's own static configuration.

    `cert_resolver` empty: routers without TLS. `https_redirect_entrypoint` empty: no redirects; there are none without
    TLS either, nor when it is one of `entrypoints`.
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
        """Whether plain HTTP is sent to HTTPS."""
        at = self.https_redirect_entrypoint
        return bool(at and self.cert_resolver) and at not in self.entrypoints


def configuration(table: RouteTable, proxy: ProxySettings) -> Json:
    """The dynamic configuration as Traefik's `http` tree, `generation` included."""
    tree = _tree(table, proxy)
    digest = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]
    middlewares = tree["middlewares"]
    assert isinstance(middlewares, dict), "cannot happen because _tree builds it"
    middlewares[GENERATION] = {"headers": {"customResponseHeaders": {GENERATION_HEADER: digest}}}
    return {"http": tree}


def generation(tree: Mapping[str, object]) -> str:
    """The 16 hex digits that a configuration carries; two configurations that differ have different ones."""
    at: object = tree
    for key in ("http", "middlewares", GENERATION, "headers", "customResponseHeaders", GENERATION_HEADER):
        assert isinstance(at, Mapping), "cannot happen because configuration() builds it"
        at = at[key]
    return str(at)


def render(table: RouteTable, proxy: ProxySettings) -> bytes:
    """The file. The same table and settings give the same bytes."""
    http = configuration(table, proxy)["http"]
    assert isinstance(http, dict), "cannot happen because configuration() builds it"
    sections = []
    for name, entries in sorted(http.items()):
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(entry)}" for key, entry in sorted(entries.items()))
        sections.append(f'"{name}": {{\n{lines}\n}}')
    text = _HEADER + '{"http": {\n' + ",\n".join(sections) + "\n}}\n"
    # Traefik runs the file as a template, with functions that read its environment.
    assert "{{" not in text, "cannot happen because the route table refuses it"
    return text.encode("ascii")


def rule(domains: tuple[str, ...], path_prefix: str | None) -> str:
    """A router's rule for these domains, under that path."""
    hosts = " || ".join(_host(domain) for domain in domains)
    if path_prefix is None:
        return hosts
    # PathPrefix alone goes by characters: `/api` would take `/apiary` as well.
    path = f"(Path(`{path_prefix}`) || PathPrefix(`{path_prefix}/`))"
    return f"{f'({hosts})' if len(domains) > 1 else hosts} && {path}"


def labels(spec: ServiceSpec, proxy: ProxySettings) -> dict[str, str]:
    """The labels by which Traefik's Docker provider routes to a container of the service; none without domain or port.

    One router over all domains. Labels cannot be changed while a container lives, so this way cannot drain or weigh.
    """
    if not spec.domains or spec.port is None:
        return {}
    # Checked like any other route, although nothing else of it is used.
    route = ServiceRoute(service_id=spec.service_id, domains=spec.domains, routing=spec.routing, groups=())
    name = label_name(spec.service_id)
    router, service = f"traefik.http.routers.{name}", f"traefik.http.services.{name}"
    found = {
        "traefik.enable": "true",
        f"{router}.rule": rule(route.domains, route.routing.path_prefix),
        f"{router}.entrypoints": ",".join(proxy.entrypoints),
        f"{service}.loadbalancer.server.port": str(spec.port),
    }
    if proxy.cert_resolver:
        found[f"{router}.tls.certresolver"] = proxy.cert_resolver
    return found


def label_name(service_id: ServiceId) -> str:
    """`syn-<service id>`. A dot would split the label's path: an id that has one becomes another text and a digest."""
    if "." not in service_id:
        return f"syn-{service_id}"
    return f"syn-{service_id.replace('.', '-')}-{hashlib.sha256(service_id.encode()).hexdigest()[:8]}"


def service_name(route: ServiceRoute) -> str:
    """What the service is called in the file."""
    return f"syn-{route.service_id}"


def group_name(route: ServiceRoute, group: Group) -> str:
    """What one of its groups is called in the file."""
    return f"syn-{route.service_id}~{group.name}"


def url(endpoint: Endpoint) -> str:
    """An endpoint as a server of Traefik's."""
    is_v6 = ipaddress.ip_address(endpoint.address).version == 6
    return f"http://{f'[{endpoint.address}]' if is_v6 else endpoint.address}:{endpoint.port}"


def _tree(table: RouteTable, proxy: ProxySettings) -> Json:
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
            routers.update(_routers(route, domain, tuple(own), proxy))
    if proxy.redirects:
        middlewares[HTTPS] = {"redirectScheme": {"scheme": "https", "permanent": True}}
    transport: Json = {
        # Without a number of its own a transport keeps 2 idle connections, not the 200 of Traefik's default one.
        "maxIdleConnsPerHost": 200,
        # An idle connection looks like an open request from outside, so it must not outlive the last one by much.
        "forwardingTimeouts": {"dialTimeout": "5s", "idleConnTimeout": "1s"},
    }
    tree: Json = {"middlewares": middlewares, "serversTransports": {TRANSPORT: transport}}
    # A section without entries makes Traefik refuse the whole file.
    return tree | ({"routers": routers, "services": services} if routers else {})


def _routers(route: ServiceRoute, domain: str, middlewares: tuple[str, ...], proxy: ProxySettings) -> Json:
    """One router per domain: a certificate that cannot be had for one leaves the others theirs."""
    name = f"{service_name(route)}~{domain}"
    common: Json = {
        "rule": rule((domain,), route.routing.path_prefix),
        "priority": _priority(domain, route.routing),
    }
    main: Json = {**common, "entryPoints": list(proxy.entrypoints), "service": service_name(route)}
    if middlewares:
        main["middlewares"] = list(middlewares)
    if proxy.cert_resolver:
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
    # A group without endpoints would answer its share with 503 while others could serve.
    serving = [group for group in route.groups if group.weight and group.endpoints]
    if not serving:
        services[service_name(route)] = {"loadBalancer": {"servers": [], "serversTransport": TRANSPORT}}
        return services
    weighted = [{"name": group_name(route, group), "weight": group.weight} for group in serving]
    services[service_name(route)] = {"weighted": {"services": weighted, **sticky}}
    return services


def _middlewares(route: ServiceRoute) -> Json:
    """In the order in which a request passes them."""
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
    # Host(`*.…`) came with Traefik 3.7; this is understood by every v3.
    suffix = domain.removeprefix("*").replace(".", r"\.")
    return f"HostRegexp(`^[^.]+{suffix}$`)"
