"""A second runtime, in memory: it takes a whole service at once and replaces instances by itself, as a cluster does.

Its plans have steps of its own, no containers, no addresses and no readiness. It is the proof that the seam holds.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

from syntra.model.command import Deploy, ExecStreams, Restart, Rollback, Scale, Stop
from syntra.model.figures import ContainerReading
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.spec import Deployment
from syntra.model.status import ContainerExits, DeployState, ExecResult, LogLine, Phase, Replica, ReplicaStatus
from syntra.runtime.errors import RuntimeUnavailable, StepFailed
from syntra.runtime.runtime import (
    Commit,
    ForgetService,
    LogRange,
    ObjectPreview,
    Observation,
    OperationContext,
    Plan,
    Ref,
    RuntimeInfo,
    Step,
    Surveyed,
)
from syntra.runtime.tar_copies import TarCopies
from syntra.utils.timestamps import format_ns
from tests.agent.fake_session import FakeSession

READY_SECS = 1.0


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One instance, ready READY_SECS after it was started; with FAIL=exit in its environment it never is."""

    container_id: ContainerId
    name: str
    deployment: Deployment
    index: int
    created_ns: int
    started_ns: int | None
    is_up: bool = True
    restart_count: int = 0
    exit_code: int | None = None
    oom_killed: bool = False

    @property
    def service_id(self) -> ServiceId:
        return self.deployment.spec.service_id

    @property
    def deployment_id(self) -> DeploymentId:
        return self.deployment.deployment_id

    @property
    def is_running(self) -> bool:
        return self.is_up

    @property
    def status(self) -> ReplicaStatus:
        return ReplicaStatus.RUNNING if self.is_up else ReplicaStatus.STOPPED

    @property
    def state_name(self) -> str:
        return "Running" if self.is_up else "Succeeded"

    @property
    def place(self) -> str:
        return ""


@dataclass(frozen=True, kw_only=True)
class Seen:
    replicas: Sequence[Instance]


@dataclass(frozen=True, kw_only=True)
class Apply:
    """Have the cluster run so many instances of a deployment; None: of the one that is the service's state."""

    deployment: Deployment | None
    replicas: int
    phase: ClassVar = Phase.CREATE_CONTAINER
    state: ClassVar = DeployState.CREATING

    def __str__(self) -> str:
        return f"apply {self.deployment.deployment_id if self.deployment else 'the previous revision'}"


@dataclass(frozen=True, kw_only=True)
class AwaitRollout:
    """Wait until the cluster says that they are ready."""

    phase: ClassVar = Phase.HEALTH_CHECK
    state: ClassVar = DeployState.HEALTH_CHECKING

    def __str__(self) -> str:
        return "await the rollout"


