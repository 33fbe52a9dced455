"""The health of pods, as the cluster says it. The kubelet runs the checks."""

from __future__ import annotations

import time

from syntra.agent.health.results import HealthResult
from syntra.model.spec import ServiceSpec
from syntra.model.status import Health, Replica
from syntra.runtime.kubernetes.pods import PodReplica


class ClusterHealth:
    """Implements `agent.health.readiness.Readiness` for pods."""

    def __init__(self, *, min_healthy_secs: float) -> None:
        self._min_healthy_secs = min_healthy_secs

    def readiness(self, replica: Replica, spec: ServiceSpec) -> Health:
        """Whether a pod receives requests. Without a check: once it has stayed up, unknown before."""
        if not isinstance(replica, PodReplica) or not replica.is_running or replica.started_ns is None:
            return Health.UNHEALTHY
        if replica.has_probe:
            return self.known(replica)
        if not replica.is_ready:
            return Health.UNHEALTHY
        has_stayed_up = time.time() - replica.started_ns / 1e9 >= self._min_healthy_secs
        return Health.HEALTHY if has_stayed_up else Health.UNKNOWN

    def has_check(self, replica: Replica, spec: ServiceSpec) -> bool:
        """Whether a readiness probe decides."""
        return isinstance(replica, PodReplica) and replica.has_probe

    def known(self, replica: Replica) -> Health:
        """The health by the probe: unknown until it passes for the first time, or the start period is over."""
        if not isinstance(replica, PodReplica) or not replica.has_probe:
            return Health.UNKNOWN
        if replica.is_ready:
            return Health.HEALTHY
        # A pod that is leaving has no requests, whatever its probe says.
        return Health.UNKNOWN if replica.is_starting or replica.is_leaving else Health.UNHEALTHY

    def detail(self, replica: Replica) -> str:
        """The pod's own words about why it is not ready."""
        return replica.message if isinstance(replica, PodReplica) and not replica.is_ready else ""

    def effective_spec(self, spec: ServiceSpec) -> ServiceSpec:
        """The deployment's own check: an override would change the pods."""
        return spec

    def drain_results(self) -> tuple[HealthResult, ...]:
        """None: single probes stay between kubelet and pod."""
        return ()
