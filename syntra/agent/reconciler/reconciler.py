"""Keeps what is desired: brings back what went down or was taken away, and restarts what is unhealthy where asked to.

`health.restarts` decides; this module looks and acts. Every action holds its service's lane, looks again before it does
anything, and has a deadline. What fails is logged and comes again by the back-off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from syntra.agent.journal.rows import ServiceRow
from syntra.agent.operations.service_queues import QueueInUse, ServiceQueues
from syntra.agent.operations.step_runner import RETIRE_GRACE_SECS, Tools
from syntra.health.restarts import Action, CreateMissing, Desired, Restarts, RestartUnhealthy, Seen, StartDown
from syntra.health.verdict import Health
from syntra.model.health_change import HealthChange
from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.spec import Deployment, ServiceSpec
from syntra.model.status import ContainerState, Replica
from syntra.model.status import Health as ReplicaHealth
from syntra.runtime.errors import RuntimeUnavailable, StepFailed
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

LOOK_AGAIN_SECS = 30.0
# A timer may go off a little before its time, and a look that comes too early decides nothing.
LEAST_PAUSE_SECS = 0.01
SERVICES_AT_ONCE = 4
# Apart from those: a registry that does not answer holds a pull for minutes, which must hold up no other service.
PULLS_AT_ONCE = 4
# An engine under load takes seconds for each of its calls; an operation that arrives waits at most this long.
ACTION_SECS = 60.0
# Without anybody waiting for it: no lane is held while an image comes.
PULL_SECS = 600.0

_DOWN = (ContainerState.CREATED, ContainerState.EXITED)


class Reconciler:
    """`run` it once the deployer has resumed: before that nobody knows which operations are under way."""

    def __init__(
        self,
        tools: Tools,
        queues: ServiceQueues,
        *,
        readiness: Callable[[Replica, ServiceSpec], ReplicaHealth],
        drain_secs: float,
        clock: Callable[[], float],
    ) -> None:
        """`drain_secs` is how long the traffic port may take to withdraw a replica, beside the action itself."""
        self._adapter = tools.adapter
        self._journal = tools.journal
        self._traffic = tools.traffic
        self._queues = queues
        self._readiness = readiness
        self._drain_secs = drain_secs
        self._clock = clock
        self._restarts = Restarts()
        self._slots = asyncio.Semaphore(SERVICES_AT_ONCE)
        self._pulls = asyncio.Semaphore(PULLS_AT_ONCE)
        self._acting: set[ServiceId] = set()
        self._nudge = asyncio.Event()

    def nudge(self) -> None:
        """Something outside the engine's events changed, such as a replica's health."""
        self._nudge.set()

    async def run(self) -> None:
        """Look and act until cancelled: after the engine's events, after a nudge, when a back-off ends, every 30 s."""
        async with asyncio.TaskGroup() as actions:
            while True:
                async with asyncio.TaskGroup() as group:
                    # Listening begins before looking, so that nothing falls between the two.
                    change = group.create_task(self._adapter.wait_for_change(), name="keeper change")
                    await asyncio.sleep(0)
                    self._nudge.clear()
                    pause = await self._look(actions)
                    nudged = group.create_task(self._nudge.wait(), name="keeper nudge")
                    await asyncio.wait({change, nudged}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                    change.cancel()
                    nudged.cancel()

    async def _look(self, actions: asyncio.TaskGroup) -> float:
        """Decide once and begin what was decided; how long to wait for the next look."""
        try:
            rows = await self._journal.services()
            decided = await self._decided(rows)
        except (RuntimeUnavailable, StepFailed) as later:
            # A look that failed shows no empty engine: nothing may be decided.
            log.info("nothing is kept for now", extra={"reason": str(later)})
            return LOOK_AGAIN_SECS
        except AgentError as failed:
            log.error("desired state could not be looked at", extra={"reason": str(failed)})
            return LOOK_AGAIN_SECS
        by_service: dict[ServiceId, list[Action]] = {}
        for action in decided:
            by_service.setdefault(action.service_id, []).append(action)
        for service_id, of_service in by_service.items():
            self._acting.add(service_id)
            actions.create_task(self._act_for(service_id, of_service), name=f"keep {service_id}")
        next_at = self._restarts.next_at
        if next_at is None:
            return LOOK_AGAIN_SECS
        return min(max(next_at - self._clock(), LEAST_PAUSE_SECS), LOOK_AGAIN_SECS)

    async def _decided(self, rows: Sequence[ServiceRow]) -> list[Action]:
        deployments = {
            row.service_id: await self._journal.deployment(row.service_id, row.deployment_id) for row in rows
        }
        changes = await self._journal.health_changes.all()
        specs = {
            service_id: _asked(deployment.spec, changes)
            for service_id, deployment in deployments.items()
            if deployment is not None
        }
        observed = await self._adapter.observe()
        desired = [
            Desired(
                service_id=row.service_id,
                deployment_id=row.deployment_id,
                replicas=row.replicas,
                restart_unhealthy=(health := specs[row.service_id].health) is not None and health.restart_unhealthy,
                stopped=row.stopped,
                busy=row.service_id in self._acting or self._queues.is_busy(row.service_id),
            )
            for row in rows
            if row.service_id in specs
        ]
        seen = [self._seen(replica, specs[replica.service_id]) for replica in observed if replica.service_id in specs]
        return self._restarts.decide(self._clock(), desired, seen)

    def _seen(self, replica: Replica, spec: ServiceSpec) -> Seen:
        return Seen(
            replica=replica,
            health=Health(self._readiness(replica, spec).value),
            serving=self._traffic.is_serving(replica.container_id),
        )

    async def _act_for(self, service_id: ServiceId, actions: Sequence[Action]) -> None:
        try:
            for action in actions:
                await self._act(action)
        finally:
            self._acting.discard(service_id)
            self.nudge()

    async def _act(self, action: Action) -> None:
        about = {"service_id": action.service_id, "action": type(action).__name__, "reason": action.reason}
        try:
            if isinstance(action, CreateMissing) and (wanted := await self._wanted(action)) is not None:
                await self._ensure_image(wanted[1])
            async with self._slots:
                # An engine that goes down ends every container while it still answers on open connections.
                await self._adapter.ping()
                done = await self._do(action)
        except QueueInUse:
            log.debug("left to the operation under way", extra=about)
        except TimeoutError:
            log.warning("could not keep a replica", extra={**about, "failure": "not done in time"})
        except AgentError as failed:
            log.warning("could not keep a replica", extra={**about, "failure": str(failed)})
        else:
            log.log(logging.INFO if done else logging.DEBUG, "replica kept" if done else "nothing to keep", extra=about)

    async def _do(self, action: Action) -> bool:
        """Carry an action out; False when it is pointless by now."""
        match action:
            case RestartUnhealthy(container_id=container_id):
                async with self._holding(action, ACTION_SECS + self._drain_secs):
                    if not await self._needs_restart(action):
                        return False
                    await self._traffic.withdraw(action.service_id, [container_id])
                    await self._adapter.restart(container_id, RETIRE_GRACE_SECS)
            case StartDown(container_id=container_id):
                async with self._holding(action, ACTION_SECS):
                    if not await self._needs_start(action):
                        return False
                    await self._adapter.start(container_id)
            case CreateMissing():
                async with self._holding(action, ACTION_SECS):
                    return await self._create(action)
        return True

    async def _needs_restart(self, action: RestartUnhealthy) -> bool:
        wanted = await self._wanted(action)
        now = await self._adapter.inspect(action.container_id)
        if wanted is None or now is None or now.state is not ContainerState.RUNNING:
            return False
        row, deployment = wanted
        spec = _asked(deployment.spec, await self._journal.health_changes.all())
        if now.deployment_id != row.deployment_id or spec.health is None or not spec.health.restart_unhealthy:
            return False
        there = await self._adapter.observe(action.service_id)
        serving = {r.container_id for r in there if self._traffic.is_serving(r.container_id)}
        # Last of all, since nothing is awaited after it: what has recovered, or serves alone by now, is left alone.
        return self._readiness(now, spec) is ReplicaHealth.UNHEALTHY and serving != {action.container_id}

    async def _needs_start(self, action: StartDown) -> bool:
        wanted = await self._wanted(action)
        now = await self._adapter.inspect(action.container_id)
        if wanted is None or now is None or now.state not in _DOWN or now.deployment_id != wanted[0].deployment_id:
            return False
        there = await self._adapter.observe(action.service_id)
        return sum(r.is_up and r.deployment_id == now.deployment_id for r in there) < wanted[0].replicas

    async def _ensure_image(self, deployment: Deployment) -> None:
        if await self._adapter.has_image(deployment):
            return
        async with self._pulls, asyncio.timeout(PULL_SECS):
            await self._adapter.obtain_image(deployment, None, _no_progress)

    async def _create(self, action: CreateMissing) -> bool:
        wanted = await self._wanted(action)
        there = await self._adapter.observe(action.service_id)
        alike = [r for r in there if r.deployment_id == action.deployment_id and r.container_id != action.remove]
        if wanted is None or len(alike) >= wanted[0].replicas or any(r.index == action.index for r in alike):
            return False
        if action.remove is not None:
            await self._adapter.remove(action.remove)
        _, deployment = wanted
        spec = deployment.spec
        await self._adapter.ensure_network(spec.project_name)
        await self._traffic.prepare(spec)
        for name in sorted({volume.name for volume in spec.volumes if not volume.host_path}):
            await self._adapter.ensure_volume(name)
        container_id, _ = await self._adapter.create(deployment, action.index)
        await self._adapter.start(container_id)
        return True

    async def _wanted(self, action: Action) -> tuple[ServiceRow, Deployment] | None:
        """What the service is meant to run; None when it is meant to be stopped or another by now."""
        row = await self._journal.service(action.service_id)
        if row is None or row.stopped:
            return None
        if isinstance(action, CreateMissing) and row.deployment_id != action.deployment_id:
            return None
        deployment = await self._journal.deployment(action.service_id, DeploymentId(row.deployment_id))
        return None if deployment is None else (row, deployment)

    def _holding(self, action: Action, at_most_secs: float) -> AbstractAsyncContextManager[None]:
        return self._queues.holding(action.service_id, at_most_secs)


def _asked(spec: ServiceSpec, changes: Mapping[ServiceId, HealthChange]) -> ServiceSpec:
    change = changes.get(spec.service_id)
    return spec if change is None else change.applied(spec)


def _no_progress(percent: int, text: str) -> None:
    """Nobody follows this pull."""
