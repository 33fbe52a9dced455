"""Restores replicas that went down or were removed, and restarts unhealthy ones where the spec asks for it.

`health.restarts` decides; this module observes and acts. Each action locks its service's queue, observes again before
it acts, and has a deadline. A failed action is logged and retried with back-off.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from syntra.agent.changes import Changes
from syntra.agent.health.readiness import Readiness
from syntra.agent.journal.journal import Journal
from syntra.agent.journal.rows import ServiceRow
from syntra.agent.operations.service_queues import QueueInUse, ServiceQueues
from syntra.agent.traffic.port import Traffic
from syntra.health.restarts import Action, CreateMissing, Desired, Restarts, RestartUnhealthy, Seen, StartDown
from syntra.health.restore_failures import RestoreFailure, RestoreFailures
from syntra.model.container import Container, ContainerState
from syntra.model.health_change import HealthChange
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import Deployment, ServiceSpec
from syntra.model.status import Health
from syntra.runtime.containers.engine import ContainerEngine
from syntra.runtime.containers.recreate import create_replica, recreate
from syntra.runtime.errors import NETWORK_GONE, RuntimeFailure, RuntimeUnavailable, StepFailed
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
        self._failures = RestoreFailures()
        self._specs: Mapping[ServiceId, ServiceSpec] = {}
        self._slots = asyncio.Semaphore(SERVICES_AT_ONCE)
        self._pulls = asyncio.Semaphore(PULLS_AT_ONCE)
        self._acting: set[ServiceId] = set()

    @property
    def failures(self) -> list[RestoreFailure]:
        """The replicas that could not be restored, with the time of the next attempt."""
        now, wall = self._clock(), time.time()

        def next_at(service_id: ServiceId, index: int) -> float | None:
            due = self._restarts.next_attempt(now, service_id, index)
            return None if due is None else wall + max(0.0, due - now)

        return self._failures.all(next_at)

    async def run(self) -> None:
        """Reconcile until cancelled: after every change, when a back-off ends, and at least every 30 s."""
        changes = self._changes.follow()
        async with asyncio.TaskGroup() as actions:
            while True:
                soon = await self._reconcile(actions)
                if soon is None or soon > RECHECK_SECS:
                    await changes.recheck(RECHECK_SECS)
                else:
                    await changes.wait(soon)

    async def _reconcile(self, actions: asyncio.TaskGroup) -> float | None:
        """Decide once and start the actions. Returns when a restart is due, in seconds; None without one."""
        try:
            decided = await self._decide()
        except RuntimeFailure as later:
            # A failed list is not an empty list: decide nothing.
            log.info("self-healing is paused", extra={"reason": str(later)})
            return None
        except AgentError as failed:
            log.error("cannot read the desired state", extra={"reason": str(failed)})
            return None
        by_service: dict[ServiceId, list[Action]] = {}
        for action in decided:
            by_service.setdefault(action.service_id, []).append(action)
        for service_id, service_actions in by_service.items():
            self._acting.add(service_id)
            actions.create_task(self._act_for(service_id, service_actions), name=f"reconcile {service_id}")
        next_at = self._restarts.next_at
        if next_at is None:
            return None
        return max(next_at - self._clock(), LEAST_PAUSE_SECS)

    async def _decide(self) -> list[Action]:
        overrides, paused = await self._journal.health_changes.all(), await self._journal.pauses.all()
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
                    busy=row.service_id in self._acting
                    or row.service_id in paused
                    or self._queues.is_busy(row.service_id),
                )
            )
        seen = [self._seen(replica, specs[replica.service_id]) for replica in observed if replica.service_id in specs]
        self._specs = specs
        self._forget_restored(desired, seen)
        return self._restarts.decide(self._clock(), desired, seen)

    def _forget_restored(self, desired: Sequence[Desired], seen: Sequence[Seen]) -> None:
        wanted = {service.service_id: service for service in desired if not service.stopped}
        running = {
            (one.replica.service_id, one.replica.index)
            for one in seen
            if one.replica.is_running
            and one.health is not Health.UNHEALTHY
            and one.replica.service_id in wanted
            and one.replica.deployment_id == wanted[one.replica.service_id].deployment_id
        }
        counts = Counter(service_id for service_id, _ in running)

        def is_missing(service_id: ServiceId, index: int) -> bool:
            service = wanted.get(service_id)
            return service is not None and (service_id, index) not in running and counts[service_id] < service.replicas

        self._failures.keep(is_missing)

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
            self._failed(action, "not done in time")
        except AgentError as failed:
            # An engine that does not answer has a warning and an alert of its own.
            self._failed(action, str(failed), remember=not isinstance(failed, RuntimeUnavailable))
        else:
            self._failures.restored(action.service_id, action.index)
            if done:
                text = f"replica {action.index} was restored: {action.reason}"
                self._journal.events.note("restart", text, service_id=action.service_id)
            log.log(
                logging.INFO if done else logging.DEBUG,
                "replica restored" if done else "nothing to restore",
                extra=about,
            )

    def _failed(self, action: Action, failure: str, *, remember: bool = True) -> None:
        about = {"service_id": action.service_id, "action": type(action).__name__, "reason": action.reason}
        log.warning("replica could not be restored", extra={**about, "failure": failure})
        spec = self._specs.get(action.service_id)
        if remember and spec is not None:
            self._failures.failed(time.time(), spec, action.index, failure)

    async def _do(self, action: Action) -> bool:
        """Carry an action out. Returns False when it is no longer needed."""
        match action:
            case RestartUnhealthy(container_id=container_id):
                async with self._holding(action, ACTION_SECS + self._drain_secs):
                    replica = await self._needs_restart(action)
                    if replica is None:
                        return False
                    await self._traffic.withdraw(action.service_id, [container_id])
                    grace = replica.stop_grace_secs
                    await self._start(action, container_id, lambda: self._engine.restart(container_id, grace))
            case StartDown(container_id=container_id):
                async with self._holding(action, ACTION_SECS):
                    if not await self._needs_start(action):
                        return False
                    await self._start(action, container_id, lambda: self._engine.start(container_id))
            case CreateMissing():
                async with self._holding(action, ACTION_SECS):
                    return await self._create(action)
        return True

    async def _start(self, action: Action, container_id: ContainerId, act: Callable[[], Awaitable[None]]) -> None:
        try:
            await act()
        except StepFailed as failed:
            replica = await self._engine.inspect(container_id) if failed.code == NETWORK_GONE else None
            desired_state = await self._desired_state(action)
            if replica is None or desired_state is None or replica.deployment_id != desired_state[0].deployment_id:
                raise
            log.info("replica is created again: its network was removed", extra={"container": replica.name})
            await recreate(self._engine, self._traffic, replica, desired_state[1])

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
        if not await self._engine.has_image(deployment):
            async with self._pulls, asyncio.timeout(PULL_SECS):
                await self._engine.obtain_image(deployment, None, _no_progress, resolve=False)
        image = await self._engine.resolved_image(deployment)
        if image is not None and image != deployment.resolved:
            await self._journal.resolved(deployment.spec.service_id, deployment.deployment_id, image)

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
        await create_replica(self._engine, self._traffic, deployment, action.index, remove=action.remove)
        return True

    async def _desired_state(self, action: Action) -> tuple[ServiceRow, Deployment] | None:
        """The service's desired state; None when stopped or paused, or its deployment is no longer the action's."""
        current = await self._journal.current(action.service_id)
        if current is None or current.row.stopped or current.deployment is None:
            return None
        if await self._journal.pauses.of(action.service_id) is not None:
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
