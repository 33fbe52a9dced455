"""A live change of a service's health check: it lies over what the deployments of the service ask for. Pure.

Replicas are recognised by the fingerprint of the spec that they were made of, so a spec itself is never changed.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from syntra.model.errors import InvalidField
from syntra.model.fields import Fields, Json
from syntra.model.health_payload import check_interval, check_path, check_retries, check_timeout
from syntra.model.spec import HealthKind, HealthSpec, ServiceSpec
from syntra.utils.frozen import frozen


@frozen
class HealthChange:
    """None leaves what the deployment asks for. A path makes any check one by HTTP. Times in seconds."""

    path: str | None = None
    interval: float | None = None
    timeout: float | None = None
    retries: int | None = None
    restart_unhealthy: bool | None = None

    def over(self, earlier: HealthChange) -> HealthChange:
        """This change after an earlier one."""
        return dataclasses.replace(earlier, **_given(self))

    def applied(self, spec: ServiceSpec) -> ServiceSpec:
        """The spec with the changed check; the unchanged spec when this change does not apply to it."""
        health = spec.health
        if health is None:
            if self.path is None or spec.port is None:
                return spec
            health = _DEFAULT
        given = _given(self)
        if self.path is not None and (spec.port is not None or health.port is not None):
            given |= {"kind": HealthKind.HTTP, "command": ()}
        return dataclasses.replace(spec, health=dataclasses.replace(health, **given))


_DEFAULT = HealthSpec(
    kind=HealthKind.HTTP, path="/", port=None, command=(), interval=10.0, timeout=5.0, retries=3, start_period=0.0
)


def parse_health_change(payload: Fields) -> HealthChange:
    """The change of a `configure_health_check` payload, or of what `render_health_change` made; raises InvalidField."""
    change = HealthChange(
        path=check_path(payload) if payload.has("path") else None,
        interval=check_interval(payload) if payload.has("interval_seconds", "interval") else None,
        timeout=check_timeout(payload) if payload.has("timeout_seconds", "timeout") else None,
        retries=check_retries(payload) if payload.has("retries") else None,
        restart_unhealthy=payload.boolean("restart_unhealthy") if payload.has("restart_unhealthy") else None,
    )
    if change == HealthChange():
        raise InvalidField(
            payload.at("path"), "is missing; give path, interval, timeout, retries or restart_unhealthy to change"
        )
    return change


def render_health_change(change: HealthChange) -> dict[str, Json]:
    """The payload form, without what is left as it is."""
    return _given(change)


def _given(change: HealthChange) -> dict[str, Any]:
    values = {field.name: getattr(change, field.name) for field in dataclasses.fields(change)}
    return {name: value for name, value in values.items() if value is not None}
