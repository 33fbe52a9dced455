"""Renders a deployment as the objects of a cluster. Pure.

The rendered set is what the agent applies, keeps for a rollback, and prints as a plan. The same arguments give the same
objects.
"""

from __future__ import annotations

import math

from syntra.model.spec import Deployment, ServiceSpec, Strategy
from syntra.runtime.kubernetes import names
from syntra.runtime.kubernetes.autoscaler import autoscaler
from syntra.runtime.kubernetes.http_route import http_routes
from syntra.runtime.kubernetes.ingress import ingress
from syntra.runtime.kubernetes.ingress_route import ingress_route, weighted_ingress_route
from syntra.runtime.kubernetes.metadata import namespace_labels, own_labels, owned, service_labels
from syntra.runtime.kubernetes.names import Slot
from syntra.runtime.kubernetes.objects import Object
from syntra.runtime.kubernetes.pod_template import pod_template
from syntra.runtime.kubernetes.refusals import check
from syntra.runtime.kubernetes.render_context import RenderContext, Routes
from syntra.runtime.kubernetes.resources import DEPLOYMENT, NAMESPACE
from syntra.runtime.kubernetes.secrets import env_secret, pull_secret
from syntra.runtime.kubernetes.services import service_of_slot, services, slot_service_name
from syntra.runtime.kubernetes.volumes import claimed, claims
from syntra.utils.frozen import frozen

__all__ = [
    "RenderContext",
    "Rendered",
    "Routes",
    "check",
    "recreate_reason",
    "render",
    "slot_service",
    "weighted",
]

REVISION_HISTORY = 10
UNSEEN_EXIT_SECS = 2


@frozen
class Rendered:
    """The objects of a deployment in one slot, in the order in which they are applied.

    `services`: the service's own Service first; none without a port. `routes`: none without domains. `notes` are
    decisions that the person who deploys needs to know.
    """

    namespace: Object
    supports: tuple[Object, ...]
    workload: Object
    services: tuple[Object, ...]
    routes: tuple[Object, ...]
    notes: tuple[str, ...]
    autoscaler: Object | None = None

    @property
    def objects(self) -> tuple[Object, ...]:
        """All of them."""
        scaled = (self.workload,) if self.autoscaler is None else (self.workload, self.autoscaler)
        return (self.namespace, *self.supports, *scaled, *self.services, *self.routes)


def render(deployment: Deployment, context: RenderContext) -> Rendered:
    """Render a deployment that `check` accepts. Raises InvalidField for incomplete credentials."""
    spec = deployment.spec
    labels = service_labels(context.owner, spec)
    supports = (
        env_secret(spec, labels),
        None if context.auth is None else pull_secret(spec, context.auth, labels),
        *claims(spec, labels, size=context.volume_bytes, storage_class=context.storage_class),
    )
    return Rendered(
        namespace=_namespace(spec, context.owner),
        supports=tuple(support for support in supports if support is not None),
        workload=_workload(deployment, context),
        services=services(spec, context.owner, context.slot),
        routes=_routes(spec, context),
        notes=_notes(deployment),
        autoscaler=autoscaler(spec, context.owner, context.slot),
    )


def recreate_reason(spec: ServiceSpec) -> str | None:
    """Why a new pod cannot start beside an old one; None when it can."""
    for mount in claimed(spec):
        return f"volume {mount.name} can be mounted on one node at a time"
    if spec.host_port is not None:
        return f"host port {spec.host_port} can be used by one replica of a node at a time"
    return None


def slot_service(deployment: Deployment, slot: Slot, context: RenderContext) -> Object:
    """The Service of one slot alone, for weights and previews. The deployment has a port."""
    return service_of_slot(deployment.spec, context.owner, slot)


