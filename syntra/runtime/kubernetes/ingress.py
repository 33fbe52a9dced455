"""A service's domains as an Ingress. Pure.

An Ingress has hosts and paths. What else `networking` may ask for has no portable form, and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from syntra.model.spec import ServiceSpec
from syntra.runtime.kubernetes import names
from syntra.runtime.kubernetes.metadata import owned
from syntra.runtime.kubernetes.objects import Object, without_empty
from syntra.runtime.kubernetes.resources import INGRESS


def ingress(spec: ServiceSpec, labels: Mapping[str, str], *, ingress_class: str) -> tuple[Object, ...]:
    """The Ingress of all domains, to the service's Service."""
    name = names.service_name(spec)
    backend: Object = {"service": {"name": name, "port": {"name": names.PORT_NAME}}}
    path: Object = {"path": spec.routing.path_prefix or "/", "pathType": "Prefix", "backend": backend}
    rules = [{"host": domain, "http": {"paths": [path]}} for domain in spec.domains]
    wanted = without_empty((("ingressClassName", ingress_class), ("rules", rules)))
    return (owned(INGRESS, name, spec, labels, spec=wanted),)


def unsupported(spec: ServiceSpec) -> str | None:
    """The first field of `networking` that an Ingress cannot keep; None when it can keep all."""
    routing = spec.routing
    asked = {
        "strip_prefix": routing.strip_prefix,
        "priority": routing.priority is not None,
        "sticky": routing.sticky,
        "response_headers": bool(routing.response_headers),
        "rate_limit": routing.rate_limit is not None,
    }
    return next((field for field, is_asked in asked.items() if is_asked), None)
