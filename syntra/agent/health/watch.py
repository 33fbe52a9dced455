"""Keeps asking the replicas of every service that has a health check, and knows how each of them is."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping

from syntra.agent.health.gate import ContainerExec, check_of, timing_of
from syntra.agent.health.results import HealthResult, HealthResults
from syntra.agent.journal.journal import Journal
from syntra.health.probes import ProbeResult
from syntra.health.scheduler import HealthScheduler, Target, Transition
from syntra.model.health_change import HealthChange
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.spec import ServiceSpec
from syntra.model.status import ContainerState, Health, Replica
from syntra.runtime.adapter import Adapter
from syntra.runtime.errors import RuntimeUnavailable, StepFailed
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

LOOK_AGAIN_SECS = 30.0


class HealthWatch:
    """Targets follow the engine; `on_turn` is called when a replica turned healthy or unhealthy."""

    def __init__(
        self, journal: Journal, adapter: Adapter, *, min_healthy_secs: float, on_turn: Callable[[ContainerId], None]
    ) -> None:
        self._journal = journal
        self._adapter = adapter
        self._min_healthy_secs = min_healthy_secs
        self._on_turn = on_turn
        self._scheduler = HealthScheduler(self._result, time.monotonic, random.SystemRandom())
        self._changes: Mapping[ServiceId, HealthChange] = {}
        self._services: dict[ContainerId, ServiceId] = {}
        self._details: dict[ContainerId, str] = {}
        self._results = HealthResults()
        self._nudge = asyncio.Event()

    def readiness(self, replica: Replica, spec: ServiceSpec) -> Health:
        """Whether a running replica may receive requests; without a check, once it has stayed up. Unknown at first."""
        if replica.state is not ContainerState.RUNNING or replica.started_ns is None:
            return Health.UNHEALTHY
        if self.asked(spec).health is None:
            held = time.time() - replica.started_ns / 1e9 >= self._min_healthy_secs
            return Health.HEALTHY if held else Health.UNKNOWN
        return self.known(replica)

    def known(self, replica: Replica) -> Health:
        """What the probes have found; unknown without a check, and until one of them decides."""
        return Health(self._scheduler.state(replica.container_id).value)

    def detail(self, container_id: ContainerId) -> str:
        """The sentence of the last result; empty before the first."""
        return self._details.get(container_id, "")

    def asked(self, spec: ServiceSpec) -> ServiceSpec:
        """The spec with the check that its replicas are asked by: a live change lies over that of the deployment."""
        change = self._changes.get(spec.service_id)
        return spec if change is None else change.applied(spec)

    def drain_results(self) -> tuple[HealthResult, ...]:
        """The results since the last call, oldest first; at most as many as are kept."""
        return self._results.drain()

    @property
    def dropped_results(self) -> int:
        """How many results nobody took in time."""
        return self._results.dropped

    def refresh(self) -> None:
        """A check was changed: follow now."""
        self._nudge.set()

    async def run(self) -> None:
        """Probe until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._scheduler.run(), name="health scheduler")
            group.create_task(self._follow(), name="health targets")

    async def _follow(self) -> None:
        while True:
            async with asyncio.TaskGroup() as group:
                change = group.create_task(self._adapter.wait_for_change(), name="targets change")
                await asyncio.sleep(0)
                self._nudge.clear()
                try:
                    self._scheduler.set_targets({target.key: target for target in await self._targets()})
                except (RuntimeUnavailable, StepFailed) as later:
                    log.debug("health targets stay as they are", extra={"reason": str(later)})
                except AgentError as failed:
                    log.error("health targets could not be looked at", extra={"reason": str(failed)})
                nudged = group.create_task(self._nudge.wait(), name="targets nudge")
                await asyncio.wait({change, nudged}, timeout=LOOK_AGAIN_SECS, return_when=asyncio.FIRST_COMPLETED)
                change.cancel()
                nudged.cancel()

    async def _targets(self) -> list[Target]:
        self._changes = await self._journal.health_changes.all()
        # Each replica is asked what its own deployment says: while one takes over, two are up.
        current = {row.service_id: row.deployment_id for row in await self._journal.services() if not row.stopped}
        specs: dict[tuple[ServiceId, DeploymentId], ServiceSpec | None] = {}
        found = []
        services: dict[ContainerId, ServiceId] = {}
        for replica in await self._adapter.observe():
            if replica.service_id not in current:
                continue
            key = replica.service_id, replica.deployment_id
            if key not in specs:
                made_from = await self._journal.deployment(*key)
                kept = made_from or await self._journal.deployment(replica.service_id, current[replica.service_id])
                # A live change is one of the current deployment; the next one brings a check of its own.
                is_current = replica.deployment_id == current[replica.service_id]
                specs[key] = None if kept is None else self.asked(kept.spec) if is_current else kept.spec
            spec = specs[key]
            target = self._target(replica, spec) if spec is not None else None
            if target is not None:
                found.append(target)
                services[replica.container_id] = replica.service_id
        self._services = services
        self._details = {known: detail for known, detail in self._details.items() if known in services}
        return found

    def _target(self, replica: Replica, spec: ServiceSpec) -> Target | None:
        address = next((address for address in replica.addresses.values() if address), None)
        if spec.health is None or replica.state is not ContainerState.RUNNING or address is None:
            return None
        return Target(
            key=replica.container_id,
            address=address,
            check=check_of(spec, spec.health),
            timing=timing_of(spec.health),
            process=replica.started_ns,
            executor=ContainerExec(self._adapter, replica.container_id),
        )

    def _result(self, key: object, result: ProbeResult, turn: Transition | None) -> None:
        container_id = ContainerId(str(key))
        self._details[container_id] = result.detail
        if (service_id := self._services.get(container_id)) is not None:
            self._results.add(HealthResult(service_id=service_id, at=time.time(), probe=result))
        if turn is None:
            return
        log.info(
            "replica turned",
            extra={"container": container_id[:12], "health": turn.after.value, "reason": turn.reason or result.detail},
        )
        self._on_turn(container_id)
