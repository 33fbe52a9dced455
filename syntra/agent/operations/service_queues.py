"""One queue per service: operations of one service run one after another; services do not wait for each other.

A deploy, rollback or stop supersedes the operations that wait in its queue, and interrupts a running one at its next
safe point. Queues are bounded; a full one refuses.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from syntra.agent.operations.job import Interruption, Job
from syntra.model.command import Deploy, Rollback
from syntra.model.errors import RequestError
from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.spec import ServiceSpec
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

MAX_WAITING_PER_SERVICE = 16
MAX_JOBS = 256


class QueueInUse(AgentError):
    """The queue cannot be locked: an operation runs, it is locked already, or the agent is stopping."""


class ServiceQueues:
    """Jobs in order, per service. `carry_out` runs one job until it is reported."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        carry_out: Callable[[Job], Awaitable[None]],
        *,
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_idle` is called after the last operation of a service, so that control loops process it again."""
        self._group = group
        self._carry_out = carry_out
        self._on_idle = on_idle
        self._waiting: dict[ServiceId, deque[Job]] = {}
        self._running: dict[ServiceId, Job] = {}
        self._tasks: dict[ServiceId, asyncio.Task[None]] = {}
        self._held: dict[ServiceId, asyncio.Timeout] = {}
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    def check(self, service_id: ServiceId) -> None:
        """Raise RequestError (BUSY) when the service's queue or the agent is full, or the agent is stopping."""
        total = len(self._running) + sum(len(queue) for queue in self._waiting.values())
        if self._closed:
            raise RequestError("BUSY", "cannot take the command: the agent is stopping; send it again in a moment")
        if len(self._waiting.get(service_id, ())) >= MAX_WAITING_PER_SERVICE or total >= MAX_JOBS:
            raise RequestError("BUSY", f"cannot take the command: {total} operations are under way; try again later")

    def add(self, job: Job) -> list[Job]:
        """Add a job to its queue. Returns the waiting jobs that it supersedes: they will not run."""
        queue = self._waiting.setdefault(job.service_id, deque())
        superseded: list[Job] = []
        if job.replaces_others:
            superseded = list(queue)
            queue.clear()
            running = self._running.get(job.service_id)
            if running is not None and running.reports_deployment:
                running.interrupt(Interruption.SUPERSEDED)
        queue.append(job)
        if not self.is_busy(job.service_id):
            self._start_next(job.service_id)
        return superseded

    def put_back(self, job: Job) -> None:
        """Put a superseded job back at the head of its queue, when it cannot be reported yet."""
        self._waiting.setdefault(job.service_id, deque()).appendleft(job)
        if not self.is_busy(job.service_id):
            self._start_next(job.service_id)

    def withdraw(self, job: Job) -> bool:
        """Remove a waiting job, unreported, from its queue. Returns False when it does not wait."""
        lane = self._waiting.get(job.service_id, deque())
        if job not in lane:
            return False
        lane.remove(job)
        return True

    def of(self, service_id: ServiceId) -> list[Job]:
        """The running job of the service, then the waiting ones."""
        running = self._running.get(service_id)
        return [*([running] if running is not None else []), *self._waiting.get(service_id, ())]

    def find(self, deployment_id: DeploymentId) -> Job | None:
        """The running or waiting job that deploys or rolls back to this deployment."""
        jobs = [job for service_id in {*self._running, *self._waiting} for job in self.of(service_id)]
        return next((job for job in jobs if job.brings_deployment and job.deployment_id == deployment_id), None)

    def running(self, service_id: ServiceId) -> Job | None:
        """The running job of the service."""
        return self._running.get(service_id)

    def coming_specs(self) -> list[ServiceSpec]:
        """The specs of the deploys and rollbacks that run or wait; the journal has the current specs."""
        jobs = [*self._running.values(), *(job for queue in self._waiting.values() for job in queue)]
        deploys = [job for job in jobs if isinstance(job.command, Deploy | Rollback)]
        return [job.deployment.spec for job in deploys if job.deployment is not None]

    def is_busy(self, service_id: ServiceId) -> bool:
        """Whether an operation of the service runs or waits, or its queue is locked."""
        return service_id in self._running or service_id in self._held

    @asynccontextmanager
    async def holding(self, service_id: ServiceId, at_most_secs: float) -> AsyncIterator[None]:
        """Lock an idle service's queue: operations that arrive wait until the block ends.

        Raises QueueInUse when the service is not idle. The block gets TimeoutError after `at_most_secs`, or when the
        agent stops.
        """
        if self._closed or self.is_busy(service_id):
            raise QueueInUse(f"cannot lock {service_id}: another operation runs on it; try again later")
        scope = asyncio.timeout(at_most_secs)
        self._held[service_id] = scope
        self._idle.clear()
        starts_next = False
        try:
            async with scope:
                yield
            starts_next = True
        except Exception:  # the block's own error; only cancellation must start no further job
            starts_next = True
            raise
        finally:
            del self._held[service_id]
            self._update_idle()
            if starts_next:
                self._start_next(service_id)

    @property
    def is_idle(self) -> bool:
        """Whether no operation of any service runs or waits."""
        return self._idle.is_set()

    async def until_idle(self) -> None:
        """Wait until no operation runs or waits. The caller sets the deadline."""
        await self._idle.wait()

    def is_held(self, service_id: ServiceId) -> bool:
        """Whether a canary of the service is held at its share."""
        job = self._running.get(service_id)
        return job is not None and job.is_holding

    async def drain(self, grace_secs: float) -> None:
        """Accept no more jobs. Let running ones end within `grace_secs`, then park them, then cancel them.

        A cancelled job is parked too: the next start observes what its last step did.
        """
        self._closed = True
        for queue in self._waiting.values():
            queue.clear()
        for job in self._running.values():
            if job.is_holding:
                # A hold outlasts any grace period.
                job.interrupt(Interruption.SHUTDOWN)
        try:
            async with asyncio.timeout(grace_secs):
                await self._idle.wait()
        except TimeoutError:
            for job in self._running.values():
                job.interrupt(Interruption.SHUTDOWN)
            for scope in self._held.values():
                if not scope.expired():
                    scope.reschedule(asyncio.get_running_loop().time())
            try:
                async with asyncio.timeout(grace_secs):
                    await self._idle.wait()
            except TimeoutError:
                for service_id, task in self._tasks.items():
                    log.warning("operation cancelled at shutdown", extra={"service_id": service_id})
                    task.cancel()

    def _start_next(self, service_id: ServiceId) -> None:
        queue = self._waiting.get(service_id)
        if not queue or self._closed:
            self._waiting.pop(service_id, None)
            return
        job = queue.popleft()
        self._running[service_id] = job
        self._idle.clear()
        self._tasks[service_id] = self._group.create_task(self._run(job), name=f"{job.kind} {service_id}")

    async def _run(self, job: Job) -> None:
        try:
            await self._carry_out(job)
        finally:
            del self._running[job.service_id]
            del self._tasks[job.service_id]
            self._update_idle()
        self._start_next(job.service_id)
        if not self.is_busy(job.service_id):
            self._on_idle()

    def _update_idle(self) -> None:
        if not self._running and not self._held:
            self._idle.set()
