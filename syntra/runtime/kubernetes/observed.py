"""What a service has in a cluster, as last observed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from syntra.model.ids import DeploymentId
from syntra.model.spec import Deployment
from syntra.runtime.kubernetes.names import DEPLOYMENT_ID, REPLACED_AT, RESTARTED_AT, SLOT, Slot
from syntra.runtime.kubernetes.objects import Object, integer, text
from syntra.runtime.kubernetes.pods import PodReplica
from syntra.utils.frozen import frozen


@frozen
class Workload:
    """The Deployment in a slot."""

    slot: Slot
    name: str
    deployment_id: DeploymentId
    replicas: int
    restarted_at: float = 0.0
    replaced_at: float = 0.0
    """When the other slot took over its requests, in epoch seconds; 0 while it has them."""

    @classmethod
    def of(cls, obj: Object) -> Workload:
        """Read a Deployment of the agent."""
        template = ("spec", "template", "metadata", "annotations")
        return cls(
            slot=slot_of(text(obj, "metadata", "labels", SLOT)) or Slot.BLUE,
            name=text(obj, "metadata", "name"),
            deployment_id=DeploymentId(text(obj, *template, DEPLOYMENT_ID)),
            # The API server fills the field in, so it is absent only where an object is not from it.
            replicas=integer(obj, "spec", "replicas", default=1),
            restarted_at=_seconds(text(obj, *template, RESTARTED_AT)),
            replaced_at=_seconds(text(obj, "metadata", "annotations", REPLACED_AT)),
        )


@frozen
class Revision:
    """A kept revision, newest highest."""

    number: int
    name: str
    deployment_id: DeploymentId


@frozen
class ObservedService:
    """`active` is the slot that the Service selects; None without a Service.

    `objects` are the names of all objects with the service's labels, by kind. `previous` is the deployment
    to return to, None for a first one.
    """

    replicas: Sequence[PodReplica] = ()
    workloads: Mapping[Slot, Workload] = field(default_factory=dict)
    active: Slot | None = None
    namespace: str = ""
    objects: Mapping[str, frozenset[str]] = field(default_factory=dict)
    revisions: Sequence[Revision] = ()
    previous: Deployment | None = None
    is_checked: bool = False
    """Whether the API server has accepted the target's objects already."""

    def slot_with(self, deployment_id: DeploymentId) -> Slot | None:
        """The slot whose Deployment is of this deployment."""
        return next((slot for slot, one in self.workloads.items() if one.deployment_id == deployment_id), None)


def slot_of(label: str) -> Slot | None:
    """The slot with this label."""
    return next((slot for slot in Slot if slot.value == label), None)


def _seconds(stamp: str) -> float:
    try:
        return float(stamp or 0.0)
    except ValueError:
        return 0.0
