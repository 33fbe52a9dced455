"""One operation on one service, from acceptance to report: its target, its phase, and how it is interrupted."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from syntra.model.command import Deploy, Operation, Rollback, Scale, Stop
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.spec import Deployment, Strategy
from syntra.model.status import Failure
from syntra.runtime.runtime import Desired
from syntra.utils.errors import AgentError


class OperationPhase(enum.Enum):
    """The phase of an operation, as the journal stores it."""

    WAITING = "waiting"
    RUNNING = "running"
    COMMITTED = "committed"
    # Its older name is stored in journals.
    ROLLING_BACK = "unwinding"


class Interruption(enum.Enum):
    """Why an operation is interrupted."""

    SUPERSEDED = "superseded"
    DEADLINE = "deadline"
    SHUTDOWN = "shutdown"
    ABORTED = "aborted"
    CANCELLED = "cancelled"


class Interrupted(AgentError):
    """The operation ends at a safe point, as requested or at its deadline."""

    def __init__(self, cause: Interruption) -> None:
        super().__init__(f"interrupted: {cause.value}")
        self.cause = cause


@dataclass(slots=True, kw_only=True)
class Job:
    """An accepted operation. Mutable: its owner is the queue that runs it.

    `deployment` is the target of a deploy, rollback, scale or restart; None for the stop of an unknown service.
    """

    command: Operation
    kind: str
    origin: str
    deployment: Deployment | None
    replicas: int
    phase: OperationPhase = OperationPhase.WAITING
    prior: frozenset[ContainerId] = frozenset()
    begun_at: float | None = None
    # The failure to report, as JSON, when a rollback has begun.
    reason: str = ""
    # The person who asked, as the command says; empty where it does not.
    requested_by: str = ""
    # The container whose failure ended the operation, when a rollback has begun.
    at_fault: ContainerId | None = None
    # Whether the command has its `command_response`.
    answered: bool = False
    interruption: Interruption | None = None
    # The number of canary steps that are complete.
    stage: int = 0
    is_holding: bool = False
    # Set to end the running hold; `decisions` counts how often that happened.
    promoted: asyncio.Event = field(default_factory=asyncio.Event)
    decisions: int = 0
    _scopes: list[asyncio.Timeout] = field(default_factory=list)

    @property
    def service_id(self) -> ServiceId:
        return self.command.service_id

    @property
    def deployment_id(self) -> DeploymentId:
        return self.deployment.deployment_id if self.deployment else DeploymentId("")

    @property
    def reports_deployment(self) -> bool:
        """Whether the terminal report is a `deploy_status`; otherwise it is the response."""
        return isinstance(self.command, Deploy | Rollback | Scale)

    @property
    def brings_deployment(self) -> bool:
        """Whether it makes another deployment the current one of its service."""
        return isinstance(self.command, Deploy | Rollback)

    @property
    def is_canary(self) -> bool:
        """Whether requests shift to new replicas step by step. Never for a rollback, which must be quick."""
        strategy = self.deployment.strategy if self.deployment is not None else None
        return isinstance(self.command, Deploy) and strategy is Strategy.CANARY

    @property
    def can_be_decided(self) -> bool:
        """Whether it can be promoted or aborted: a running canary beside an earlier deployment, not interrupted."""
        is_under_way = self.phase is OperationPhase.RUNNING and self.interruption is None
        return self.is_canary and is_under_way and bool(self.prior)

    @property
    def replaces_others(self) -> bool:
        """Whether it supersedes waiting and running operations on the same service."""
        return isinstance(self.command, Deploy | Rollback | Stop)

    def interrupt(self, cause: Interruption) -> None:
        """Interrupt the job at its next safe point; interruptible waits end at once.

        After the commit and during a rollback, only a shutdown has an effect: the remaining work must be done.
        """
        is_decided = self.phase in (OperationPhase.COMMITTED, OperationPhase.ROLLING_BACK)
        if is_decided and cause is not Interruption.SHUTDOWN:
            return
        if self.interruption is None or cause is Interruption.SHUTDOWN:
            self.interruption = cause
        for scope in self._scopes:
            if not scope.expired():
                scope.reschedule(asyncio.get_running_loop().time())

    def promote(self, stage: int) -> None:
        """`stage` steps count as complete: all, or those before a greater share. A running hold ends at once."""
        self.stage = max(self.stage, stage)
        self.decisions += 1
        self.promoted.set()

    def mark_committed(self) -> None:
        """Mark the job as committed. An interruption during the commit came too late, unless it is a shutdown."""
        self.phase = OperationPhase.COMMITTED
        if self.interruption is not Interruption.SHUTDOWN:
            self.interruption = None

    def safe_point(self) -> None:
        """Raise Interrupted when the job is interrupted."""
        if self.interruption is not None:
            raise Interrupted(self.interruption)

    @asynccontextmanager
    async def interruptible(self, deadline: float) -> AsyncIterator[None]:
        """A block that may end at any await: raises Interrupted at `deadline` (loop time) or when interrupted."""
        self.safe_point()
        scope = asyncio.timeout_at(deadline)
        try:
            async with scope:
                self._scopes.append(scope)
                try:
                    yield
                finally:
                    self._scopes.remove(scope)
        except TimeoutError:
            if not scope.expired():
                raise
            raise Interrupted(self.interruption or Interruption.DEADLINE) from None

    def desired(self) -> Desired:
        """The desired state, for plans."""
        return Desired(
            command=self.command,
            deployment=self.deployment,
            replicas=self.replicas,
            prior=self.prior,
            begun_at=self.begun_at or 0.0,
            is_committed=self.phase is OperationPhase.COMMITTED,
            is_rolling_back=self.phase is OperationPhase.ROLLING_BACK,
            stage=self.stage,
            at_fault=self.at_fault,
        )


def cancel_reason(job: Job) -> Failure:
    """The failure to report for a cancelled deployment."""
    return Failure(code=Interruption.CANCELLED.name, message=f"the {job.kind} of {job.service_id} was cancelled")


def abort_reason(job: Job) -> Failure:
    """The failure to report for an aborted canary."""
    return Failure(code=Interruption.ABORTED.name, message=f"the canary of {job.service_id} was aborted")