def weighted(
    rendered: Rendered, deployment: Deployment, active: Slot, canary: Slot, percent: int, context: RenderContext
) -> tuple[Object, ...]:
    """The objects by which slot `canary` gets `percent` (0–100) of the requests, and slot `active` the rest.

    They are the two slots' Services, and routes to these. Applying `rendered.routes` ends it. Without weights in the
    routes there are none.
    """
    spec = deployment.spec
    weights = {
        slot_service_name(spec, active): 100 - percent,
        slot_service_name(spec, canary): percent,
    }
    labels = service_labels(context.owner, spec)
    if context.routes is Routes.INGRESS_ROUTE:
        routes = weighted_ingress_route(
            spec, labels, weights, entry_points=context.entry_points, cert_resolver=context.cert_resolver
        )
    elif context.routes is Routes.HTTP_ROUTE:
        routes = http_routes(spec, labels, gateway=context.gateway, weights=weights)
    else:
        return ()
    slots = tuple(slot_service(deployment, slot, context) for slot in (active, canary))
    # Middlewares do not change.
    return (*slots, *(route for route in routes if route not in rendered.routes))


def _namespace(spec: ServiceSpec, owner: str) -> Object:
    return {
        "apiVersion": NAMESPACE.api_version,
        "kind": NAMESPACE.kind,
        "metadata": {
            "name": names.namespace(spec.project_name),
            "labels": namespace_labels(owner, spec.project_name),
        },
    }


def _workload(deployment: Deployment, context: RenderContext) -> Object:
    spec = deployment.spec
    is_recreated = deployment.strategy is Strategy.INSTANT or recreate_reason(spec) is not None
    # A surge of one and none unavailable; the API's default is a quarter of each.
    rolling: Object = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    least = _min_ready_secs(spec, context)
    wanted: Object = {
        "selector": {"matchLabels": names.selector(spec.service_id, context.slot)},
        "strategy": {"type": "Recreate"} if is_recreated else rolling,
        "revisionHistoryLimit": REVISION_HISTORY,
        "minReadySeconds": least,
        # The API server refuses one that is not above minReadySeconds.
        "progressDeadlineSeconds": max(math.ceil(deployment.timeout_secs), least + 1),
        "template": pod_template(deployment, context),
    }
    if context.replicas is not None:
        wanted["replicas"] = context.replicas
    return owned(
        DEPLOYMENT,
        names.workload_name(spec, context.slot),
        spec,
        service_labels(context.owner, spec, context.slot),
        spec=wanted,
    )


def _min_ready_secs(spec: ServiceSpec, context: RenderContext) -> int:
    """Without a check a pod is ready as soon as it runs, and the kubelet sees an exit up to a second later.

    The times that the controller compares are whole seconds, which may be another one less.
    """
    least = math.ceil(context.min_healthy_secs)
    return least + UNSEEN_EXIT_SECS if least and spec.health is None else least


def _routes(spec: ServiceSpec, context: RenderContext) -> tuple[Object, ...]:
    if not spec.domains:
        return ()
    labels = service_labels(context.owner, spec)
    match context.routes:
        case Routes.NONE:
            return ()
        case Routes.INGRESS:
            return ingress(spec, labels, ingress_class=context.ingress_class)
        case Routes.INGRESS_ROUTE:
            return ingress_route(spec, labels, entry_points=context.entry_points, cert_resolver=context.cert_resolver)
        case Routes.HTTP_ROUTE:
            return http_routes(spec, labels, gateway=context.gateway)


def _notes(deployment: Deployment) -> tuple[str, ...]:
    spec = deployment.spec
    found = []
    reason = recreate_reason(spec)
    if reason is not None and deployment.strategy is not Strategy.INSTANT:
        found.append(f"instant: {reason}")
    name = names.service_name(spec)
    if spec.service_name != name and not names.is_dns_label(spec.service_name):
        found.append(f"other services reach it as {name}: {spec.service_name} cannot be the name of a Service")
    hostname = spec.internal_hostname
    if hostname is not None and not names.is_dns_label(hostname):
        # Control planes send one with every service, so it is no reason to refuse.
        found.append(f"other services reach it as {name}: the cluster's DNS has no {hostname}, only names of Services")
    if dropped := own_labels(spec).dropped:
        found.append(f"left out, as no pod can have these labels: {', '.join(dropped)}")
    return tuple(found)
