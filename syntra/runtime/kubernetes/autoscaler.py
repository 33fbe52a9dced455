"""The HorizontalPodAutoscaler of a service. Pure."""

from __future__ import annotations

from syntra.model.spec import Autoscale, ServiceSpec
from syntra.runtime.kubernetes.metadata import owned, service_labels
from syntra.runtime.kubernetes.names import Slot, workload_name
from syntra.runtime.kubernetes.objects import Object
from syntra.runtime.kubernetes.resources import AUTOSCALER, DEPLOYMENT


def autoscaler(spec: ServiceSpec, owner: str, slot: Slot) -> Object | None:
    """The object for the Deployment of a slot, which has the same name; None when the service does not ask for one."""
    wanted = spec.autoscale
    if wanted is None:
        return None
    name = workload_name(spec, slot)
    cpu: Object = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": wanted.cpu_percent}}
    return owned(
        AUTOSCALER,
        name,
        spec,
        service_labels(owner, spec, slot),
        spec={
            "scaleTargetRef": {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.kind, "name": name},
            "minReplicas": wanted.least,
            "maxReplicas": wanted.most,
            "metrics": [{"type": "Resource", "resource": cpu}],
        },
    )


def within(autoscale: Autoscale | None, replicas: int) -> int:
    """A number of replicas that the autoscaler would not change at once."""
    return replicas if autoscale is None else min(max(replicas, autoscale.least), autoscale.most)
