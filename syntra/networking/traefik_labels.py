"""Labels for Traefik's Docker provider: the agent's own, and what makes those of an image harmless. Pure.

A container inherits each label of its image that its create body does not set, and no create body can remove one
(Engine API, "Create a container"). Traefik would take a router of the image for the container's own, so that an image
could take over the host of any service. Therefore each such label gets a value that routes nothing.

A router or service is also shared by name: a service that two containers define has the servers of both, and a router
that two containers define differently is dropped from both. So the names that an image uses must not be those of
others. Traefik compares the parts of a label without case, and takes the name from the label that sorts first. A label
with the name in upper case comes first, and the agent's own names start with lower-case letters.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from syntra.model.ids import ServiceId
from syntra.model.spec import ServiceSpec
from syntra.networking.errors import InvalidRoute
from syntra.networking.routes import ServiceRoute
from syntra.networking.traefik import ProxySettings, rule
from syntra.utils.frozen import frozen

ENABLE = "traefik.enable"
NOT_ROUTED: Mapping[str, str] = {ENABLE: "false"}
"""The container is not for Traefik: its other labels, which are its image's, are ignored."""

_READ = re.compile(r"traefik\.(http|tcp|udp|tls|docker|enable)", re.ASCII)
"""The beginnings of the labels that Traefik reads, without case; it ignores all others."""
_OBJECT = re.compile(
    r"traefik\.(http|tcp|udp)\.(routers|services|middlewares)\.([\w-]+)((?:\.[^.]+)+)", re.IGNORECASE | re.ASCII
)
# Without a lower-case letter it cannot be changed to another name.
_RENAMED = re.compile(r"[A-Za-z0-9_-]*[a-z][A-Za-z0-9_-]*")
_NEVER = "PathPrefix(`/`) && !PathPrefix(`/`)"
"""A rule that no request matches. It names no host, because Traefik requests certificates for the hosts of a rule."""
_NO_ROUTES: Mapping[str, Mapping[str, str]] = {
    "http": {"rule": _NEVER, "service": "noop@internal", "tls": "false"},
    # Traefik drops a TCP router without a rule. A UDP router has none.
    "tcp": {"rule": "", "tls": "false"},
    "udp": {"service": "none@internal"},
}
_PROVIDER: Mapping[str, str] = {
    # Empty: the container's one network.
    "traefik.docker.network": "",
    "traefik.docker.lbswarm": "false",
    "traefik.docker.allownonrunning": "false",
}


@frozen
class _ObjectLabel:
    """A label about a router, service or middleware. All but `name` and `key` in lower case."""

    key: str
    protocol: str
    kind: str
    name: str
    field: str


def labels(spec: ServiceSpec, proxy: ProxySettings, image_labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of a service's container, by which Traefik routes to it and to nothing that its image asks for.

    One router for all domains. The labels of a container cannot change, so this way can neither drain nor weigh.
    Raises InvalidRoute when a label of the image cannot be made harmless.
    """
    if not spec.domains or spec.port is None:
        return dict(NOT_ROUTED)
    # Validates the values as a route does; nothing else of the route is used.
    route = ServiceRoute(service_id=spec.service_id, domains=spec.domains, routing=spec.routing, groups=())
    name = label_name(spec.service_id)
    router, service = f"traefik.http.routers.{name}", f"traefik.http.services.{name}"
    found = {
        ENABLE: "true",
        f"{router}.rule": rule(route.domains, route.routing.path_prefix),
        f"{router}.entrypoints": ",".join(proxy.entrypoints),
        # Without it Traefik drops the router of a container that has several services.
        f"{router}.service": name,
        f"{service}.loadbalancer.server.port": str(spec.port),
    }
    if proxy.cert_resolver:
        found[f"{router}.tls.certresolver"] = proxy.cert_resolver
    return found | _harmless(found, name, image_labels)


def label_name(service_id: ServiceId) -> str:
    """`syn-<service id>`. A dot would split the label's path, so an id with dots is replaced and gets a digest."""
    if "." not in service_id:
        return f"syn-{service_id}"
    return f"syn-{service_id.replace('.', '-')}-{hashlib.sha256(service_id.encode()).hexdigest()[:8]}"


def _harmless(own: Mapping[str, str], own_name: str, image_labels: Mapping[str, str]) -> dict[str, str]:
    """What to set because of the image's labels; `own` is set anyway."""
    folded = {key.lower(): value for key, value in own.items()}
    found: dict[str, str] = {}
    for key in sorted(image_labels.keys() - own.keys()):
        if _READ.match(key.casefold()) is None:
            continue
        # Traefik drops the whole container if the first part is in another case.
        if not key.startswith("traefik."):
            raise _refusal(key)
        if key.lower() in (ENABLE, *_PROVIDER):
            found[key] = folded.get(key.lower()) or _PROVIDER[key.lower()]
        else:
            found |= _no_object(_parsed(key), own_name, folded)
    return found


def _parsed(key: str) -> _ObjectLabel:
    match = _OBJECT.fullmatch(key)
    if match is None:
        raise _refusal(key)
    protocol, kind, name, rest = match.groups()
    parsed = _ObjectLabel(key=key, protocol=protocol.lower(), kind=kind.lower(), name=name, field=rest[1:].lower())
    # Traefik drops a container with a service of another sort.
    if parsed.kind == "services" and not parsed.field.startswith("loadbalancer."):
        raise _refusal(key)
    return parsed


def _no_object(label: _ObjectLabel, own_name: str, folded: Mapping[str, str]) -> dict[str, str]:
    if label.protocol == "http" and label.kind != "middlewares" and label.name.lower() == own_name.lower():
        return _own_object(label, own_name, folded)
    if _RENAMED.fullmatch(label.name) is None:
        raise _refusal(label.key)
    base = f"traefik.{label.protocol.upper()}.{label.kind.upper()}.{label.name.upper()}"
    if label.kind != "routers":
        # Only the name must change. The value stays the image's, whose label sorts later.
        return {f"{base}.{label.field.upper()}": ""}
    neutral = _NO_ROUTES[label.protocol]
    found = {f"{base}.{name.upper()}": value for name, value in neutral.items()}
    if label.field in neutral:
        found[label.key] = neutral[label.field]
    return found


def _own_object(label: _ObjectLabel, own_name: str, folded: Mapping[str, str]) -> dict[str, str]:
    """The image is a copy of one of the service's own containers, or pretends to be."""
    if label.name != own_name:
        raise _refusal(label.key)
    if (value := folded.get(label.key.lower())) is not None:
        return {label.key: value}
    router = f"traefik.http.routers.{own_name}"
    if label.kind == "routers" and label.field == "tls.certresolver":
        return {f"{router}.tls": "false"}
    raise _refusal(label.key)


def _refusal(key: str) -> InvalidRoute:
    return InvalidRoute(
        f"cannot route to a container of this image: its label {key[:200]!r} is for Traefik and cannot be made "
        'harmless; remove it from the image, or set networking.proxy to "traefik-file"'
    )
