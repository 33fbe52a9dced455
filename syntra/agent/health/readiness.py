"""The interface to replicas' health, for all parts that decide by it."""

from __future__ import annotations

from typing import Protocol

from syntra.model.spec import ServiceSpec
from syntra.model.status import Health, Replica


class Readiness(Protocol):
    """Implemented by `health.watch` on a container engine, and by the cluster itself on a cluster."""

    def readiness(self, replica: Replica, spec: ServiceSpec) -> Health:
        """Whether a replica may receive requests; unknown at first."""

    def has_check(self, replica: Replica, spec: ServiceSpec) -> bool:
        """Whether a health check decides, of the spec or of the image; if not, staying up does."""

    def known(self, replica: Replica) -> Health:
        """The health by health checks; unknown without a check, and until it has a result."""

    def detail(self, replica: Replica) -> str:
        """The result of the last check as a sentence; empty before the first."""

    def effective_spec(self, spec: ServiceSpec) -> ServiceSpec:
        """The spec with the health check in effect: an override replaces the deployment's."""
