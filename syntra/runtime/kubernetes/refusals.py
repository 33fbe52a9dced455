"""What a cluster cannot do of a deployment: refused by the name of the field, before anything is touched. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from syntra.model.container_options import ContainerOptions
from syntra.model.errors import InvalidField
from syntra.model.options_payload import HOST_GATEWAY
from syntra.model.spec import Deployment, ServiceSpec, Strategy
from syntra.runtime.kubernetes import http_route, ingress
from syntra.runtime.kubernetes.metadata import is_subdomain
from syntra.runtime.kubernetes.render_context import Routes
from syntra.runtime.kubernetes.secrets import MAX_BYTES, env_bytes
from syntra.runtime.kubernetes.volumes import SHM_PATH, claimed, tmpfs_problem

# Kubernetes before 1.34 refuses a name that begins with a digit; a Secret refuses `.`, and `..` at the beginning.
_ENV_NAME = re.compile(r"(?!\.(\.|$))[-._a-zA-Z][-._a-zA-Z0-9]{0,252}")
_USER = re.compile(r"(\d{1,10})(?::(\d{1,10}))?", re.ASCII)
_MAX_ID = 2**31 - 1
_KINDS = {Routes.INGRESS: "an Ingress", Routes.HTTP_ROUTE: "an HTTPRoute"}


def check(deployment: Deployment, routes: Routes, *, host_paths: bool) -> None:
    """Raise InvalidField for the first thing that the cluster cannot do.

    `routes` is the kind that the cluster has, `host_paths` whether services may mount paths of a node.
    """
    spec = deployment.spec
    for field, reason in _problems(deployment, spec, routes, host_paths=host_paths):
        raise InvalidField(field, reason)


def _problems(
    deployment: Deployment, spec: ServiceSpec, routes: Routes, *, host_paths: bool
) -> Iterator[tuple[str, str]]:
    yield from _options(spec.options)
    yield from _environment(spec)
    yield from _volumes(spec, host_paths=host_paths)
    yield from _routes(spec, routes)
    if spec.autoscale is not None and spec.cpu_nanos is None:
        yield "config.cpu_limit", "is missing; the autoscaler compares the use of CPU with it"
    if deployment.strategy is Strategy.CANARY:
        yield from _canary(spec, routes)


def _options(options: ContainerOptions) -> Iterator[tuple[str, str]]:
    if options.ulimits:
        yield "config.ulimits", "is not possible on Kubernetes: pods have the limits of their node; remove it"
    if options.stop_signal is not None:
        yield "config.stop_signal", "is not possible on Kubernetes: set STOPSIGNAL in the image, and remove it"
    if any(host.address == HOST_GATEWAY for host in options.extra_hosts):
        yield "config.extra_hosts", f"{HOST_GATEWAY} is not possible on Kubernetes; use an IP address"
    if options.user is not None and not _is_numeric(options.user):
        yield "config.user", f"{options.user[:80]!r} is not possible on Kubernetes; use numeric ids, such as 1000:1000"
    if options.shm_bytes is not None and any(mount.path == SHM_PATH for mount in options.tmpfs):
        yield "config.tmpfs", f"{SHM_PATH} has its size from config.shm_size already; remove one of them"
    for mount in options.tmpfs:
        if (option := tmpfs_problem(mount)) is not None:
            yield "config.tmpfs", f"option {option!r} of {mount.path} is not possible on Kubernetes; only size is"


def _environment(spec: ServiceSpec) -> Iterator[tuple[str, str]]:
    for name in spec.env:
        if _ENV_NAME.fullmatch(name) is None:
            yield (
                "config.env_vars",
                f"{name[:60]!r} is not a variable name on Kubernetes (letters, digits, `_`, `-`, `.`; begins with none "
                "of the digits; ≤ 253)",
            )
    if (size := env_bytes(spec)) > MAX_BYTES:
        yield "config.env_vars", f"the values have {size} bytes together, and a Secret takes at most {MAX_BYTES}"


def _volumes(spec: ServiceSpec, *, host_paths: bool) -> Iterator[tuple[str, str]]:
    for mount in spec.volumes:
        if mount.host_path is not None and not host_paths:
            yield (
                "config.volumes",
                f"{mount.host_path[:80]} is a path of a node, and kubernetes.host_paths does not allow them; "
                "use a named volume",
            )
        if mount.container_path == SHM_PATH and spec.options.shm_bytes is not None:
            yield "config.volumes", f"{SHM_PATH} has its size from config.shm_size already; remove one of them"
    for mount in claimed(spec):
        if mount.external and not is_subdomain(mount.name):
            yield "config.volumes", f"{mount.name[:80]!r} cannot be the name of a PersistentVolumeClaim"


def _routes(spec: ServiceSpec, routes: Routes) -> Iterator[tuple[str, str]]:
    if not spec.domains:
        return
    if routes is Routes.NONE:
        yield (
            "networking.domains",
            "cannot be routed: the agent has no kind of routes here; set networking.proxy or kubernetes.routes",
        )
    if spec.port is None:
        yield "config.port", "is missing; the domains need the port that the service listens at"
    unsupported = {Routes.INGRESS: ingress.unsupported, Routes.HTTP_ROUTE: http_route.unsupported}.get(routes)
    if unsupported is not None and (field := unsupported(spec)) is not None:
        yield f"networking.{field}", f"is not possible with {_KINDS[routes]}; remove it, or use Traefik's IngressRoute"


def _canary(spec: ServiceSpec, routes: Routes) -> Iterator[tuple[str, str]]:
    if not spec.domains:
        yield "networking.domains", "is missing; a canary gets a share of their requests"
    if routes in (Routes.NONE, Routes.INGRESS):
        yield (
            "strategy",
            "a canary needs routes with weights (Traefik's IngressRoute, or an HTTPRoute); use rolling",
        )


def _is_numeric(user: str) -> bool:
    match = _USER.fullmatch(user)
    return match is not None and all(int(part) <= _MAX_ID for part in match.groups() if part is not None)
