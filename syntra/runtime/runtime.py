"""The interface between the agent and the runtime that runs its services.

A runtime observes a service, plans from desired and observed state, and performs the steps of the plan. It describes
each step for people and in the contract's terms, and provides logs, exec, metrics, exits and changes. The agent does
the rest and knows no particular runtime: journal, queues, executor, interruptions, the commit, reports.

Plans are level-based: computed from the current state, never from past actions. Planning again after any prefix of the
steps gives the rest, so an agent that was killed during any call observes and plans again. A rollback is a plan, too.

Each consumer declares which of these protocols it needs. Unless a method says otherwise, it raises RuntimeUnavailable
when the runtime cannot be reached and StepFailed when it refuses. All methods are safe to cancel: observing shows what
a cancelled call has done.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Protocol

from syntra.model.command import ExecStreams, Operation
from syntra.model.fields import Json
from syntra.model.figures import ContainerReading
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.image import ResolvedImage
from syntra.model.spec import Deployment, ServiceSpec
from syntra.model.status import ContainerExits, DeployState, ExecResult, LogLine, Phase, Replica
from syntra.runtime.copies import Copies
from syntra.utils.frozen import frozen


@frozen
class RuntimeInfo:
    """The runtime that runs the services."""

    name: str
    version: str
    api_version: str
    root_dir: str = ""
    """The host directory of images and volumes; empty when the runtime does not report it."""


@frozen
class LogRange:
    """The lines to read: the last `tail`, within [since, until] (RFC 3339 or epoch seconds); and whether to follow."""

    tail: int
    follow: bool
    since: str | None = None
    until: str | None = None


@frozen
class Surveyed:
    """A replica and the deployment it was created from, as far as the runtime's objects contain it."""

    replica: Replica
    deployment: Deployment | None


@frozen
class Ref:
    """A replica in a plan: by its id if it exists, else by its index."""

    name: str
    index: int
    container_id: ContainerId | None = None


@frozen
class Desired:
    """The target of an operation, as far as plans depend on it.

    `prior` are the containers that ran when the operation began: a rollback returns to them. `begun_at` is epoch
    seconds. `stage` is the number of canary steps that are done.
    """

    command: Operation
    deployment: Deployment | None
    replicas: int
    prior: frozenset[ContainerId] = frozenset()
    begun_at: float = 0.0
    is_committed: bool = False
    is_rolling_back: bool = False
    stage: int = 0
    at_fault: ContainerId | None = None
    """The container whose failure ended the operation, to be kept; None when there is none."""


class Step(Protocol):
    """One step of a plan; `str` gives its text for people."""

    phase: ClassVar[Phase]
    state: ClassVar[DeployState]


@frozen
class Plan:
    """Steps in order, and notes about decisions that a person should know.

    After a step of phase PULL_IMAGE the agent observes and plans again: only then is known what the image declares.
    """

    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()


@frozen
class ObjectPreview:
    """What a plan would do to one of the runtime's objects: `changes` one sentence each, none when it stays as it is.

    `manifest` is the object as it would be applied, without the values of secrets.
    """

    name: str
    changes: tuple[str, ...]
    manifest: Mapping[str, Json]


@frozen
class Commit:
    """The point of no return: from here the new version is the service's version. The agent performs it."""

    phase: ClassVar = Phase.CLEANUP
    state: ClassVar = DeployState.HEALTH_CHECKING

    def __str__(self) -> str:
        return "commit the new version"


@frozen
class Hold:
    """Keep a canary at its share for this time and watch it. The agent performs it. `number` counts steps from 1."""

    number: int
    replicas: tuple[Ref, ...]
    percent: int
    secs: float
    phase: ClassVar = Phase.HEALTH_CHECK
    state: ClassVar = DeployState.HEALTH_CHECKING

    def __str__(self) -> str:
        return f"hold the canary at {self.percent} % of the requests for {self.secs:g} s"


