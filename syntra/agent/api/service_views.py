"""Every service at one moment: desired state from the journal, observed state from the engine, and health.

Health comes from the health watch; only a replica whose health is unknown is probed here.

The heartbeat, `ps` and `status` use the same views.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Protocol

from syntra.agent.config.settings import Settings
from syntra.agent.figures.sampler import Sample
from syntra.agent.health.readiness import Readiness
from syntra.agent.journal.journal import Journal
from syntra.agent.journal.pauses import Pause
from syntra.agent.journal.rows import CurrentService, ServiceRow
from syntra.agent.operations.pauses import pause_view
from syntra.health.crash_loops import CrashLoop
from syntra.model.fields import Json
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import Deployment, ServiceSpec
from syntra.model.status import Figures, Health, Replica, ReplicaStatus
from syntra.runtime.runtime import Replicas
from syntra.utils.frozen import frozen
from syntra.utils.timestamps import format_ns, format_secs

MIB = 1024 * 1024
# A probe must not delay the view: a slower answer counts as unhealthy here.
VIEW_PROBE_SECS = 2.0
PROBES_AT_ONCE = 10
# A view within this time of the last one reuses its probe results.
PROBE_MAX_AGE_SECS = 5.0


@frozen
class ServiceView:
    """One service. `row` is None when only containers of it exist, and the journal does not know it."""

    service_id: ServiceId
    row: ServiceRow | None
    deployment: Deployment | None
    replicas: tuple[Replica, ...]
    health: dict[ContainerId, Health]
    loops: dict[ContainerId, CrashLoop] = field(default_factory=dict)
    """The crash loops of replicas that should run."""
    scheme: str = "http"
    checked: frozenset[ContainerId] = frozenset()
    """The replicas that have a health check."""
    pause: Pause | None = None

    @property
    def desired(self) -> int | None:
        """How many replicas should run; None when the journal does not know the service."""
        if self.row is None:
            return None
        return 0 if self.row.stopped else self.row.replicas

    @property
    def urls(self) -> list[str]:
        """Where people reach the service: behind the proxy by its domains, else on its published port."""
        spec = self.deployment.spec if self.deployment else None
        if spec is None:
            return []
        path = spec.routing.path_prefix or ""
        found = [f"{self.scheme}://{domain}{path}" for domain in spec.domains]
        return found or ([f"http://localhost:{spec.host_port}"] if spec.host_port else [])

    @property
    def up(self) -> int:
        """How many replicas run. One in a crash loop does not count, even while it is up."""
        return sum(1 for replica in self.replicas if replica.is_running and replica.container_id not in self.loops)

    @property
    def status_detail(self) -> str:
        """For a crash loop: the last exit code and the number of restarts. For no replicas: that. Else empty."""
        if self.row is not None and self.row.replicas == 0 and not self.row.stopped:
            return "scale 0"
        looping = [replica for replica in self.replicas if replica.container_id in self.loops]
        if not looping:
            return ""
        worst = max(looping, key=lambda replica: replica.restart_count)
        code = self.loops[worst.container_id].exit_code
        times = f"{worst.restart_count} time{'' if worst.restart_count == 1 else 's'}"
        return times if code is None else f"exit {code}, {times}"

    @property
    def status(self) -> str:
        """The contract's service status: `running`, `stopped`, `restarting` or `error`."""
        up = sum(1 for replica in self.replicas if replica.is_running)
        if self.row is not None and (self.row.stopped or self.row.replicas == 0):
            return "stopped" if up == 0 else "running"
        if self.loops or any(replica.status is ReplicaStatus.RESTARTING for replica in self.replicas):
            return "restarting"
        wanted = self.row.replicas if self.row else len(self.replicas)
        return "running" if up >= wanted else "error"

    @property
    def overall_health(self) -> Health:
        """Unhealthy when a replica is unhealthy; healthy when all are healthy; else unknown."""
        states = {self.health.get(replica.container_id, Health.UNKNOWN) for replica in self.replicas if replica.is_up}
        if Health.UNHEALTHY in states:
            return Health.UNHEALTHY
        return Health.HEALTHY if states == {Health.HEALTHY} else Health.UNKNOWN


