"""The seam between the agent and what runs its services.

A runtime observes a service, plans from desired and observed, and performs the steps of that plan. It says what each
step is, for people and in the contract's words, and it answers for logs, exec, figures, exits and changes. The agent
owns the rest and knows no runtime: journal, queues, executor, interruptions, the commit, reports.

Plans are level-based: made from what is there now, never from what was done before. Planning again after any prefix of
the steps gives the rest, so an agent that was killed at any call observes and plans again. Undoing is a plan too.

Each consumer declares what it needs of a runtime; the protocols here are the parts it may choose from. Unless a method
says otherwise it raises RuntimeUnavailable when the runtime cannot be reached and StepFailed when it refuses, and it is
safe to cancel: what a cancelled call did is found out by observing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Protocol

from syntra.model.command import Operation
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.image import ResolvedImage
from syntra.model.spec import Deployment, ServiceSpec
from syntra.model.status import ContainerExits, DeployState, ExecResult, Figures, LogLine, Phase, Replica
from syntra.utils.frozen import frozen


@frozen
class RuntimeInfo:
    """What runs the services."""

    name: str
    version: str
    api_version: str
    root_dir: str = ""
    """Where images and volumes are kept on this host; empty when the runtime does not tell."""


@frozen
class LogRange:
    """Which lines: the last `tail`, within [since, until] (RFC 3339 or epoch seconds), and whether to follow."""

    tail: int
    follow: bool
    since: str | None = None
    until: str | None = None


@frozen
class Surveyed:
    """A replica with the deployment it was made from, as far as the runtime's objects tell."""

    replica: Replica
    deployment: Deployment | None


@frozen
class Ref:
    """A replica in a plan: by its id when it exists, by its index while it is still to be created."""

    name: str
    index: int
    container_id: ContainerId | None = None


@frozen
class Desired:
    """What an operation is to reach, as far as plans depend on it.

    `prior` is what was running when the operation began: what a failed operation returns to. `begun_at` is epoch
    seconds. `stage` is how many steps of a canary are over.
    """

    command: Operation
    deployment: Deployment | None
    replicas: int
    prior: frozenset[ContainerId] = frozenset()
    begun_at: float = 0.0
    is_committed: bool = False
    is_rolling_back: bool = False
    stage: int = 0


class Step(Protocol):
    """One step of a plan; `str` is its text for people."""

    phase: ClassVar[Phase]
    state: ClassVar[DeployState]


@frozen
class Plan:
    """Steps in order, and sentences about decisions that a person should know of."""

    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()


@frozen
class Commit:
    """The point of no return: from here the new state is the service's state. The agent performs it."""

    phase: ClassVar = Phase.CLEANUP
    state: ClassVar = DeployState.HEALTH_CHECKING

    def __str__(self) -> str:
        return "commit the new version"


@frozen
class Hold:
    """Leave a canary at its share for so long, and watch it. The agent performs it. `number` counts steps from 1."""

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
    """Drop what is kept of a removed service. The runtime drops its part first, then the agent its own."""

    phase: ClassVar = Phase.CLEANUP
    state: ClassVar = DeployState.STARTING

    def __str__(self) -> str:
        return "forget the service's kept deployments and images"


class OperationContext(Protocol):
    """What performing steps needs of the operation under way."""

    service_id: ServiceId

    @property
    def desired(self) -> Desired:
        """As it is now: committed or rolling back since, promoted since."""

    def interruptible(self, deadline: float) -> AbstractAsyncContextManager[None]:
        """A block whose waits end, by Interrupted, when the operation is to end or `deadline` (loop time) has come."""

    def report_pull(self, percent: int, text: str) -> None:
        """Progress of getting an image, 0–100."""

    def remark(self, sentence: str) -> None:
        """Something a person should know; it goes into the report, once."""

    async def resolved(self, image: ResolvedImage) -> None:
        """Which image the desired deployment is made of, before anything is made of it. It stays that one."""

    async def kept(self, deployment_id: DeploymentId) -> Deployment | None:
        """A deployment of the service that the journal keeps."""

    async def current(self) -> Deployment | None:
        """The deployment that is the service's state."""

    async def effective_spec(self, spec: ServiceSpec) -> ServiceSpec:
        """The spec with the health check that holds for the replicas in question."""


class Observation(Protocol):
    """What one look at a service found; only the runtime it came from knows all of it."""

    @property
    def replicas(self) -> Sequence[Replica]: ...


