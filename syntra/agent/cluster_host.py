"""The parts that only a cluster needs: what it says about health, as the other parts ask for it.

A cluster restarts, routes and resolves names itself, so an agent on one has neither health checks nor traffic, proxy,
name server or reconciler of its own.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Coroutine, Sequence
from pathlib import Path
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
from syntra.runtime.kubernetes.lease import Lease
from syntra.runtime.kubernetes.rights_check import RightsCheck
from syntra.runtime.kubernetes.runtime import KubernetesRuntime
from syntra.runtime.kubernetes.settings import KubernetesSettings
from syntra.utils.frozen import frozen

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Task = tuple[str, Coroutine[Any, Any, None]]


@frozen
class ClusterHost:
    """Implements `agent.hosts.Host`."""

    runtime: KubernetesRuntime
    readiness: ClusterHealth
    journal: Journal
    changes: Changes
    telemetry: TelemetrySettings
    lease: Lease
    rights: RightsCheck
    prober: None = None
    proxy: None = None
    certificates: None = None

    @property
    def standby(self) -> str:
        """Why this agent does not act yet."""
        return self.lease.standby

    async def turn(self) -> None:
        """Return when this agent holds the lease."""
        await self.lease.turn.wait()

    def standby_tasks(self) -> list[Task]:
        """The lease, and the check of the agent's rights."""
        return [("lease", self.lease.run()), ("rights", self.rights.run())]

    def before_operations(self) -> list[Task]:
        """No tasks: `runtime.watch` is the only one."""
        return []

    def after_operations(self) -> list[Task]:
        """No tasks."""
        return []

    def telemetry_tasks(self, telemetry: TelemetryProcess, *, started_at: float) -> list[Task]:
        """The tasks that tell the telemetry process about pods."""
        sources = ClusterSources(self.runtime, self.journal)
        return source_tasks(
            sources,
            self.journal,
            self.changes,
            telemetry,
            self.telemetry,
            started_at=started_at,
            is_network_shared=True,
        )

    @property
    def restore_failures(self) -> Sequence[RestoreFailure]:
        """None: the cluster restores pods."""
        return ()

    @property
    def warnings(self) -> list[str]:
        """Warnings for `status`, one sentence each."""
        if self.rights.warning:
            # The others only repeat it, right by right, unless another agent acts.
            return [self.rights.warning, *([] if self.rights.lacks("leases") else filter(None, [self.lease.hindrance]))]
        return [warning for warning in (self.lease.hindrance, *self.runtime.cluster.problems) if warning]

    async def close(self) -> None:
        """Let another agent act at once."""
        await self.lease.release()


def build(
    settings: Settings,
    client: KubernetesClient,
    control: KubernetesClient,
    *,
    owner: str,
    journal: Journal,
    changes: Changes,
) -> ClusterHost:
    """Build the parts for these settings. `client` changes nothing without the lease, which `control` keeps."""
    namespace = control.access.namespace
    lease = Lease(control, namespace=namespace, owner=owner, holder=holder_name(settings.data_dir))
    client.hindrance = lambda: lease.hindrance
    runtime = KubernetesRuntime(client, cluster_settings(settings), owner=owner, control=control)
    return ClusterHost(
        runtime=runtime,
        readiness=ClusterHealth(min_healthy_secs=settings.runtime.min_healthy_secs),
        lease=lease,
        rights=RightsCheck(control, runtime.cluster, namespace=namespace, namespaces=settings.kubernetes.namespaces),
        journal=journal,
        changes=changes,
        telemetry=settings.telemetry,
    )


def holder_name(data_dir: Path) -> str:
    """The name of this agent on its lease: another for each data directory on each running machine.

    It stays the same when the agent starts again, which need not wait for its own lease. A second agent on the same
    data directory cannot start.
    """
    try:
        boot = BOOT_ID.read_text().strip()
    except OSError:
        boot = ""
    # Two machines may have one name.
    digest = hashlib.sha256(f"{boot} {data_dir.absolute()}".encode()).hexdigest()[:8]
    return f"{socket.gethostname()}-{digest}"


def cluster_settings(settings: Settings) -> KubernetesSettings:
    """What of the settings is for a cluster."""
    of, networking = settings.kubernetes, settings.networking
    return KubernetesSettings(
        namespaces=of.namespaces,
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
        pre_stop_secs=of.pre_stop_seconds,
        scale_down_delay_secs=of.scale_down_delay_seconds,
    )
