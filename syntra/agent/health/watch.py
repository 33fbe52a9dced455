"""Probes the replicas of every service that has a health check, and keeps the health of each."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping

from syntra.agent.changes import Changes
from syntra.agent.health.gate import ExecInContainer, GateSource, check_of, image_health_detail, timing_of
from syntra.agent.health.results import HealthResult, HealthResults
from syntra.agent.journal.journal import Journal
from syntra.health.probes import Prober, ProbeResult, probe
from syntra.health.scheduler import HealthScheduler, Target, Transition
from syntra.model.container import Container
from syntra.model.health_change import HealthChange
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import ServiceSpec
from syntra.model.status import Health, Replica
from syntra.runtime.errors import RuntimeFailure
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

RECHECK_SECS = 30.0
MOST_PASSED = 1000


class HealthWatch:
    """Implements `agent.health.readiness.Readiness` for containers. Health changes are announced to `changes`."""

    def __init__(
        self,
        journal: Journal,
        engine: GateSource,
        changes: Changes,
        *,
        min_healthy_secs: float,
        prober: Prober = probe,
    ) -> None:
        self._journal = journal
        self._engine = engine
        self._changes = changes
        self._min_healthy_secs = min_healthy_secs
        # The start time and the answer of each container that passed its gate; the oldest are dropped first.
        self._passed: dict[ContainerId, tuple[int | None, ProbeResult]] = {}
        self._scheduler = HealthScheduler(self._result, time.monotonic, random.SystemRandom(), prober=prober)
        self._overrides: Mapping[ServiceId, HealthChange] = {}
        self._services: dict[ContainerId, ServiceId] = {}
        self._numbers: dict[ContainerId, int] = {}
        self._details: dict[ContainerId, str] = {}
        self._results = HealthResults()

    def readiness(self, replica: Replica, spec: ServiceSpec) -> Health:
        """Whether a running replica may receive requests. Without a check: once it has stayed up, unknown before."""
        if not replica.is_running or replica.started_ns is None:
            return Health.UNHEALTHY
        if self.effective_spec(spec).health is None:
            image_health = _image_health(replica)
            if image_health is not None:
                return image_health
            has_stayed_up = time.time() - replica.started_ns / 1e9 >= self._min_healthy_secs
            return Health.HEALTHY if has_stayed_up else Health.UNKNOWN
        return self._scheduler.state(replica.container_id)

    def has_check(self, replica: Replica, spec: ServiceSpec) -> bool:
        """Whether a health check decides, of the spec or of the image; if not, staying up does."""
        return self.effective_spec(spec).health is not None or _image_health(replica) is not None

    def known(self, replica: Replica) -> Health:
        """The health by probes or the image's own check; unknown without one, and until there is a result."""
        if replica.container_id in self._services:
            return self._scheduler.state(replica.container_id)
        return _image_health(replica) or Health.UNKNOWN

    def detail(self, replica: Replica) -> str:
        """The last result as a sentence; empty before the first."""
        probed = self._details.get(replica.container_id)
        if probed is not None or not isinstance(replica, Container):
            return probed or ""
        if (answer := self._gate_answer(replica)) is not None:
            return answer.detail
        return image_health_detail(replica) if replica.image_health is not None else ""

    def passed(self, container: Container, answer: ProbeResult) -> None:
        """A deploy's gate found the container healthy: so it is, and failures of its probes count at once."""
        is_known = self._gate_answer(container) is not None
        self._passed[container.container_id] = container.started_ns, answer
        if len(self._passed) > MOST_PASSED:
            del self._passed[next(iter(self._passed))]
        if not self._scheduler.passed(container.container_id, container.started_ns, answer) and not is_known:
            # It has no target before the first deploy commits.
            self._note(container.service_id, container.index, Health.HEALTHY, answer.detail)

    def effective_spec(self, spec: ServiceSpec) -> ServiceSpec:
        """The spec with the check that probes use: an override replaces the deployment's."""
        change = self._overrides.get(spec.service_id)
        return spec if change is None else change.applied(spec)

    def drain_results(self) -> tuple[HealthResult, ...]:
        """The results since the last call, oldest first, within the buffer's bound."""
        return self._results.drain()

    async def run(self) -> None:
        """Probe until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._scheduler.run(), name="health scheduler")
            group.create_task(self._follow(), name="health targets")

    async def _follow(self) -> None:
        changes = self._changes.follow()
        while True:
            try:
                self._set_targets(await self._targets())
            except RuntimeFailure as later:
                log.debug("health targets are unchanged for now", extra={"reason": str(later)})
            except AgentError as failed:
                log.error("cannot check the health targets", extra={"reason": str(failed)})
            await changes.recheck(RECHECK_SECS)

    def _set_targets(self, targets: list[Target]) -> None:
        before = {target.key: self._scheduler.state(target.key) for target in targets}
        self._scheduler.set_targets({target.key: target for target in targets})
        # A new target may begin as healthy, a change without a probe: followers must read the state again.
        if any(self._scheduler.state(key) is not state for key, state in before.items()):
            self._changes.announce()

    async def _targets(self) -> list[Target]:
        self._overrides = await self._journal.health_changes.all()
        # Each replica is probed by its own deployment's check: during a deploy, two deployments run.
        current = {c.row.service_id: c for c in await self._journal.current_all() if not c.row.stopped}
        replicas = [one for one in await self._engine.observe() if one.service_id in current]
        # An override is for the current deployment only; the next one has its own check.
        others = {
            (one.service_id, one.deployment_id)
            for one in replicas
            if one.deployment_id != current[one.service_id].row.deployment_id
        }
        kept = await self._journal.deployments(others)
        chosen: list[tuple[Container, ServiceSpec | None]] = []
        for replica in replicas:
            key = replica.service_id, replica.deployment_id
            deployment = kept.get(key) or current[replica.service_id].deployment
            spec = None if deployment is None else deployment.spec
            chosen.append((replica, self.effective_spec(spec) if spec is not None and key not in others else spec))
        # From here on nothing is awaited: a replica that passes its gate has no target yet, or one that learns of it.
        targets = [(replica, self._target(replica, spec)) for replica, spec in chosen if spec is not None]
        checked = [replica for replica, target in targets if target is not None]
        services = {replica.container_id: replica.service_id for replica in checked}
        self._services, self._numbers = services, {replica.container_id: replica.index for replica in checked}
        self._details = {known: detail for known, detail in self._details.items() if known in services}
        return [target for _, target in targets if target is not None]

    def _target(self, replica: Container, spec: ServiceSpec) -> Target | None:
        address = replica.address
        if spec.health is None or not replica.is_running or address is None:
            return None
        return Target(
            key=replica.container_id,
            address=address,
            check=check_of(spec, spec.health),
            timing=timing_of(spec.health),
            process=replica.started_ns,
            health=Health.UNKNOWN if self._gate_answer(replica) is None else Health.HEALTHY,
            executor=ExecInContainer(self._engine, replica.container_id),
        )

    def _result(self, key: object, result: ProbeResult, transition: Transition | None) -> None:
        container_id = ContainerId(str(key))
        self._details[container_id] = result.detail
        if (service_id := self._services.get(container_id)) is not None:
            self._results.add(HealthResult(service_id=service_id, at=time.time(), probe=result))
        if transition is None:
            return
        log.info(
            "replica health changed",
            extra={
                "container": container_id[:12],
                "health": transition.after.value,
                "reason": transition.reason or result.detail,
            },
        )
        service_id = self._services.get(container_id, ServiceId(""))
        number = self._numbers.get(container_id, "?")
        self._note(service_id, number, transition.after, transition.reason or result.detail)

    def _note(self, service_id: ServiceId, number: object, health: Health, reason: str) -> None:
        text = f"replica {number} is {health.value}"
        self._journal.events.note(
            "health",
            text if health is Health.HEALTHY else f"{text}: {reason}",
            service_id=service_id,
            is_bad=health is Health.UNHEALTHY,
        )
        self._changes.announce()

    def _gate_answer(self, container: Container) -> ProbeResult | None:
        """What it answered when it passed its gate after its last start; None when it did not."""
        started_ns, answer = self._passed.get(container.container_id, (None, None))
        return answer if started_ns is not None and started_ns == container.started_ns else None


def _image_health(replica: Replica) -> Health | None:
    return replica.image_health if isinstance(replica, Container) else None
