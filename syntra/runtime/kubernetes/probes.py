"""A health check as the probes of a container. Pure.

The readiness probe decides whether a pod gets requests. A startup probe covers the start period; `initialDelaySeconds`
would delay fast starts too. Only a check with `restart_unhealthy` has a liveness probe, which restarts the container.
All fields are set, since the API's defaults differ from the agent's (core/v1/defaults.go: timeout 1 s).
"""

from __future__ import annotations

import math

from syntra.model.spec import HealthKind, HealthSpec
from syntra.runtime.kubernetes.names import PORT_NAME
from syntra.runtime.kubernetes.objects import Object

_STARTUP_PERIOD_SECS = 5
_LIVENESS_FACTOR = 3
"""A container is restarted after so many times the failures that make it unready."""


def probes(health: HealthSpec | None) -> Object:
    """The probe fields of a container; none without a check."""
    if health is None:
        return {}
    period = _whole(health.interval)
    found: Object = {"readinessProbe": _probe(health, period, health.retries)}
    if health.start_period > 0:
        startup = min(period, _STARTUP_PERIOD_SECS)
        failures = math.ceil(health.start_period / startup) + health.retries
        found["startupProbe"] = _probe(health, startup, failures)
    if health.restart_unhealthy:
        found["livenessProbe"] = _probe(health, period, _LIVENESS_FACTOR * health.retries)
    return found


def literal(text: str) -> str:
    """The text for a field in which Kubernetes replaces `$(NAME)` and `$$`, so that it arrives as it is.

    Those are commands, arguments, values of `env`, and commands of exec probes (Kubernetes, expansion.Expand).
    """
    return text.replace("$", "$$")


def _probe(health: HealthSpec, period: int, failures: int) -> Object:
    return {
        **_action(health),
        "periodSeconds": period,
        "timeoutSeconds": _whole(health.timeout),
        "failureThreshold": failures,
        # The API accepts no other number in startup and liveness probes.
        "successThreshold": 1,
    }


def _action(health: HealthSpec) -> Object:
    if health.kind is HealthKind.EXEC:
        return {"exec": {"command": [literal(part) for part in health.command]}}
    port = PORT_NAME if health.port is None else health.port
    if health.kind is HealthKind.TCP:
        return {"tcpSocket": {"port": port}}
    return {"httpGet": {"path": health.path, "port": port, "scheme": "HTTP"}}


def _whole(secs: float) -> int:
    return max(1, math.ceil(secs))