@frozen
class ForgetService:
    """Delete the stored data of a removed service. The runtime deletes its part first, then the agent its own."""

    phase: ClassVar = Phase.CLEANUP
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return "forget the service's kept deployments and images"


class OperationContext(Protocol):
    """The part of the running operation that steps need."""

    service_id: ServiceId

    @property
    def desired(self) -> Desired:
        """The current target; a commit, a rollback or a promotion changes it."""

    def interruptible(self, deadline: float) -> AbstractAsyncContextManager[None]:
        """Waits in this block raise Interrupted when the operation must end or `deadline` (loop time) has passed."""

    def report_pull(self, percent: int, text: str) -> None:
        """Report the progress of a pull, 0–100."""

    def remark(self, sentence: str) -> None:
        """Add a sentence for people to the report, once."""

    async def resolved(self, image: ResolvedImage) -> None:
        """The image of the desired deployment, before a container is created from it. It stays the same."""

    async def replaced(self, old: ContainerId, new: ContainerId) -> None:
        """A replica had to be created again: in the operation, `new` takes the place of `old`."""

    async def kept(self, deployment_id: DeploymentId) -> Deployment | None:
        """A deployment of the service from the journal."""

    async def current(self) -> Deployment | None:
        """The service's current deployment."""

    async def effective_spec(self, spec: ServiceSpec) -> ServiceSpec:
        """The spec, with the health check that applies to these replicas."""


class Observation(Protocol):
    """The observed state of a service; opaque to all but the runtime that made it."""

    @property
    def replicas(self) -> Sequence[Replica]: ...


class Rollout(Protocol):
    """The work of one operation on one service."""

    async def observe(self) -> Observation:
        """Observe the service, for the next plan. Refs by index are valid within one plan only."""

    def prior(self, observed: Observation) -> frozenset[ContainerId]:
        """The replicas to return to if an operation that begins now fails. Pure."""

    def plan(self, observed: Observation) -> Plan:
        """The steps from the observed to the desired state. Pure."""

    async def perform(self, step: Step, deadline: float) -> None:
        """Perform a step of the last plan. `deadline` is loop time. Also raises Interrupted."""

    def resolve(self, refs: Sequence[Ref]) -> list[ContainerId]:
        """The ids of refs of the last plan."""

    async def give_back(self) -> None:
        """The operation ended without a commit: give back what it took besides replicas, such as domains."""

    async def preview(self) -> Sequence[ObjectPreview]:
        """The objects that the last plan applies, where the runtime takes objects; nothing changes. Empty elsewhere."""

    def last_seen(self, step: Step) -> str:
        """What a step of the last plan that did not end saw last, for people; empty when it waits for nothing."""

    def progress(self, step: Step) -> str:
        """How far a step of the last plan is, for people, such as `2/3 healthy`; empty when there is nothing to say."""

    def at_fault(self, step: Step) -> ContainerId | None:
        """The container that a step of the last plan is about, to be kept when the step fails; None without one."""

    @property
    def created(self) -> Sequence[ContainerId]:
        """The replicas that the last plan has created so far."""


class Rollouts(Protocol):
    """Deploy, scale, stop, restart and rollback."""

    def rollout(self, context: OperationContext) -> Rollout:
        """Start the work of an operation. Has no effect yet."""

    async def check(self, deployment: Deployment, *, reserve: bool = True) -> None:
        """Raise RequestError when the runtime cannot carry out the deployment.

        With `reserve`, exclusive resources such as domains are reserved for the operation that is about to begin.
        """

    async def obstacles(self, deployment: Deployment) -> list[str]:
        """Why the deployment would fail here as things are now, one sentence each, for a plan; not a promise."""


class Availability(Protocol):
    """Whether the runtime answers, and its version."""

    @property
    def name(self) -> str:
        """For example `docker`."""

    async def info(self) -> RuntimeInfo:
        """Versions. Not cheap: an engine may run other programs for it."""

    async def ping(self) -> None:
        """The cheapest check that the runtime accepts calls; raises RuntimeUnavailable when it is down or stopping."""


