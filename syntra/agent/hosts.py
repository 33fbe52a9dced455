"""Chooses and connects the runtime, and builds the parts that go with it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from syntra.agent.api.proxy_requests import ProxyControls
from syntra.agent.api.router import Certificates
from syntra.agent.api.service_views import Prober
from syntra.agent.changes import Changes
from syntra.agent.config.errors import ConfigurationError
from syntra.agent.config.load import Loaded
from syntra.agent.config.settings import Settings
from syntra.agent.health.readiness import Readiness
from syntra.agent.health.results import HealthResult
from syntra.agent.journal.journal import Journal
from syntra.agent.operations.service_queues import ServiceQueues
from syntra.agent.telemetry.process import TelemetryProcess
from syntra.health.restore_failures import RestoreFailure
from syntra.model.ids import ContainerId
from syntra.runtime.detect import Choice, RuntimeKind
from syntra.runtime.docker.endpoint import find_endpoint
from syntra.runtime.finder import find_runtime
from syntra.runtime.runtime import Runtime
from syntra.utils.errors import AgentError

Task = tuple[str, Coroutine[Any, Any, None]]
CLUSTER_ANSWERS_SECS = 5.0
DrainLog = Callable[[ContainerId], Awaitable[None]]


class HostReadiness(Readiness, Protocol):
    """Replicas' health, and the results to send."""

    def drain_results(self) -> tuple[HealthResult, ...]: ...


class Host(Protocol):
    """A runtime with the parts that only it needs."""

    @property
    def runtime(self) -> Runtime: ...

    @property
    def readiness(self) -> HostReadiness: ...

    @property
    def prober(self) -> Prober | None:
        """Checks the health of a replica now; None where only the runtime does."""

    @property
    def proxy(self) -> ProxyControls | None: ...

    @property
    def certificates(self) -> Certificates | None: ...

    @property
    def standby(self) -> str:
        """Why this agent does not act yet; empty when it does, and while that is not known."""

    async def turn(self) -> None:
        """Return when this agent may act: when no other one with its id does."""

    def standby_tasks(self) -> list[Task]:
        """The tasks that run from the start, also before the turn of this agent, by name."""

    def before_operations(self) -> list[Task]:
        """The tasks that run from the turn of this agent, by name."""

    def after_operations(self) -> list[Task]:
        """The tasks that start after unfinished operations resume, by name."""

    def telemetry_tasks(self, telemetry: TelemetryProcess, *, started_at: float) -> list[Task]:
        """The tasks that tell the telemetry process about senders, logs and endpoints, by name."""

    @property
    def restore_failures(self) -> Sequence[RestoreFailure]:
        """The replicas that cannot be restored."""

    @property
    def warnings(self) -> list[str]:
        """Warnings for `status`, one sentence each."""

    async def close(self) -> None:
        """Close what the tasks leave open, and let another agent act."""


class BuildHost(Protocol):
    """Builds the parts on a connected runtime."""

    def __call__(
        self,
        settings: Settings,
        *,
        owner: str,
        journal: Journal,
        changes: Changes,
        queues: ServiceQueues,
        group: asyncio.TaskGroup,
        drain_log: DrainLog | None,
    ) -> Host: ...


async def choose(loaded: Loaded) -> Choice:
    """The runtime to use on this machine, and why. Raises AgentError."""
    settings = loaded.settings
    return await find_runtime(settings.runtime, os.environ, settings.data_dir, cluster_answers=cluster_answers)


@asynccontextmanager
async def connected(loaded: Loaded, choice: Choice) -> AsyncIterator[BuildHost]:
    """Connect to the chosen runtime, for as long as the block. Raises AgentError."""
    if choice.kind is RuntimeKind.KUBERNETES:
        from syntra.agent import cluster_host
        from syntra.runtime.kubernetes.access import Access, Source, find_source
        from syntra.runtime.kubernetes.client import KubernetesClient

        source = Source(kubeconfig=choice.address) if choice.address else find_source(None, os.environ)
        if source is None:
            raise ConfigurationError(
                str(loaded.path), "runtime.kubernetes_config: there is no kubeconfig; set it to the path of one"
            )
        access = await Access.open(source)
        async with KubernetesClient(access) as client, KubernetesClient(access) as control:

            def on_cluster(settings: Settings, *, owner: str, journal: Journal, changes: Changes, **_: object) -> Host:
                return cluster_host.build(settings, client, control, owner=owner, journal=journal, changes=changes)

            yield on_cluster
        return

    from syntra.agent import container_host
    from syntra.runtime.docker.client import EngineClient

    async with EngineClient(find_endpoint(os.environ, choice.engine or None)) as engine:
        yield partial(container_host.build, client=engine)


async def cluster_answers(kubeconfig: Path) -> bool:
    """Whether the API server of a kubeconfig answers."""
    from syntra.runtime.kubernetes.access import Access, Source
    from syntra.runtime.kubernetes.client import KubernetesClient

    try:
        async with (
            asyncio.timeout(CLUSTER_ANSWERS_SECS),
            KubernetesClient(await Access.open(Source(kubeconfig=str(kubeconfig)))) as client,
        ):
            await client.read("GET", "/readyz", what="ask the cluster")
    except (AgentError, TimeoutError):
        return False
    return True
