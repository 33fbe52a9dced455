"""The parts that only a cluster needs: what it says about health, as the other parts ask for it.

A cluster restarts, routes and resolves names itself, so an agent on one has neither health checks nor traffic, proxy,
name server or reconciler of its own.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from syntra.agent.changes import Changes
from syntra.agent.config.settings import Settings, TelemetrySettings
from syntra.agent.health.cluster import ClusterHealth
from syntra.agent.journal.journal import Journal
from syntra.agent.telemetry.cluster_sources import ClusterSources
from syntra.agent.telemetry.process import TelemetryProcess
from syntra.agent.telemetry.sources import source_tasks
from syntra.health.restore_failures import RestoreFailure
from syntra.runtime.kubernetes.client import KubernetesClient
from syntra.runtime.kubernetes.runtime import KubernetesRuntime
from syntra.runtime.kubernetes.settings import KubernetesSettings
from syntra.utils.frozen import frozen

Task = tuple[str, Coroutine[Any, Any, None]]


@frozen
class ClusterHost:
    """Implements `agent.hosts.Host`."""

    runtime: KubernetesRuntime
    readiness: ClusterHealth
    journal: Journal
    changes: Changes
    telemetry: TelemetrySettings
    prober: None = None
    proxy: None = None
    certificates: None = None

    def before_operations(self) -> list[Task]:
        """No tasks: `runtime.watch` is the only one."""
        return []

    def after_operations(self) -> list[Task]:
        """No tasks."""
        return []

    def telemetry_tasks(self, telemetry: TelemetryProcess, *, started_at: float) -> list[Task]:
        """The tasks that tell the telemetry process about pods."""
        sources = ClusterSources(self.runtime, self.journal)
        return source_tasks(sources, self.journal, self.changes, telemetry, self.telemetry, started_at=started_at)

    @property
    def restore_failures(self) -> Sequence[RestoreFailure]:
        """None: the cluster restores pods."""
        return ()

    @property
    def warnings(self) -> list[str]:
        """Warnings for `status`, one sentence each."""
        return list(self.runtime.cluster.problems)

    def close(self) -> None:
        """Nothing to close."""


def build(
    settings: Settings, client: KubernetesClient, *, owner: str, journal: Journal, changes: Changes
) -> ClusterHost:
    """Build the parts for these settings."""
    return ClusterHost(
        runtime=KubernetesRuntime(client, cluster_settings(settings), owner=owner),
        readiness=ClusterHealth(min_healthy_secs=settings.runtime.min_healthy_secs),
        journal=journal,
        changes=changes,
        telemetry=settings.telemetry,
    )


def cluster_settings(settings: Settings) -> KubernetesSettings:
    """What of the settings is for a cluster."""
    of, networking = settings.kubernetes, settings.networking
    return KubernetesSettings(
        routes_kind="none" if networking.proxy == "off" else of.routes,
        gateway=of.gateway,
        ingress_class=of.ingress_class,
        entry_points=networking.entrypoints,
        cert_resolver=networking.cert_resolver,
        storage_class=of.storage_class,
        host_paths=of.host_paths == "on",
        cpu_request_fraction=of.cpu_request_fraction,
        otlp_endpoint=of.otlp_endpoint,
        min_healthy_secs=settings.runtime.min_healthy_secs,
        scale_down_delay_secs=of.scale_down_delay_seconds,
    )