class Replicas(Protocol):
    """The existing replicas."""

    async def observe(self, service_id: ServiceId | None = None) -> Sequence[Replica]:
        """Every replica of the agent, or of one service, in any state."""

    async def inspect(self, container_id: ContainerId) -> Replica | None:
        """One replica; None when it is gone."""


class Survey(Protocol):
    """The input for rebuilding a lost journal."""

    async def survey(self) -> Sequence[Surveyed]:
        """Every replica of the agent, with its deployment."""


class Failures(Protocol):
    """What failed deployments have left for inspection."""

    async def failed(self, service_id: ServiceId | None = None) -> Sequence[Surveyed]:
        """What is kept of the last failed deployment of each service, or of one: stopped, and no replica.

        It is in no other list; `Logs` has its output. Empty where the runtime keeps nothing.
        """


class Logs(Protocol):
    """The output of replicas."""

    async def tail(self, container_id: ContainerId, lines: int) -> list[LogLine]:
        """The last lines, for a failure report; empty when there are none."""

    def logs(self, container_id: ContainerId, wanted: LogRange) -> AbstractAsyncContextManager[AsyncIterator[LogLine]]:
        """Lines as they arrive; with `follow`, across restarts until the replica is removed. Reads only on demand."""


class ExecSession(Protocol):
    """A command that runs in a replica, with its streams. Reading and writing may happen at the same time."""

    async def read(self) -> Sequence[tuple[bool, bytes]]:
        """The next output, as (whether it is standard error, bytes); empty once it has ended. Not read, it waits."""

    async def write(self, data: bytes) -> None:
        """Send to its input, waiting while it does not read. Raises RuntimeFailure once it takes no more."""

    def end_input(self) -> None:
        """Close its input."""

    async def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal."""

    async def exit_code(self) -> int:
        """Wait for its end, after its output's; the exit code."""


class Exec(Protocol):
    """Commands inside replicas."""

    def attach(
        self,
        container_id: ContainerId,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        working_dir: str | None,
        streams: ExecStreams,
    ) -> AbstractAsyncContextManager[ExecSession]:
        """Start a command; the block has its streams. Leaving the block before `exit_code` returned ends it."""

    async def execute(
        self,
        container_id: ContainerId,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        working_dir: str | None,
        deadline_secs: float,
    ) -> ExecResult:
        """Run a command and keep the beginning of its output.

        At the deadline its processes are ended and ExecTimedOut is raised, with the output so far.
        """


class Usage(Protocol):
    """Resource use of replicas."""

    async def readings(self, replicas: Sequence[Replica]) -> Mapping[ContainerId, ContainerReading]:
        """What these replicas use now. Replicas are left out if they do not run or cannot be measured."""


class Retention(Protocol):
    """What is kept for rollbacks."""

    async def collect_garbage(
        self, keep: Mapping[ServiceId, frozenset[DeploymentId]], known: frozenset[ServiceId]
    ) -> int:
        """Remove images and the like of services in `known` for deployments not in `keep`; return how many objects."""


class Exits(Protocol):
    """Replicas that exited."""

    def drain_exits(self) -> ContainerExits:
        """The exits since the last call, except those of the agent's own stop, restart or remove. One caller only.

        Exits that the runtime did not report are found by comparing observations; then `complete` is false, as it is in
        the first call.
        """


class Watched(Protocol):
    """Notification of changes."""

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Until cancelled, call `on_change` after a replica of the agent has changed, or the runtime came or went.

        One call may stand for several changes. Events are hints, not facts: observe after each.
        """


class Runtime(
    Rollouts, Availability, Replicas, Survey, Failures, Logs, Exec, Copies, Usage, Retention, Exits, Watched, Protocol
):
    """All that an agent needs of a runtime."""
