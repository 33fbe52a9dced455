"""A cluster's pods as sources of telemetry: who sends, what to scrape, whose logs to read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from syntra.agent.telemetry.deployments import Deployments, with_deployments
from syntra.model.ids import ContainerId
from syntra.model.log_source import LogSource
from syntra.model.network import ProjectNetwork
from syntra.model.status import LogLine
from syntra.runtime.kubernetes.pods import PodReplica
from syntra.runtime.runtime import LogRange

DRIVER = "kubernetes"
# A stream that begins without a place reads what the nodes still have.
MOST_LINES = 1_000_000_000


class Pods(Protocol):
    """What of the runtime is needed."""

    async def observe(self) -> Sequence[PodReplica]: ...

    def logs(
        self, container_id: ContainerId, wanted: LogRange
    ) -> AbstractAsyncContextManager[AsyncIterator[LogLine]]: ...


class ClusterSources:
    """What the telemetry tasks ask of a container engine, answered by a cluster."""

    def __init__(self, pods: Pods, deployments: Deployments) -> None:
        self._pods = pods
        self._deployments = deployments

    async def observe(self) -> Sequence[PodReplica]:
        """The pods of all services."""
        return await self._pods.observe()

    async def networks(self, projects: frozenset[str]) -> list[ProjectNetwork]:
        """None: pods send to the agent's Service."""
        return []

    async def log_sources(self, *, everything: bool) -> list[LogSource]:
        """The pods whose logs are read through the API server. A cluster's other pods are not the agent's to read."""
        started = [pod for pod in await self._pods.observe() if pod.started_ns is not None or pod.restart_count]
        return [
            LogSource(
                container_id=pod.container_id,
                name=pod.name,
                image=pod.image,
                driver=DRIVER,
                path="",
                created_ns=pod.created_ns,
                is_running=pod.is_running,
                labels={},
                deployment=deployment,
            )
            for pod, deployment in await with_deployments(started, self._deployments)
        ]

    def follow_others(self, on_change: Callable[[], None]) -> None:
        """None are read, so none are followed."""

    def log_stream(
        self, container_id: ContainerId, since: str | None
    ) -> AbstractAsyncContextManager[AsyncIterator[LogLine]]:
        """The lines of a pod from a time on, until it is removed."""
        return self._pods.logs(container_id, LogRange(tail=MOST_LINES, follow=True, since=since))
