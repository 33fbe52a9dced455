"""Restores replicas that went down or were removed, and restarts unhealthy ones where the spec asks for it.

`health.restarts` decides; this module observes and acts. Each action locks its service's queue, observes again before
it acts, and has a deadline. A failed action is logged and retried with back-off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from syntra.agent.changes import Changes
from syntra.agent.health.readiness import Readiness
from syntra.agent.journal.journal import Journal
from syntra.agent.journal.rows import ServiceRow
from syntra.agent.operations.service_queues import QueueInUse, ServiceQueues
from syntra.agent.traffic.port import Traffic
from syntra.health.restarts import Action, CreateMissing, Desired, Restarts, RestartUnhealthy, Seen, StartDown
from syntra.model.container import Container, ContainerState
from syntra.model.health_change import HealthChange
from syntra.model.ids import ServiceId
from syntra.model.spec import Deployment, ServiceSpec
from syntra.model.status import Health
from syntra.runtime.containers.engine import ContainerEngine
from syntra.runtime.containers.volume_lookup import ensure_volume, replica_volumes
from syntra.runtime.errors import RuntimeFailure, StepFailed
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

RECHECK_SECS = 30.0
# A timer may fire a little early, and a pass that comes too early decides nothing.
LEAST_PAUSE_SECS = 0.01
SERVICES_AT_ONCE = 4
# A separate limit: a registry that hangs blocks a pull for minutes, which must not delay other services.
PULLS_AT_ONCE = 4
# An engine under load takes seconds for each call. An operation that arrives meanwhile waits at most this long.
ACTION_SECS = 60.0
# No queue is locked during a pull, so no operation waits for it.
PULL_SECS = 600.0

_DOWN = (ContainerState.CREATED, ContainerState.EXITED)


class Reconciler:
    """Restores and restarts replicas. `run` it after the deployer has resumed the unfinished operations."""

    def __init__(
        self,
        engine: ContainerEngine,
        journal: Journal,
        traffic: Traffic,
        queues: ServiceQueues,
        changes: Changes,
        *,
        readiness: Readiness,
        drain_secs: float,
        clock: Callable[[], float],
    ) -> None:
        """`drain_secs` is added to a restart's deadline: the time to withdraw a replica from traffic."""
        self._engine = engine
        self._journal = journal
        self._traffic = traffic
        self._queues = queues
        self._changes = changes
        self._readiness = readiness
        self._drain_secs = drain_secs
        self._clock = clock
        self._restarts = Restarts()
        self._slots = asyncio.Semaphore(SERVICES_AT_ONCE)
        self._pulls = asyncio.Semaphore(PULLS_AT_ONCE)
        self._acting: set[ServiceId] = set()

    async def run(self) -> None:
        """Reconcile until cancelled: after every change, when a back-off ends, and at least every 30 s."""
        changes = self._changes.follow()
        async with asyncio.TaskGroup() as actions:
            while True:
                await changes.wait(await self._reconcile(actions))

    async def _reconcile(self, actions: asyncio.TaskGroup) -> float:
        """Decide once and start the actions. Returns how long to wait for the next pass."""
        try:
            decided = await self._decide()
        except RuntimeFailure as later:
            # A failed list is not an empty list: decide nothing.
            log.info("self-healing is paused", extra={"reason": str(later)})
            return RECHECK_SECS
        except AgentError as failed:
            log.error("cannot read the desired state", extra={"reason": str(failed)})
            return RECHECK_SECS
        by_service: dict[ServiceId, list[Action]] = {}
        for action in decided:
            by_service.setdefault(action.service_id, []).append(action)
        for service_id, service_actions in by_service.items():
            self._acting.add(service_id)
            actions.create_task(self._act_for(service_id, service_actions), name=f"reconcile {service_id}")
        next_at = self._restarts.next_at
        if next_at is None:
            return RECHECK_SECS
        return min(max(next_at - self._clock(), LEAST_PAUSE_SECS), RECHECK_SECS)

    async def _decide(self) -> list[Action]:
        overrides = await self._journal.health_changes.all()
        observed = await self._engine.observe()
        desired: list[Desired] = []
        specs: dict[ServiceId, ServiceSpec] = {}
        for current in await self._journal.current_all():
            if current.deployment is None:
                continue
            row = current.row
            spec = specs[row.service_id] = _effective(current.deployment.spec, overrides)
            desired.append(
                Desired(
                    service_id=row.service_id,
                    deployment_id=row.deployment_id,
                    replicas=row.replicas,
                    restart_unhealthy=spec.health is not None and spec.health.restart_unhealthy,
                    stopped=row.stopped,
                    busy=row.service_id in self._acting or self._queues.is_busy(row.service_id),
                )
            )
        seen = [self._seen(replica, specs[replica.service_id]) for replica in observed if replica.service_id in specs]
        return self._restarts.decide(self._clock(), desired, seen)

    def _seen(self, replica: Container, spec: ServiceSpec) -> Seen:
        return Seen(
            replica=replica,
            health=self._readiness.readiness(replica, spec),
            serving=self._traffic.is_serving(replica.container_id),
        )

    async def _act_for(self, service_id: ServiceId, actions: Sequence[Action]) -> None:
        try:
            for action in actions:
                await self._act(action)
        finally:
            self._acting.discard(service_id)
            self._changes.announce()

    async def _act(self, action: Action) -> None:
        about = {"service_id": action.service_id, "action": type(action).__name__, "reason": action.reason}
        try:
            if isinstance(action, CreateMissing) and (desired_state := await self._desired_state(action)) is not None:
                await self._ensure_image(desired_state[1])
            async with self._slots:
                # An engine that shuts down stops every container while it still answers on open connections.
                await self._engine.ping()
                done = await self._do(action)
        except QueueInUse:
            log.debug("left to the operation under way", extra=about)
        except TimeoutError:
            log.warning("replica could not be restored", extra={**about, "failure": "not done in time"})
        except AgentError as failed:
            log.warning("replica could not be restored", extra={**about, "failure": str(failed)})
        else:
            log.log(
                logging.INFO if done else logging.DEBUG,
                "replica restored" if done else "nothing to restore",
                extra=about,
            )

    async def _do(self, action: Action) -> bool:
        """Carry an action out. Returns False when it is no longer needed."""
        match action:
            case RestartUnhealthy(container_id=container_id):
                async with self._holding(action, ACTION_SECS + self._drain_secs):
                    replica = await self._needs_restart(action)
                    if replica is None:
                        return False
                    await self._traffic.withdraw(action.service_id, [container_id])
                    await self._engine.restart(container_id, replica.stop_grace_secs)
            case StartDown(container_id=container_id):
                async with self._holding(action, ACTION_SECS):
                    if not await self._needs_start(action):
                        return False
                    await self._engine.start(container_id)
            case CreateMissing():
                async with self._holding(action, ACTION_SECS):
                    return await self._create(action)
        return True

    async def _needs_restart(self, action: RestartUnhealthy) -> Container | None:
        """The replica as it is now; None when it needs no restart."""
        desired_state = await self._desired_state(action)
        now = await self._engine.inspect(action.container_id)
        if desired_state is None or now is None or not now.is_running:
            return None
        row, deployment = desired_state
        spec = _effective(deployment.spec, await self._journal.health_changes.all())
        if now.deployment_id != row.deployment_id or spec.health is None or not spec.health.restart_unhealthy:
            return None
        existing = await self._engine.observe(action.service_id)
        serving = {r.container_id for r in existing if self._traffic.is_serving(r.container_id)}
        # Check last, with no await after it: do not restart a replica that has recovered, or the only published one.
        is_needed = self._readiness.readiness(now, spec) is Health.UNHEALTHY and serving != {action.container_id}
        return now if is_needed else None

    async def _needs_start(self, action: StartDown) -> bool:
        desired_state = await self._desired_state(action)
        now = await self._engine.inspect(action.container_id)
        if (
            desired_state is None
            or now is None
            or now.state not in _DOWN
            or now.deployment_id != desired_state[0].deployment_id
        ):
            return False
        existing = await self._engine.observe(action.service_id)
        return sum(r.is_up and r.deployment_id == now.deployment_id for r in existing) < desired_state[0].replicas

    async def _ensure_image(self, deployment: Deployment) -> None:
        if await self._engine.has_image(deployment):
            return
        async with self._pulls, asyncio.timeout(PULL_SECS):
            await self._engine.obtain_image(deployment, None, _no_progress)

    async def _create(self, action: CreateMissing) -> bool:
        desired_state = await self._desired_state(action)
        existing = await self._engine.observe(action.service_id)
        same_deployment = [
            r for r in existing if r.deployment_id == action.deployment_id and r.container_id != action.remove
        ]
        if (
            desired_state is None
            or len(same_deployment) >= desired_state[0].replicas
            or any(r.index == action.index for r in same_deployment)
        ):
            return False
        _, deployment = desired_state
        # Before the removal: a container that is down may be what shows which volumes are its replica's.
        volumes = await replica_volumes(self._engine, deployment, existing)
        if volumes.image_paths is None:
            raise StepFailed("IMAGE_NOT_FOUND", f"cannot create a replica: image {deployment.spec.image} is gone")
        if action.remove is not None:
            await self._engine.remove(action.remove)
        spec = deployment.spec
        await self._engine.ensure_network(spec.project_name)
        await self._traffic.prepare(spec)
        for step in volumes.ensured([action.index]):
            await ensure_volume(self._engine, step)
        container_id, _ = await self._engine.create(deployment, action.index, volumes.mounts(action.index))
        await self._engine.start(container_id)
        return True

    async def _desired_state(self, action: Action) -> tuple[ServiceRow, Deployment] | None:
        """The service's desired state; None when it is stopped, or its deployment is no longer the action's."""
        current = await self._journal.current(action.service_id)
        if current is None or current.row.stopped or current.deployment is None:
            return None
        if isinstance(action, CreateMissing) and current.row.deployment_id != action.deployment_id:
            return None
        return current.row, current.deployment

    def _holding(self, action: Action, at_most_secs: float) -> AbstractAsyncContextManager[None]:
        return self._queues.holding(action.service_id, at_most_secs)


def _effective(spec: ServiceSpec, overrides: Mapping[ServiceId, HealthChange]) -> ServiceSpec:
    change = overrides.get(spec.service_id)
    return spec if change is None else change.applied(spec)


def _no_progress(percent: int, text: str) -> None:
    """Ignore the progress of a pull."""
