"""Carries out `configure_health_check`: checks the change against the current deployment, stores and announces it."""

from __future__ import annotations

import logging

from syntra.agent.changes import Changes
from syntra.agent.health.gate import check_of, timing_of
from syntra.agent.journal.journal import Journal
from syntra.agent.messages import for_control_plane, success
from syntra.model.command import ConfigureHealthCheck
from syntra.model.errors import RequestError
from syntra.model.fields import Json
from syntra.model.health_change import HealthChange
from syntra.model.health_payload import render_health
from syntra.model.spec import HealthSpec, ServiceSpec
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)


class HealthCheckOverride:
    """One per agent."""

    def __init__(self, journal: Journal, changes: Changes, *, is_possible: bool = True) -> None:
        """`is_possible`: the agent runs the health checks itself."""
        self._is_possible = is_possible
        self._journal = journal
        self._changes = changes

    async def carry_out(self, command: ConfigureHealthCheck, origin: str) -> dict[str, Json]:
        """Store the change and the response; the outbox sends the response to the control plane if it asked.

        Raises RequestError when the change does not fit the current deployment.
        """
        if not self._is_possible:
            raise RequestError(
                "UNSUPPORTED", "cannot change a health check here: the cluster runs it; deploy the service with another"
            )
        service_id = command.service_id
        current = await self._journal.current(service_id)
        if current is None or current.deployment is None:
            raise RequestError("SERVICE_NOT_FOUND", f"cannot find service {service_id}: it was never deployed here")
        earlier = await self._journal.health_changes.of(service_id) or HealthChange()
        change = command.change.over(earlier)
        health = _checked(change, current.deployment.spec)
        response = success(command.request_id, {"service_id": service_id, "health_check": render_health(health)})
        await self._journal.health_changes.put(
            service_id,
            change,
            request_id=command.request_id,
            kind="configure_health_check",
            origin=origin,
            response=response,
            messages=for_control_plane(origin, "command_response", response),
        )
        log.info("health check changed", extra={"service_id": service_id, "request_id": command.request_id})
        self._changes.announce()
        return response


def _checked(change: HealthChange, spec: ServiceSpec) -> HealthSpec:
    """The resulting check. Raises RequestError when there is none or it cannot be performed."""
    has_port = spec.port is not None or (spec.health is not None and spec.health.port is not None)
    if change.path is not None and not has_port:
        raise RequestError("INVALID_PAYLOAD", "path: a check by http needs config.port; deploy the service with one")
    asked = change.applied(spec)
    if asked.health is None:
        raise RequestError("INVALID_PAYLOAD", "path: is missing; the service has no health check to change")
    try:
        check_of(asked, asked.health)
        timing_of(asked.health)
    except AgentError as unusable:
        raise RequestError("INVALID_PAYLOAD", f"path: {unusable}") from unusable
    return asked.health
