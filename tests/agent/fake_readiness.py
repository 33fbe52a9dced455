"""Health as a test tells it: `agent.health.readiness.Readiness` without probes."""

from __future__ import annotations

import dataclasses
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from syntra.model.spec import ServiceSpec
from syntra.model.status import Health, Replica


@dataclass
class FakeReadiness:
    """`health` by container id or deployment id; others are `otherwise`, while they run.

    With `unchecked` a live change has taken the check away.
    """

    health: MutableMapping[Any, Health] = field(default_factory=dict)
    otherwise: Health = Health.UNKNOWN
    unchecked: bool = False

    def readiness(self, replica: Replica, spec: ServiceSpec) -> Health:
        return self.known(replica) if replica.is_running else Health.UNHEALTHY

    def known(self, replica: Replica) -> Health:
        return self.health.get(replica.container_id) or self.health.get(replica.deployment_id) or self.otherwise

    def effective_spec(self, spec: ServiceSpec) -> ServiceSpec:
        return dataclasses.replace(spec, health=None) if self.unchecked else spec

    def has_check(self, replica: Replica, spec: ServiceSpec) -> bool:
        return self.effective_spec(spec).health is not None

    def detail(self, replica: Replica) -> str:
        return "status 500"
