"""The Services of a service: its own, one for each other name, and one for a slot. Pure.

A Service finds the port in each pod by name, so a new version may listen at another number.
"""

from __future__ import annotations

from syntra.model.spec import ServiceSpec
from syntra.runtime.kubernetes import names
from syntra.runtime.kubernetes.metadata import owned, service_labels
from syntra.runtime.kubernetes.objects import Object
from syntra.runtime.kubernetes.resources import SERVICE


def services(spec: ServiceSpec, owner: str, slot: names.Slot) -> tuple[Object, ...]:
    """The service's Service, then one for each other name; none without a port, since a Service needs one."""
    if spec.port is None:
        return ()
    return tuple(_service(name, spec, owner, slot, spec.port) for name in (names.service_name(spec), *aliases(spec)))


def aliases(spec: ServiceSpec) -> tuple[str, ...]:
    """The names, beside its Service's own, that others may know the service by."""
    wanted = (spec.service_name, spec.internal_hostname or "")
    own = names.service_name(spec)
    return tuple(dict.fromkeys(name for name in wanted if name != own and names.is_dns_label(name)))


def slot_service_name(spec: ServiceSpec, slot: names.Slot) -> str:
    """The name of a slot's own Service, which no service can have as its name."""
    return names.content_name(f"{names.service_name(spec)[:40].rstrip('-')}-{slot.value}", spec.service_id)


def service_of_slot(spec: ServiceSpec, owner: str, slot: names.Slot) -> Object:
    """The Service of one slot alone, for weights and previews. The spec has a port."""
    assert spec.port is not None, "cannot happen because `check` refuses routes and canaries without a port"
    return _service(slot_service_name(spec, slot), spec, owner, slot, spec.port)


def _service(name: str, spec: ServiceSpec, owner: str, slot: names.Slot, port: int) -> Object:
    return owned(
        SERVICE,
        name,
        spec,
        service_labels(owner, spec, slot),
        spec={
            "type": "ClusterIP",
            "selector": names.selector(spec.service_id, slot),
            "ports": [{"name": names.PORT_NAME, "port": port, "targetPort": names.PORT_NAME, "protocol": "TCP"}],
        },
    )
