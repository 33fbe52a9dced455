"""One lane per service: operations of one service run one after another, services do not wait for each other.

A deploy, rollback or stop makes what waits in its lane pointless, and asks what runs there to end at its next safe
point. Lanes are bounded; a full one refuses.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from syntra.agent.operations.job import Interruption, Job
from syntra.model.errors import RequestError
from syntra.model.ids import ServiceId
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

MAX_WAITING_PER_SERVICE = 16
MAX_JOBS = 256


class QueueInUse(AgentError):
    """The lane cannot be held: an operation runs there, somebody holds it, or the agent is stopping."""


class ServiceQueues:
    """Jobs in order, per service. `carry_out` runs one job to its report."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        carry_out: Callable[[Job], Awaitable[None]],
        *,
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_idle` is called when the last operation of a service is over: who left it alone looks at it again."""
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
        """Raise RequestError (BUSY) when the service's lane or the agent is full."""
        total = len(self._running) + sum(len(lane) for lane in self._waiting.values())
        if self._closed:
            raise RequestError("BUSY", "cannot take the command: the agent is stopping; send it again in a moment")
        if len(self._waiting.get(service_id, ())) >= MAX_WAITING_PER_SERVICE or total >= MAX_JOBS:
            raise RequestError("BUSY", f"cannot take the command: {total} operations are under way; try again later")

    def add(self, job: Job) -> list[Job]:
        """Put a job into its lane; returns the waiting jobs that it made pointless: they will not run."""
        lane = self._waiting.setdefault(job.service_id, deque())
        pointless: list[Job] = []
        if job.replaces_others:
            pointless = list(lane)
            lane.clear()
            running = self._running.get(job.service_id)
            if running is not None and running.reports_deployment:
                running.interrupt(Interruption.SUPERSEDED)
        lane.append(job)
        if not self.is_busy(job.service_id):
            self._start_next(job.service_id)
        return pointless

    def put_back(self, job: Job) -> None:
        """Take a job that `add` returned after all, before all others: it has yet to be reported."""
        self._waiting.setdefault(job.service_id, deque()).appendleft(job)
        if not self.is_busy(job.service_id):
            self._start_next(job.service_id)

    def running(self, service_id: ServiceId) -> Job | None:
        """What runs for the service."""
        return self._running.get(service_id)

    def is_busy(self, service_id: ServiceId) -> bool:
        """Whether something runs or waits for the service, or its lane is held."""
        return service_id in self._running or service_id in self._held

    @asynccontextmanager
    async def holding(self, service_id: ServiceId, at_most_secs: float) -> AsyncIterator[None]:
        """Keep an idle service's lane: operations that arrive wait until the block ends.

        Raises LaneTaken when it is not idle, and TimeoutError in place of whatever is awaited in the block once
        `at_most_secs` are over or the agent has to stop.
        """
        if self._closed or self.is_busy(service_id):
            raise QueueInUse(f"cannot lock {service_id}: another operation runs on it; try again later")
        scope = asyncio.timeout(at_most_secs)
        self._held[service_id] = scope
        self._idle.clear()
        goes_on = False
        try:
            async with scope:
                yield
            goes_on = True
        except Exception:  # whatever failed in there is the holder's; only a cancelled agent starts nothing more
            goes_on = True
            raise
        finally:
            del self._held[service_id]
            self._rest()
            if goes_on:
                self._start_next(service_id)

    def is_held(self, service_id: ServiceId) -> bool:
        """Whether a canary of the service is held at its share."""
        job = self._running.get(service_id)
        return job is not None and job.is_holding

    async def drain(self, grace_secs: float) -> None:
        """Stop taking jobs; let those that run end within `grace_secs`, then park them, then cut them off.

        A job that is cut off is parked too: the next start looks what its last step did.
        """
        self._closed = True
        for lane in self._waiting.values():
            lane.clear()
        for job in self._running.values():
            if job.is_holding:
                # It would hold far beyond any grace.
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
        lane = self._waiting.get(service_id)
        if not lane or self._closed:
            self._waiting.pop(service_id, None)
            return
        job = lane.popleft()
        self._running[service_id] = job
        self._idle.clear()
        self._tasks[service_id] = self._group.create_task(self._run(job), name=f"{job.kind} {service_id}")

    async def _run(self, job: Job) -> None:
        try:
            await self._carry_out(job)
        finally:
            del self._running[job.service_id]
            del self._tasks[job.service_id]
            self._rest()
        self._start_next(job.service_id)
        if not self.is_busy(job.service_id):
            self._on_idle()

    def _rest(self) -> None:
        if not self._running and not self._held:
            self._idle.set()
