"""A service's domains as HTTPRoutes of the Gateway API, with weights where requests are shared. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from syntra.model.spec import ServiceSpec
from syntra.runtime.kubernetes import names
from syntra.runtime.kubernetes.metadata import owned
from syntra.runtime.kubernetes.objects import Object
from syntra.runtime.kubernetes.resources import HTTP_ROUTE

MAX_HOSTNAMES = 16
"""The most hostnames of one HTTPRoute (Gateway API v1, HTTPRouteSpec)."""
MAX_HEADERS = 16
"""The most headers that one filter sets (Gateway API v1, HTTPHeaderFilter)."""


def http_routes(
    spec: ServiceSpec, labels: Mapping[str, str], *, gateway: str, weights: Mapping[str, int] | None = None
) -> tuple[Object, ...]:
    """HTTPRoutes of all domains, to the service's Service, or with `weights` to Services by their names."""
    name = names.service_name(spec)
    backends: list[Object] = [
        {"name": service, "port": spec.port, "weight": weight} for service, weight in (weights or {name: 1}).items()
    ]
    namespace, _, parent = gateway.rpartition("/")
    rule: Object = {
        "matches": [{"path": {"type": "PathPrefix", "value": spec.routing.path_prefix or "/"}}],
        **({"filters": filters} if (filters := _filters(spec)) else {}),
        "backendRefs": backends,
    }
    groups = [spec.domains[start : start + MAX_HOSTNAMES] for start in range(0, len(spec.domains), MAX_HOSTNAMES)]
    return tuple(
        owned(
            HTTP_ROUTE,
            name if index == 0 else names.content_name(f"{name}-{index + 1}", spec.service_id),
            spec,
            labels,
            spec={
                "parentRefs": [{"name": parent, **({"namespace": namespace} if namespace else {})}],
                "hostnames": list(group),
                "rules": [rule],
            },
        )
        for index, group in enumerate(groups)
    )


def unsupported(spec: ServiceSpec) -> str | None:
    """The first field of `networking` that an HTTPRoute cannot keep; None when it can keep all."""
    routing = spec.routing
    asked = {
        "priority": routing.priority is not None,
        "sticky": routing.sticky,
        "rate_limit": routing.rate_limit is not None,
        "response_headers": len(routing.response_headers) > MAX_HEADERS,
    }
    return next((field for field, is_asked in asked.items() if is_asked), None)


def _filters(spec: ServiceSpec) -> list[Object]:
    found: list[Object] = []
    if spec.routing.response_headers:
        headers = [{"name": header, "value": text} for header, text in spec.routing.response_headers]
        found.append({"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": headers}})
    if spec.routing.strip_prefix:
        path = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}
        found.append({"type": "URLRewrite", "urlRewrite": {"path": path}})
    return found