class Prober(Protocol):
    """Probes a replica whose health is unknown."""

    async def health_now(self, replica: Replica, spec: ServiceSpec, at_most_secs: float) -> Health:
        """One probe of a running replica; unknown without a health check."""


class ServiceViews:
    """Builds views. Caches the last probe results for a few seconds."""

    def __init__(
        self,
        journal: Journal,
        runtime: Replicas,
        readiness: Readiness,
        clock: Callable[[], float],
        scheme: str = "http",
        prober: Prober | None = None,
        crash_loop: Callable[[ContainerId], CrashLoop | None] = lambda _: None,
    ) -> None:
        """Without `prober`, unknown health stays unknown. `crash_loop` knows the containers that crash repeatedly.

        `scheme` is that of the addresses behind the proxy.
        """
        self._crash_loop = crash_loop
        self._scheme = scheme
        self._journal = journal
        self._runtime = runtime
        self._readiness = readiness
        self._prober = prober
        self._clock = clock
        self._probed_at = float("-inf")
        self._health: dict[ContainerId, Health] = {}

    async def all(self) -> list[ServiceView]:
        """All services, by id. Raises RuntimeUnavailable when the runtime does not answer."""
        observed = await self._runtime.observe()
        services = {current.row.service_id: current for current in await self._journal.current_all()}
        by_service: dict[ServiceId, list[Replica]] = {service_id: [] for service_id in services}
        for replica in observed:
            by_service.setdefault(replica.service_id, []).append(replica)
        await self._probe_all(by_service, services)
        pauses = await self._journal.pauses.all()
        return [
            self._view(service_id, services.get(service_id), by_service[service_id], pauses.get(service_id))
            for service_id in sorted(by_service)
        ]

    def _view(
        self, service_id: ServiceId, current: CurrentService | None, replicas: list[Replica], pause: Pause | None
    ) -> ServiceView:
        return ServiceView(
            service_id=service_id,
            row=current.row if current else None,
            deployment=current.deployment if current else None,
            replicas=tuple(sorted(replicas, key=lambda replica: (replica.index, replica.created_ns))),
            health={replica.container_id: self._health_of(replica) for replica in replicas},
            loops={} if current is None or current.row.stopped else self._loops(replicas),
            scheme=self._scheme,
            checked=self._checked(current.deployment.spec, replicas) if current and current.deployment else frozenset(),
            pause=pause,
        )

    def _loops(self, replicas: Sequence[Replica]) -> dict[ContainerId, CrashLoop]:
        found = {replica.container_id: self._crash_loop(replica.container_id) for replica in replicas}
        return {container_id: loop for container_id, loop in found.items() if loop is not None}

    def last_answer(self, replica: Replica) -> str:
        """What its health check found last, as a sentence; empty before the first answer."""
        return self._readiness.detail(replica)

    def _checked(self, spec: ServiceSpec, replicas: Sequence[Replica]) -> frozenset[ContainerId]:
        return frozenset(replica.container_id for replica in replicas if self._readiness.has_check(replica, spec))

    def _health_of(self, replica: Replica) -> Health:
        known = self._readiness.known(replica) if replica.is_running else Health.UNKNOWN
        return self._health.get(replica.container_id, Health.UNKNOWN) if known is Health.UNKNOWN else known

    async def _probe_all(
        self, by_service: Mapping[ServiceId, Sequence[Replica]], services: Mapping[ServiceId, CurrentService]
    ) -> None:
        if self._prober is None or self._clock() - self._probed_at < PROBE_MAX_AGE_SECS:
            return
        prober = self._prober
        results: dict[ContainerId, Health] = {}
        limit = asyncio.Semaphore(PROBES_AT_ONCE)

        async def one(replica: Replica, spec: ServiceSpec) -> None:
            async with limit:
                results[replica.container_id] = await prober.health_now(replica, spec, VIEW_PROBE_SECS)

        async with asyncio.TaskGroup() as group:
            for service_id, current in services.items():
                spec = self._readiness.effective_spec(current.deployment.spec) if current.deployment else None
                if spec is None or spec.health is None:
                    continue
                for replica in by_service[service_id]:
                    if replica.is_running and self._readiness.known(replica) is Health.UNKNOWN:
                        group.create_task(one(replica, spec), name=f"view probe {replica.name}")
        self._health = results
        self._probed_at = self._clock()


