"""Converts the engine's description of the agent's containers to replicas. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from syntra.model.container import DEFAULT_STOP_GRACE_SECS, Container, ContainerState, NameSource
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.image import ResolvedImage
from syntra.model.spec import Deployment
from syntra.model.status import Health
from syntra.runtime.docker import body
from syntra.runtime.docker.failed import is_failed
from syntra.runtime.docker.records import ContainerDetails
from syntra.utils.errors import AgentError
from syntra.utils.timestamps import parse_ns

_STATES = {state.value: state for state in ContainerState}
_NAMES = {source.value: source for source in NameSource}
# The engine's words (Engine API, State.Health.Status); `none` and anything else is no check.
_HEALTH = {"starting": Health.UNKNOWN, "healthy": Health.HEALTHY, "unhealthy": Health.UNHEALTHY}
_MAX_OUTPUT = 4096


def replica_of(details: ContainerDetails) -> Container | None:
    """The replica in a container; None when its labels do not describe one."""
    if details.labels.get(body.KIND) or is_failed(details.name, details.labels):
        return None
    return _container(details)


def failed_of(details: ContainerDetails) -> Container | None:
    """The container that a failed deployment left for inspection; None when it is none."""
    return _container(details) if is_failed(details.name, details.labels) else None


def _container(details: ContainerDetails) -> Container | None:
    labels = details.labels
    if labels.get(body.MANAGED) != "true" or body.SERVICE not in labels or body.DEPLOYMENT not in labels:
        return None
    index = labels.get(body.REPLICA, "1")
    state = details.state
    return Container(
        container_id=ContainerId(details.id),
        name=details.name,
        service_id=ServiceId(labels[body.SERVICE]),
        deployment_id=DeploymentId(labels[body.DEPLOYMENT]),
        index=_number(index) or 1,
        spec_hash=labels.get(body.SPEC_HASH, ""),
        state=_STATES.get(state.status, ContainerState.EXITED),
        created_ns=_ns(details.created) or 0,
        started_ns=_ns(state.started_at),
        finished_ns=_ns(state.finished_at),
        restart_count=details.restart_count,
        # Between two runs of a crash loop `running` stays true (see records.ContainerState).
        exit_code=state.exit_code if not state.running or state.status == "restarting" else None,
        oom_killed=state.oom_killed,
        error=state.error,
        pid=state.pid,
        addresses=details.addresses,
        host_ports=_host_ports(details.raw),
        writable_mounts=_writable_mounts(details.raw),
        volumes=_volumes(details.raw),
        names=_NAMES.get(labels.get(body.NAMES, ""), NameSource.ENGINE),
        stop_grace_secs=_stop_grace(details.raw),
        image_health=_HEALTH.get(state.health_status or ""),
        image_health_output=_health_output(details.raw),
    )


def deployment_of(details: ContainerDetails) -> Deployment | None:
    """The deployment that a container was created from, as far as its labels contain it."""
    deployment = body.spec_from_labels(details.labels, details.env)
    if deployment is None:
        return None
    image = ResolvedImage(image_id=details.image_id, digest=details.labels.get(body.IMAGE_DIGEST, ""))
    return dataclasses.replace(deployment, resolved=image)


def _host_ports(raw: Mapping[str, object]) -> frozenset[int]:
    # The configured ports, not the bound ones: a stopped container has none bound but will need them again.
    bindings = _mapping(_mapping(raw.get("HostConfig")).get("PortBindings"))
    found = set()
    for binding in bindings.values():
        for entry in binding if isinstance(binding, list) else ():
            port = _mapping(entry).get("HostPort")
            if isinstance(port, str) and (number := _number(port)):
                found.add(number)
    return frozenset(found)


def _stop_grace(raw: Mapping[str, object]) -> float:
    timeout = _mapping(raw.get("Config")).get("StopTimeout")
    return float(timeout) if isinstance(timeout, int) and timeout >= 0 else DEFAULT_STOP_GRACE_SECS


def _health_output(raw: Mapping[str, object]) -> str:
    log = _mapping(_mapping(raw.get("State")).get("Health")).get("Log")
    last = _mapping(log[-1]).get("Output") if isinstance(log, list) and log else None
    return last[:_MAX_OUTPUT] if isinstance(last, str) else ""


def _writable_mounts(raw: Mapping[str, object]) -> frozenset[str]:
    mounts = raw.get("Mounts")
    found = set()
    for mount in mounts if isinstance(mounts, list) else ():
        entry = _mapping(mount)
        if entry.get("RW") is True:
            source = entry.get("Name") if entry.get("Type") == "volume" else entry.get("Source")
            if isinstance(source, str) and source:
                found.add(source)
    return frozenset(found)


def _volumes(raw: Mapping[str, object]) -> dict[str, str]:
    mounts = raw.get("Mounts")
    found = {}
    for mount in mounts if isinstance(mounts, list) else ():
        entry = _mapping(mount)
        name, target = entry.get("Name"), entry.get("Destination")
        if entry.get("Type") == "volume" and isinstance(name, str) and isinstance(target, str) and name:
            found[target] = name
    return found


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _ns(text: str) -> int | None:
    try:
        return parse_ns(text) if text else None
    except AgentError:
        return None
