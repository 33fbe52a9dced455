"""A container engine as a runtime: implements `runtime.runtime.Runtime` with `engine.ContainerEngine`.

On an engine the agent itself routes requests and checks health, so it passes in `Traffic` and `HealthGate`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

from syntra.model.errors import RequestError
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import Deployment, ServiceSpec, Strategy
from syntra.runtime.containers import planner
from syntra.runtime.containers.engine import ContainerEngine
from syntra.runtime.containers.rollout import ContainerRollout, WhyNoProxy
from syntra.runtime.containers.volume_lookup import missing_volume, replica_volumes
from syntra.runtime.runtime import OperationContext


class Traffic(Protocol):
    """Routes requests and names to replicas."""

    def routes(self, spec: ServiceSpec) -> bool:
        """Whether the agent routes requests to the service."""

    async def check(self, deployment: Deployment, *, reserve: bool = True) -> None:
        """Raise RequestError when the deployment cannot be routed, for example because a domain is taken."""

    async def prepare(self, spec: ServiceSpec) -> None:
        """The network of the service's project exists; its first container is about to be created."""

    async def publish(self, spec: ServiceSpec, containers: Sequence[ContainerId], *, share: int | None = None) -> None:
        """Send requests to these containers too; return when the proxy does so."""

    async def withdraw(self, service_id: ServiceId, containers: Sequence[ContainerId]) -> None:
        """Stop sending requests to these containers; return when none are open, or the drain time is over."""

    def open_connections(self, containers: Sequence[ContainerId]) -> int | None:
        """How many connections keep these containers from being drained now; None when that is not known."""

    async def give_back(self, spec: ServiceSpec, *, is_first: bool) -> None:
        """A deployment failed: its domains are free. `is_first`: the service has no other deployment."""

    async def forget(self, service_id: ServiceId) -> None:
        """The service was removed: remove its routes."""


class LabelRoutes(Protocol):
    """Who has which domain, where a proxy reads containers' labels."""

    async def check_labels(self, deployment: Deployment, *, reserve: bool = True) -> None:
        """Raise RequestError when another service has one of the deployment's domains."""

    def release(self, spec: ServiceSpec) -> None:
        """A deployment with this spec failed: drop the reservation of its domains."""

    def forget(self, service_id: ServiceId) -> None:
        """The service was removed: drop its reservation."""


class HealthGate(Protocol):
    """Decides when a replica that was just started may receive requests."""

    def wait(self, containers: Sequence[ContainerId], spec: ServiceSpec | None) -> Awaitable[None]:
        """Return when all are healthy; raise StepFailed for the first that is not."""

    def passed(self, container_id: ContainerId) -> bool | None:
        """Whether it became healthy since it was awaited last; None when it never was."""

    def last_probe(self, containers: Sequence[ContainerId]) -> str:
        """The last failed probe of one of them, in a few words; empty when none has failed."""


async def _has_proxy() -> str:
    return ""


class ContainerRuntime:
    """Plans and steps come from `planner` and `steps`; the engine itself answers all queries."""

    def __init__(
        self,
        engine: ContainerEngine,
        traffic: Traffic,
        gate: HealthGate,
        *,
        labels: LabelRoutes | None = None,
        why_no_proxy: WhyNoProxy = _has_proxy,
    ) -> None:
        """`labels`: who has which domain, where `traffic` does not make the routes but containers' labels do.
        `why_no_proxy` says why domains reach no service; empty when they do."""
        self._why_no_proxy = why_no_proxy
        self._engine = engine
        self._labels = labels
        self._traffic = traffic
        self._gate = gate
        self.info = engine.info
        self.ping = engine.ping
        self.observe = engine.observe
        self.obstacles = engine.obstacles
        self.inspect = engine.inspect
        self.survey = engine.survey
        self.failed = engine.failed
        self.tail = engine.tail
        self.logs = engine.logs
        self.execute = engine.execute
        self.attach = engine.attach
        self.copy = engine.copy
        self.readings = engine.readings
        self.collect_garbage = engine.collect_garbage
        self.drain_exits = engine.drain_exits
        self.watch = engine.watch

    @property
    def name(self) -> str:
        """The engine's product, as it says itself."""
        return self._engine.name

    def rollout(self, context: OperationContext) -> ContainerRollout:
        return ContainerRollout(
            context, self._engine, self._traffic, self._gate, labels=self._labels, why_no_proxy=self._why_no_proxy
        )

    async def check(self, deployment: Deployment, *, reserve: bool = True) -> None:
        if deployment.spec.autoscale is not None:
            raise RequestError(
                "INVALID_PAYLOAD", "config.autoscale: only a cluster can scale by itself; set replicas, and remove it"
            )
        await self._traffic.check(deployment, reserve=reserve)
        if self._labels is not None:
            await self._labels.check_labels(deployment, reserve=reserve)
        has_external = any(volume.external for volume in deployment.spec.volumes)
        if deployment.strategy is not Strategy.CANARY and not has_external:
            return
        observed = await self._engine.observe(deployment.spec.service_id)
        volumes = await replica_volumes(self._engine, deployment, observed)
        if volumes.missing:
            raise RequestError("VOLUME_NOT_FOUND", missing_volume(volumes.missing[0]))
        if deployment.strategy is not Strategy.CANARY:
            return
        obstacle = planner.canary_obstacle(deployment, observed, volumes)
        if obstacle is not None:
            raise RequestError("INVALID_PAYLOAD", f"strategy: a canary is impossible here: {obstacle}; use rolling")
