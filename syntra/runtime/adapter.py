"""The interface every runtime adapter satisfies.

The ten operations of the product map onto it like this: `deploy`, `scale`, `stop`, `restart` and `rollback` are plans
(`runtime.plan`) whose steps are the primitives below, executed by one executor that journals them; `logs`, `exec`,
`metrics`, `status` and `list_services` are read straight from it.

Every method raises RuntimeUnavailable when the engine cannot be reached and StepFailed when it refuses. All are safe
to cancel; what a cancelled call did is found out by `observe`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.network import ProjectNetwork
from syntra.model.spec import Deployment, RegistryAuth
from syntra.model.status import ContainerExits, ExecResult, Figures, LogLine, Replica

# Called with 0–100 and a sentence while an image is pulled.
PullProgress = Callable[[int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeInfo:
    """What runs the containers."""

    name: str
    version: str
    api_version: str
    root_dir: str = ""
    """Where the engine keeps images and volumes, as its host sees it; empty when it does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRange:
    """Which lines: the last `tail`, within [since, until] (RFC 3339 or epoch seconds), and whether to go on."""

    tail: int
    follow: bool
    since: str | None = None
    until: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A replica together with the deployment it was made from, as far as its labels tell."""

    replica: Replica
    deployment: Deployment | None


class Adapter(Protocol):
    """A container runtime."""

    async def info(self) -> RuntimeInfo:
        """Version figures. Not cheap: an engine may run other programs to find out."""

    async def ping(self) -> None:
        """The cheapest proof that the engine takes calls; raises RuntimeUnavailable when it is down or goes down."""

    async def observe(self, service_id: ServiceId | None = None) -> list[Replica]:
        """Every container of ours, or of one service, in any state."""

    async def survey(self) -> list[Observed]:
        """`observe` of everything with the deployments: what a lost journal is rebuilt from."""

    async def inspect(self, container_id: ContainerId) -> Replica | None:
        """One container; None when it is gone."""

    async def has_image(self, deployment: Deployment) -> bool:
        """Whether the image of the deployment is here under its pin."""

    async def obtain_image(self, deployment: Deployment, auth: RegistryAuth | None, progress: PullProgress) -> str:
        """Pull and pin; returns a sentence when a present image stood in for the registry, else an empty string."""

    async def ensure_network(self, project: str) -> None:
        """Make the project's network when it is missing."""

    async def release_network(self, project: str) -> None:
        """Remove the project's network when no container of the project is left; address pools are finite."""

    async def networks(self, projects: frozenset[str]) -> list[ProjectNetwork]:
        """The networks of these projects, sorted by project; those that have none are left out."""

    async def ensure_volume(self, name: str) -> None:
        """Make a named volume when it is missing."""

    async def create(self, deployment: Deployment, index: int) -> tuple[ContainerId, str]:
        """Create a replica, not started; id and name. A container that an earlier, lost call made is adopted."""

    async def start(self, container_id: ContainerId) -> None:
        """Start a container and see that the engine keeps it up; no error when it runs."""

    async def stop(self, container_id: ContainerId, grace_secs: float) -> None:
        """Restart policy off, then SIGTERM, `grace_secs`, SIGKILL; no error when it is down or gone."""

    async def restart(self, container_id: ContainerId, grace_secs: float) -> None:
        """Restart a container, or start it when it is down."""

    async def remove(self, container_id: ContainerId) -> None:
        """Remove a container with its anonymous volumes and wait until its name is free; no error when it is gone."""

    async def tail(self, container_id: ContainerId, lines: int) -> list[LogLine]:
        """The last lines, for a failure report; empty when there are none to be had."""

    def logs(self, container_id: ContainerId, wanted: LogRange) -> AbstractAsyncContextManager[AsyncIterator[LogLine]]:
        """Lines as they come; with `follow`, across restarts until the container is gone. Not read, not fetched."""

    async def execute(
        self,
        container_id: ContainerId,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        working_dir: str | None,
        deadline_secs: float,
    ) -> ExecResult:
        """Run a command in a container; at the deadline its process is ended and StepFailed (EXEC_TIMEOUT) raised."""

    async def figures(self, container_id: ContainerId) -> Figures | None:
        """Resource use over about a second; None when the container does not run."""

    def quick_figures(self, replica: Replica) -> tuple[float, int] | None:
        """CPU percent since the last call for this container and memory bytes, without asking the engine."""

    async def collect_garbage(
        self, keep: Mapping[ServiceId, frozenset[DeploymentId]], known: frozenset[ServiceId]
    ) -> int:
        """Drop the image pins that services in `known` hold for deployments not in `keep`, and images only they
        needed; how many names went."""

    def drain_exits(self) -> ContainerExits:
        """What ended since the last call, without what our own stop, restart or remove ended. For one caller only.

        What the engine did not tell is found by comparing what `observe` shows; then `complete` is false. The first
        call never is complete.
        """

    async def wait_for_change(self) -> None:
        """Return when something happened to a container of ours, or the engine came or went."""