class Rollout(Protocol):
    """One operation's work on one service."""

    async def observe(self) -> Observation:
        """Look at the service, for the next plan. Names by index in steps are those of one plan only."""

    def prior(self, observed: Observation) -> frozenset[ContainerId]:
        """What an operation that begins now returns to when it fails. Pure."""

    def plan(self, observed: Observation) -> Plan:
        """The steps from what was observed to what is desired now. Pure."""

    async def perform(self, step: Step, deadline: float) -> None:
        """Perform a step of the last plan. `deadline` is loop time. Raises Interrupted too."""

    def resolve(self, refs: Sequence[Ref]) -> list[ContainerId]:
        """The ids behind refs of the last plan."""

    def is_restored(self) -> bool:
        """After a rollback's plan was performed: whether what was running before is running again."""

    @property
    def created(self) -> Sequence[ContainerId]:
        """What the last plan has created so far."""


class Rollouts(Protocol):
    """Deploy, scale, stop, restart and rollback."""

    def rollout(self, context: OperationContext) -> Rollout:
        """Begin an operation's work. Does nothing yet."""

    async def check(self, deployment: Deployment, *, reserve: bool = True) -> None:
        """Raise RequestError when the deployment cannot be carried out here as it asks.

        With `reserve` what it needs for itself alone, such as domains, is kept for the operation about to begin.
        """


class Availability(Protocol):
    """Whether the runtime answers, and what it is."""

    @property
    def name(self) -> str:
        """Such as `docker`."""

    async def info(self) -> RuntimeInfo:
        """Version figures. Not cheap: an engine may run other programs to find out."""

    async def ping(self) -> None:
        """The cheapest proof that the runtime takes calls; raises RuntimeUnavailable when it is down or goes down."""


class Replicas(Protocol):
    """What is there."""

    async def observe(self, service_id: ServiceId | None = None) -> Sequence[Replica]:
        """Every replica of ours, or of one service, in any state."""

    async def inspect(self, container_id: ContainerId) -> Replica | None:
        """One replica; None when it is gone."""


class Survey(Protocol):
    """What a lost journal is rebuilt from."""

    async def survey(self) -> Sequence[Surveyed]:
        """Every replica of ours, with its deployment."""


class Logs(Protocol):
    """What replicas write."""

    async def tail(self, container_id: ContainerId, lines: int) -> list[LogLine]:
        """The last lines, for a failure report; empty when there are none to be had."""

    def logs(self, container_id: ContainerId, wanted: LogRange) -> AbstractAsyncContextManager[AsyncIterator[LogLine]]:
        """Lines as they come; with `follow`, across restarts until the replica is gone. Not read, not fetched."""


class Exec(Protocol):
    """Commands inside replicas."""

    async def execute(
        self,
        container_id: ContainerId,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        working_dir: str | None,
        deadline_secs: float,
    ) -> ExecResult:
        """Run a command; at the deadline its process is ended and StepFailed (EXEC_TIMEOUT) raised."""


class Usage(Protocol):
    """Resource use of replicas."""

    async def figures(self, container_id: ContainerId) -> Figures | None:
        """Over about a second; None when the replica does not run."""

    def quick_figures(self, replica: Replica) -> tuple[float, int] | None:
        """CPU percent since the last call for this replica and memory bytes, at no cost; None when it does not run."""


class Retention(Protocol):
    """What is kept so that a service can be rolled back."""

    async def collect_garbage(
        self, keep: Mapping[ServiceId, frozenset[DeploymentId]], known: frozenset[ServiceId]
    ) -> int:
        """Drop what services in `known` hold for deployments not in `keep`, such as images; how many objects went."""


class Exits(Protocol):
    """Replicas that ended."""

    def drain_exits(self) -> ContainerExits:
        """What ended since the last call, without what our own stop, restart or remove ended. For one caller only.

        What the runtime did not tell is found by comparing what `observe` shows; then `complete` is false. The first
        call never is complete.
        """


class Watched(Protocol):
    """Changes as they happen."""

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Until cancelled, call `on_change` after something happened to a replica of ours, or the runtime came or went.

        A burst of changes may be told together. Events are hints and never the truth: whoever hears of one looks.
        """


class Runtime(Rollouts, Availability, Replicas, Survey, Logs, Exec, Usage, Retention, Exits, Watched, Protocol):
    """Everything an agent needs of what runs its services."""
