"""What is known of replicas' health, for everything that decides by it."""

from __future__ import annotations

from typing import Protocol

from syntra.model.ids import ContainerId
from syntra.model.spec import ServiceSpec
from syntra.model.status import Health, Replica


class Readiness(Protocol):
    """On a container engine `health.watch` knows; a cluster knows by itself."""

    def readiness(self, replica: Replica, spec: ServiceSpec) -> Health:
        """Whether a replica may receive requests. Unknown until something decides it."""

    def known(self, replica: Replica) -> Health:
        """What health checks have found; unknown without a check, and until one of them decides."""

    def detail(self, container_id: ContainerId) -> str:
        """What the last check found, as a sentence; empty before the first."""

    def effective_spec(self, spec: ServiceSpec) -> ServiceSpec:
        """The spec with the health check that holds now: a live change overrides that of the deployment."""
