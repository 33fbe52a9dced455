"""What is known of every service at one moment: desired from the journal, observed from the engine, and health.

Health is what the watch has found; only a replica that it does not know yet is probed here.

The same views feed the heartbeat, `ps` and `status`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from syntra.agent.health.gate import HealthGate
from syntra.agent.journal.journal import Journal
from syntra.agent.journal.rows import ServiceRow
from syntra.model.fields import Json
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import Deployment, ServiceSpec
from syntra.model.status import ContainerState, Health, Replica
from syntra.runtime.adapter import Adapter
from syntra.utils.timestamps import format_ns

# Probing for a view must not hold it up: a slower answer counts as unhealthy here.
VIEW_PROBE_SECS = 2.0
PROBES_AT_ONCE = 10
# A view within this time of the last uses its probe results.
PROBE_MAX_AGE_SECS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """One service: `row` is None for containers of ours that the journal does not know."""

    service_id: ServiceId
    row: ServiceRow | None
    deployment: Deployment | None
    replicas: tuple[Replica, ...]
    health: dict[ContainerId, Health]

    @property
    def status(self) -> str:
        """`running`, `stopped`, `restarting` or `error`, in the contract's words."""
        up = sum(1 for replica in self.replicas if replica.state is ContainerState.RUNNING)
        if self.row is not None and self.row.stopped:
            return "stopped" if up == 0 else "running"
        if any(replica.state is ContainerState.RESTARTING for replica in self.replicas):
            return "restarting"
        wanted = self.row.replicas if self.row else len(self.replicas)
        return "running" if up >= wanted else "error"

    @property
    def overall_health(self) -> Health:
        """Unhealthy when one replica is; healthy when all are; else unknown."""
        states = {self.health.get(replica.container_id, Health.UNKNOWN) for replica in self.replicas if replica.is_up}
        if Health.UNHEALTHY in states:
            return Health.UNHEALTHY
        return Health.HEALTHY if states == {Health.HEALTHY} else Health.UNKNOWN


class KnownHealth(Protocol):
    """What a view asks before it probes by itself."""

    def known(self, replica: Replica) -> Health:
        """What is known of a running replica's health."""

    def asked(self, spec: ServiceSpec) -> ServiceSpec:
        """The spec with the check that holds now."""


class ServiceViews:
    """Builds views. Holds the last probe results for a few seconds."""

    def __init__(
        self, journal: Journal, adapter: Adapter, gate: HealthGate, watch: KnownHealth, clock: Callable[[], float]
    ) -> None:
        self._journal = journal
        self._adapter = adapter
        self._gate = gate
        self._watch = watch
        self._clock = clock
        self._probed_at = float("-inf")
        self._health: dict[ContainerId, Health] = {}

    async def all(self) -> list[ServiceView]:
        """Every service, by id. Raises RuntimeUnavailable when the engine does not answer."""
        observed = await self._adapter.observe()
        rows = {row.service_id: row for row in await self._journal.services()}
        by_service: dict[ServiceId, list[Replica]] = {service_id: [] for service_id in rows}
        for replica in observed:
            by_service.setdefault(replica.service_id, []).append(replica)
        deployments = {
            service_id: await self._journal.deployment(service_id, row.deployment_id)
            for service_id, row in rows.items()
        }
        await self._probe_all(by_service, deployments)
        return [
            ServiceView(
                service_id=service_id,
                row=rows.get(service_id),
                deployment=deployments.get(service_id),
                replicas=tuple(sorted(replicas, key=lambda r: (r.index, r.created_ns))),
                health={r.container_id: self._health_of(r) for r in replicas},
            )
            for service_id, replicas in sorted(by_service.items())
        ]

    def _health_of(self, replica: Replica) -> Health:
        known = self._watch.known(replica) if replica.state is ContainerState.RUNNING else Health.UNKNOWN
        return self._health.get(replica.container_id, Health.UNKNOWN) if known is Health.UNKNOWN else known

    async def _probe_all(
        self, by_service: dict[ServiceId, list[Replica]], deployments: dict[ServiceId, Deployment | None]
    ) -> None:
        if self._clock() - self._probed_at < PROBE_MAX_AGE_SECS:
            return
        results: dict[ContainerId, Health] = {}
        limit = asyncio.Semaphore(PROBES_AT_ONCE)

        async def one(replica: Replica, spec: ServiceSpec) -> None:
            async with limit:
                results[replica.container_id] = await self._gate.health_now(replica, spec, VIEW_PROBE_SECS)

        async with asyncio.TaskGroup() as group:
            for service_id, replicas in by_service.items():
                deployment = deployments.get(service_id)
                spec = self._watch.asked(deployment.spec) if deployment is not None else None
                if spec is None or spec.health is None:
                    continue
                for replica in replicas:
                    if replica.state is ContainerState.RUNNING and self._watch.known(replica) is Health.UNKNOWN:
                        group.create_task(one(replica, spec), name=f"view probe {replica.name}")
        self._health = results
        self._probed_at = self._clock()


def container_status(view: ServiceView, replica: Replica, adapter: Adapter) -> dict[str, Json]:
    """One `ServiceStatus` of the contract."""
    words = {
        ContainerState.RUNNING: "running",
        ContainerState.PAUSED: "running",
        ContainerState.RESTARTING: "restarting",
        ContainerState.DEAD: "error",
    }
    stopped = "error" if replica.exit_code not in (None, 0) and not (view.row and view.row.stopped) else "stopped"
    cpu, memory = adapter.quick_figures(replica) or (0.0, 0)
    return {
        "service_id": view.service_id,
        "container_id": replica.container_id,
        "container_name": replica.name,
        "deployment_id": replica.deployment_id,
        "status": words.get(replica.state, stopped),
        "health": view.health.get(replica.container_id, Health.UNKNOWN).value,
        "cpu_percent": round(cpu, 2),
        "memory_mb": round(memory / 1024 / 1024, 1),
        "restart_count": replica.restart_count,
        "started_at": format_ns(replica.started_ns) if replica.started_ns else None,
    }


def listed(view: ServiceView, adapter: Adapter) -> dict[str, Json]:
    """One entry of `list_services`."""
    spec = view.deployment.spec if view.deployment else None
    up = sum(1 for replica in view.replicas if replica.state is ContainerState.RUNNING)
    return {
        "service_id": view.service_id,
        "service_name": spec.service_name if spec else view.service_id,
        "project_name": spec.project_name if spec else None,
        "deployment_id": view.row.deployment_id if view.row else _deployments(view.replicas),
        "image": str(spec.image) if spec else None,
        "status": view.status,
        "health": view.overall_health.value,
        "replicas": {"desired": (0 if view.row.stopped else view.row.replicas) if view.row else None, "running": up},
        "containers": [container_status(view, replica, adapter) for replica in view.replicas],
        "domains": list(spec.domains) if spec else [],
    }


def _deployments(replicas: Sequence[Replica]) -> str:
    return ", ".join(sorted({replica.deployment_id for replica in replicas}))