def url_scheme(settings: Settings) -> str:
    """The scheme of the addresses of services behind the proxy."""
    networking = settings.networking
    return "https" if networking.cert_resolver and networking.proxy != "off" else "http"


def container_status(view: ServiceView, replica: Replica, figures: Figures | None) -> dict[str, Json]:
    """One `ServiceStatus` of the contract."""
    status = replica.status
    if status is ReplicaStatus.STOPPED and replica.exit_code not in (None, 0) and not (view.row and view.row.stopped):
        status = ReplicaStatus.ERROR
    if replica.container_id in view.loops:
        status = ReplicaStatus.RESTARTING
    return {
        "service_id": view.service_id,
        "container_id": replica.container_id,
        "container_name": replica.name,
        "deployment_id": replica.deployment_id,
        "status": status.value,
        "health": view.health.get(replica.container_id, Health.UNKNOWN).value,
        "cpu_percent": round(figures.cpu_percent, 2) if figures else 0.0,
        "memory_mb": round(figures.memory_bytes / MIB, 1) if figures else 0.0,
        "restart_count": replica.restart_count,
        "started_at": format_ns(replica.started_ns) if replica.started_ns else None,
    }


def listed(view: ServiceView, sample: Sample) -> dict[str, Json]:
    """One entry of `list_services`."""
    spec = view.deployment.spec if view.deployment else None
    return {
        "service_id": view.service_id,
        "service_name": spec.service_name if spec else view.service_id,
        "project_name": spec.project_name if spec else None,
        "deployment_id": view.row.deployment_id if view.row else _deployments(view.replicas),
        "image": str(spec.image) if spec else None,
        "status": view.status,
        "status_detail": view.status_detail,
        "paused": pause_view(view.pause),
        "health": view.overall_health.value,
        "has_check": bool(view.checked) or (spec is not None and spec.health is not None),
        "replicas": {"desired": view.desired, "running": view.up},
        "configured_replicas": view.row.replicas if view.row else None,
        "restarts": sum(replica.restart_count for replica in view.replicas),
        "containers": [_listed_replica(view, one, sample.figures(one.container_id)) for one in view.replicas],
        "changed_at": format_secs(view.row.at) if view.row else None,
        "age_seconds": round(max(0.0, time.time() - view.row.at)) if view.row else None,
        "ports": _ports(spec),
        "domains": list(spec.domains) if spec else [],
        "urls": [*view.urls],
    }


def _listed_replica(view: ServiceView, replica: Replica, figures: Figures | None) -> dict[str, Json]:
    started = replica.started_ns if replica.is_up else None
    return {
        **container_status(view, replica, figures),
        "replica": replica.index,
        "state": replica.state_name,
        "place": replica.place,
        "has_check": replica.container_id in view.checked,
        "exit_code": replica.exit_code,
        "age_seconds": round(max(0.0, time.time() - started / 1e9)) if started else None,
    }


def _ports(spec: ServiceSpec | None) -> list[Json]:
    """`8080`, and `80:8080` where it is published on the server's port 80."""
    if spec is None or spec.port is None:
        return []
    return [f"{spec.host_port}:{spec.port}" if spec.host_port else str(spec.port)]


def _deployments(replicas: Sequence[Replica]) -> str:
    return ", ".join(sorted({replica.deployment_id for replica in replicas}))