class TinyRuntime:
    """`runtime.runtime.Runtime`. `away`: nobody answers."""

    name = "tiny"

    def __init__(self) -> None:
        self.instances: dict[ContainerId, Instance] = {}
        self.away = False
        self.copy = TarCopies(self).copy
        self.applied: list[str] = []
        self._listeners: list[Callable[[], None]] = []
        self._ids = itertools.count(1)
        self._is_complete = False

    def rollout(self, context: OperationContext) -> TinyRollout:
        return TinyRollout(self, context)

    async def check(self, deployment: Deployment, *, reserve: bool = True) -> None:
        return

    async def obstacles(self, deployment: Deployment) -> list[str]:
        return []

    async def info(self) -> RuntimeInfo:
        self._ask()
        return RuntimeInfo(name=self.name, version="0.1", api_version="1.0")

    async def ping(self) -> None:
        self._ask()

    async def observe(self, service_id: ServiceId | None = None) -> Sequence[Instance]:
        self._ask()
        return [i for i in self.instances.values() if service_id in (None, i.service_id)]

    async def survey(self) -> Sequence[Surveyed]:
        return [Surveyed(replica=i, deployment=i.deployment) for i in await self.observe()]

    async def failed(self, service_id: ServiceId | None = None) -> Sequence[Surveyed]:
        # A cluster keeps the logs of what failed elsewhere.
        self._ask()
        return []

    async def inspect(self, container_id: ContainerId) -> Instance | None:
        self._ask()
        return self.instances.get(container_id)

    async def tail(self, container_id: ContainerId, lines: int) -> list[LogLine]:
        return self._lines(container_id)[-lines:]

    @asynccontextmanager
    async def logs(self, container_id: ContainerId, wanted: LogRange) -> AsyncIterator[AsyncIterator[LogLine]]:
        lines = self._lines(container_id)

        async def them() -> AsyncIterator[LogLine]:
            for line in lines:
                yield line

        yield them()

    async def execute(
        self,
        container_id: ContainerId,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        working_dir: str | None,
        deadline_secs: float,
    ) -> ExecResult:
        self._known(container_id)
        return ExecResult(exit_code=0, stdout=f"{' '.join(argv[1:])}\n".encode(), stderr=b"")

    @asynccontextmanager
    async def attach(
        self,
        container_id: ContainerId,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        working_dir: str | None,
        streams: ExecStreams,
    ) -> AsyncIterator[FakeSession]:
        self._known(container_id)
        yield FakeSession(argv)

    async def readings(self, replicas: Sequence[Replica]) -> Mapping[ContainerId, ContainerReading]:
        return {
            one.container_id: ContainerReading(at_ns=1, cpu_ns=1, memory_bytes=1024, pids=1)
            for one in replicas
            if one.is_running
        }

    async def collect_garbage(
        self, keep: Mapping[ServiceId, frozenset[DeploymentId]], known: frozenset[ServiceId]
    ) -> int:
        return 0

    def drain_exits(self) -> ContainerExits:
        was_complete, self._is_complete = self._is_complete, True
        return ContainerExits(complete=was_complete)

    async def watch(self, on_change: Callable[[], None]) -> None:
        self._listeners.append(on_change)
        try:
            await asyncio.Event().wait()
        finally:
            self._listeners.remove(on_change)

    def apply(self, deployment: Deployment, replicas: int) -> None:
        """What the cluster does with it: those of another deployment go as the new ones come."""
        self._ask()
        self.applied.append(deployment.deployment_id)
        of_service = [i for i in self.instances.values() if i.service_id == deployment.spec.service_id]
        mine = [i for i in of_service if i.deployment_id == deployment.deployment_id]
        for gone in (*(i for i in of_service if i not in mine), *mine[replicas:]):
            del self.instances[gone.container_id]
        for instance in mine[:replicas]:
            self.instances[instance.container_id] = replace(instance, is_up=True)
        for index in range(len(mine) + 1, replicas + 1):
            self._add(deployment, index)
        self.tell()

    def tell(self) -> None:
        for listener in self._listeners:
            listener()

    def _add(self, deployment: Deployment, index: int) -> None:
        container_id = ContainerId(f"{deployment.spec.service_id}-{next(self._ids):05}")
        now = time.time_ns()
        self.instances[container_id] = Instance(
            container_id=container_id,
            name=container_id,
            deployment=deployment,
            index=index,
            created_ns=now,
            started_ns=now,
        )

    def _lines(self, container_id: ContainerId) -> list[LogLine]:
        instance = self._known(container_id)
        return [LogLine(timestamp=format_ns(instance.created_ns), stream="stdout", message="serving")]

    def _known(self, container_id: ContainerId) -> Instance:
        self._ask()
        if container_id not in self.instances:
            raise StepFailed("CONTAINER_NOT_FOUND", f"no such instance: {container_id}", container_id=container_id)
        return self.instances[container_id]

    def _ask(self) -> None:
        if self.away:
            raise RuntimeUnavailable("cannot reach the cluster: it does not answer; check that it runs")


class TinyRollout:
    """Two steps forward, two back."""

    def __init__(self, runtime: TinyRuntime, context: OperationContext) -> None:
        self._runtime = runtime
        self._context = context
        self._seen: Sequence[Instance] = ()

    created: Sequence[ContainerId] = ()

    async def observe(self) -> Seen:
        self._seen = await self._runtime.observe(self._context.service_id)
        return Seen(replicas=self._seen)

    def prior(self, observed: Observation) -> frozenset[ContainerId]:
        return frozenset(replica.container_id for replica in observed.replicas)

    def plan(self, observed: Observation) -> Plan:
        desired = self._context.desired
        if desired.is_rolling_back:
            replicas = len(desired.prior)
            return Plan(steps=(Apply(deployment=None, replicas=replicas), AwaitRollout()))
        match desired.command:
            case Deploy() | Rollback() | Scale():
                if desired.is_committed:
                    return Plan(steps=())
                apply = Apply(deployment=desired.deployment, replicas=desired.replicas)
                return Plan(steps=(apply, AwaitRollout(), Commit()))
            case Restart():
                return Plan(steps=(AwaitRollout(), Commit()))
            case Stop(remove=remove):
                down = Apply(deployment=desired.deployment, replicas=0)
                return Plan(steps=(Commit(), down, ForgetService()) if remove else (Commit(), down))

    async def perform(self, step: Step, deadline: float) -> None:
        match step:
            case Apply(deployment=deployment, replicas=replicas):
                deployment = deployment or await self._context.current()
                if deployment is not None:
                    self._runtime.apply(deployment, replicas)
                else:
                    for instance in await self._runtime.observe(self._context.service_id):
                        del self._runtime.instances[instance.container_id]
            case AwaitRollout():
                async with self._context.interruptible(deadline):
                    await asyncio.sleep(READY_SECS)
                for instance in await self._runtime.observe(self._context.service_id):
                    if instance.deployment.spec.env.get("FAIL") == "exit":
                        sentence = f"{instance.name}: exited with code 3"
                        raise StepFailed("CONTAINER_CRASHED", sentence, container_id=instance.container_id)
            case ForgetService():
                self._runtime.tell()
            case _:
                raise AssertionError(f"no plan here has {type(step).__name__}")

    def resolve(self, refs: Sequence[Ref]) -> list[ContainerId]:
        raise AssertionError("no plan here holds a canary")

    async def give_back(self) -> None:
        return

    def at_fault(self, step: Step) -> ContainerId | None:
        return None

    async def preview(self) -> Sequence[ObjectPreview]:
        return ()

    def last_seen(self, step: Step) -> str:
        return ""

    def progress(self, step: Step) -> str:
        return ""
