"""One operation on one service, from acceptance to report: what it is about and how it is interrupted."""

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
    """How far an operation is, in the journal's words."""

    WAITING = "waiting"
    RUNNING = "running"
    COMMITTED = "committed"
    UNWINDING = "unwinding"


class Interruption(enum.Enum):
    """Why an operation does not go on."""

    SUPERSEDED = "superseded"
    DEADLINE = "deadline"
    SHUTDOWN = "shutdown"
    ABORTED = "aborted"


class Interrupted(AgentError):
    """The operation was told to end at its next safe point."""

    def __init__(self, cause: Interruption) -> None:
        super().__init__(f"interrupted: {cause.value}")
        self.cause = cause


@dataclass(slots=True, kw_only=True)
class Job:
    """An accepted operation. Mutable: its owner is the lane it runs in.

    `deployment` is what a deploy, rollback, scale or restart is about; None for a stop of something unknown.
    """

    command: Operation
    kind: str
    origin: str
    deployment: Deployment | None
    replicas: int
    phase: OperationPhase = OperationPhase.WAITING
    prior: frozenset[ContainerId] = frozenset()
    begun_at: float | None = None
    # What an earlier run of the agent had already decided to report, as JSON.
    reason: str = ""
    # Whether the command has had its `command_response`.
    answered: bool = False
    interruption: Interruption | None = None
    # How many steps of a canary are over.
    stage: int = 0
    is_holding: bool = False
    promoted: asyncio.Event = field(default_factory=asyncio.Event)
    _scopes: list[asyncio.Timeout] = field(default_factory=list)

    @property
    def service_id(self) -> ServiceId:
        return self.command.service_id

    @property
    def deployment_id(self) -> DeploymentId:
        return self.deployment.deployment_id if self.deployment else DeploymentId("")

    @property
    def reports_deployment(self) -> bool:
        """Whether the terminal report is a `deploy_status` (long work) or the response itself."""
        return isinstance(self.command, Deploy | Rollback | Scale)

    @property
    def is_canary(self) -> bool:
        """Whether new replicas get the requests step by step. A rollback never does: it is for when time presses."""
        strategy = self.deployment.strategy if self.deployment is not None else None
        return isinstance(self.command, Deploy) and strategy is Strategy.CANARY

    @property
    def can_be_decided(self) -> bool:
        """Whether it is a canary beside what served before, and neither decided nor asked to end."""
        is_under_way = self.phase is OperationPhase.RUNNING and self.interruption is None
        return self.is_canary and is_under_way and bool(self.prior)

    @property
    def replaces_others(self) -> bool:
        """Whether it makes waiting and running work on the same service pointless."""
        return isinstance(self.command, Deploy | Rollback | Stop)

    def interrupt(self, cause: Interruption) -> None:
        """Ask the job to end at its next safe point; waits that are safe to leave end at once.

        Past the commit, and while unwinding, only a shutdown counts: what is left is short and must be done.
        """
        settled = self.phase in (OperationPhase.COMMITTED, OperationPhase.UNWINDING)
        if settled and cause is not Interruption.SHUTDOWN:
            return
        if self.interruption is None or cause is Interruption.SHUTDOWN:
            self.interruption = cause
        for scope in self._scopes:
            if not scope.expired():
                scope.reschedule(asyncio.get_running_loop().time())

    def promote(self, stage: int) -> None:
        """All holds are over: `stage` steps are. A hold that goes on ends at once."""
        self.stage = max(self.stage, stage)
        self.promoted.set()

    def settle(self) -> None:
        """The commit is made: what asked for an end while it was being written came too late, except for a shutdown."""
        self.phase = OperationPhase.COMMITTED
        if self.interruption is not Interruption.SHUTDOWN:
            self.interruption = None

    def safe_point(self) -> None:
        """Raise Interrupted when the job was told to end."""
        if self.interruption is not None:
            raise Interrupted(self.interruption)

    @asynccontextmanager
    async def interruptible(self, deadline: float) -> AsyncIterator[None]:
        """A block whose waits may be left at any await: Interrupted at `deadline` (loop time) or when interrupted."""
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
        """What it is to reach, for plans."""
        return Desired(
            command=self.command,
            deployment=self.deployment,
            replicas=self.replicas,
            prior=self.prior,
            begun_at=self.begun_at or 0.0,
            is_committed=self.phase is OperationPhase.COMMITTED,
            is_rolling_back=self.phase is OperationPhase.UNWINDING,
            stage=self.stage,
        )


def abort_reason(job: Job) -> Failure:
    """What is reported of a canary that was told to end."""
    return Failure(code=Interruption.ABORTED.name, message=f"the canary of {job.service_id} was aborted")
