"""Performs one operation on the containers of a service: observes, plans, and performs single steps.

Each step is one engine or routing call, or several at once.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from syntra.model.command import Deploy, Restart, Rollback, Scale, Stop
from syntra.model.container import DEFAULT_STOP_GRACE_SECS, Container
from syntra.model.ids import ContainerId
from syntra.model.spec import Deployment, ServiceSpec
from syntra.runtime.containers.engine import ContainerEngine
from syntra.runtime.containers.operation_plans import ObservedContainers, steps_to
from syntra.runtime.containers.progress import healthy, open_connections
from syntra.runtime.containers.recreate import recreate
from syntra.runtime.containers.routing import with_traffic
from syntra.runtime.containers.steps import (
    AwaitHealthy,
    CreateReplica,
    EnsureNetwork,
    EnsureVolume,
    KeepFailed,
    ObtainImage,
    Publish,
    RemoveRelease,
    RemoveReplicas,
    RestartReplica,
    RunRelease,
    Shift,
    StartReplica,
    StopReplicas,
    Withdraw,
)
from syntra.runtime.containers.volume_lookup import ensure_volume, replica_volumes
from syntra.runtime.containers.volumes import ReplicaVolumes
from syntra.runtime.errors import NETWORK_GONE, RuntimeFailure, StepFailed
from syntra.runtime.runtime import ForgetService, ObjectPreview, Observation, OperationContext, Plan, Ref, Step

if TYPE_CHECKING:
    from syntra.runtime.containers.runtime import HealthGate, LabelRoutes, Traffic

T = TypeVar("T")

STOPS_AT_ONCE = 5
# Beyond the deployment's deadline: a release command that was not done is stopped, with its grace.
RELEASE_SLACK_SECS = 3600.0 + 60.0

WhyNoProxy = Callable[[], Awaitable[str]]


class ContainerRollout:
    """`runtime.runtime.Rollout` on a container engine."""

    def __init__(
        self,
        context: OperationContext,
        engine: ContainerEngine,
        traffic: Traffic,
        gate: HealthGate,
        *,
        labels: LabelRoutes | None,
        why_no_proxy: WhyNoProxy,
    ) -> None:
        self._labels = labels
        self._why_no_proxy = why_no_proxy
        self._context = context
        self._engine = engine
        self._traffic = traffic
        self._gate = gate
        self._observed: Sequence[Container] = ()
        self._created: dict[int, ContainerId] = {}
        # Containers that had to be created again, by the ids that the plan knows.
        self._replaced: dict[ContainerId, ContainerId] = {}
        self._volumes: ReplicaVolumes | None = None
        # The projects of what failed deployments have left.
        self._projects: set[str] = set()

    @property
    def created(self) -> Sequence[ContainerId]:
        return tuple(self._replaced.get(container_id, container_id) for container_id in self._created.values())

    async def observe(self) -> ObservedContainers:
        deployment = self._context.desired.deployment
        self._observed = await self._engine.observe(self._context.service_id)
        self._created.clear()
        failed = await self._failed()
        has_image = deployment is not None and await self._engine.has_image(deployment)
        if deployment is not None and deployment.resolved is None:
            # A failed try of the same id has left its pin, which may be of another image.
            has_image = has_image and all(left.deployment_id != deployment.deployment_id for left in failed)
        self._volumes = None
        if deployment is not None and not isinstance(self._context.desired.command, Stop):
            self._volumes = await replica_volumes(self._engine, deployment, self._observed)
        return ObservedContainers(
            replicas=self._observed,
            has_image=has_image,
            unrouted=await self._unrouted(),
            volumes=self._volumes,
            failed=failed,
        )

    async def _failed(self) -> list[Container]:
        found = await self._engine.failed(self._context.service_id)
        self._projects |= {item.deployment.spec.project_name for item in found if item.deployment is not None}
        return [item.replica for item in found if isinstance(item.replica, Container)]

    async def _unrouted(self) -> str:
        desired = self._context.desired
        if not isinstance(desired.command, Deploy | Rollback) or desired.is_committed or desired.is_rolling_back:
            return ""
        domains = desired.deployment.spec.domains if desired.deployment is not None else ()
        why = await self._why_no_proxy() if domains else ""
        return f"nothing routes {', '.join(domains)} yet: {why}" if why else ""

    def prior(self, observed: Observation) -> frozenset[ContainerId]:
        # A failed scale removes all replicas that it added, running or not.
        is_scale = isinstance(self._context.desired.command, Scale)
        return frozenset(replica.container_id for replica in observed.replicas if replica.is_up or is_scale)

    def plan(self, observed: Observation) -> Plan:
        assert isinstance(observed, ObservedContainers), "cannot happen because `observe` makes them"
        desired = self._context.desired
        plan = steps_to(desired, observed)
        if desired.deployment is not None and self._traffic.routes(desired.deployment.spec):
            plan = with_traffic(plan, serving=sum(1 for replica in observed.replicas if replica.is_up))
        if observed.unrouted:
            plan = dataclasses.replace(plan, notes=(*plan.notes, observed.unrouted))
        return plan

    async def give_back(self) -> None:
        deployment = self._context.desired.deployment
        if deployment is not None:
            if self._labels is not None:
                self._labels.release(deployment.spec)
            is_first = await self._context.current() is None
            await self._traffic.give_back(deployment.spec, is_first=is_first)

    async def preview(self) -> Sequence[ObjectPreview]:
        return ()

    def last_seen(self, step: Step) -> str:
        return self._gate.last_probe(self.resolve(step.replicas)) if isinstance(step, AwaitHealthy) else ""

    def progress(self, step: Step) -> str:
        match step:
            case AwaitHealthy(replicas=refs):
                awaited = self.resolve(refs)
                return healthy(self._context.desired, self._observed, self.created, awaited, self._gate.passed)
            case Withdraw(replicas=refs):
                return open_connections(self._traffic.open_connections(self.resolve(refs)))
        return ""

    def at_fault(self, step: Step) -> ContainerId | None:
        match step:
            case StartReplica(replica=ref):
                return self._resolve(ref)
            case AwaitHealthy(replicas=refs) | Publish(replicas=refs) | Shift(replicas=refs):
                return self._resolve(refs[0])
        return None

    def resolve(self, refs: Sequence[Ref]) -> list[ContainerId]:
        return [self._resolve(ref) for ref in refs]

    async def perform(self, step: Step, deadline: float) -> None:
        match step:
            case StopReplicas(replicas=refs):
                await self._each(refs, lambda container_id: self._engine.stop(container_id, self._grace(container_id)))
            case RemoveReplicas(replicas=refs):
                await self._each(refs, self._engine.remove)
            case KeepFailed(replica=ref):
                await self._keep_failed(self._resolve(ref))
            case RestartReplica(replica=ref):
                await self._start(ref, lambda replica: self._engine.restart(replica, self._grace(replica)))
            case StartReplica(replica=ref):
                await self._start(ref, self._engine.start)
            case AwaitHealthy(replicas=refs):
                async with self._context.interruptible(deadline):
                    for spec, group in await self._by_spec(refs):
                        effective = None if spec is None else await self._context.effective_spec(spec)
                        await self._gate.wait(group, effective)
            case Publish(replicas=refs):
                for spec, group in await self._by_spec(refs):
                    assert spec is not None, "cannot happen because only deployments are routed"
                    await self._traffic.publish(spec, group)
            case Shift(replicas=refs, percent=percent):
                await self._traffic.publish(self._deployment.spec, self.resolve(refs), share=percent)
            case Withdraw(replicas=refs):
                await self._withdraw(refs)
            case ObtainImage():
                await self._obtain_image(deadline)
            case EnsureNetwork(project=project):
                await self._engine.ensure_network(project)
                await self._traffic.prepare(self._deployment.spec)
            case EnsureVolume():
                await ensure_volume(self._engine, step)
            case RunRelease():
                await self._run_release(deadline)
            case RemoveRelease():
                await self._engine.remove_releases(self._context.service_id, self._deployment_grace())
            case CreateReplica(index=index):
                await self._create(index, deadline)
            case ForgetService():
                await self._forget()
            case _:
                raise AssertionError(f"cannot happen because no plan for containers has {type(step).__name__}")

    @property
    def _deployment(self) -> Deployment:
        deployment = self._context.desired.deployment
        assert deployment is not None, "cannot happen because only deployments plan such a step"
        return deployment

    async def _start(self, ref: Ref, act: Callable[[ContainerId], Awaitable[None]]) -> None:
        """Start or restart a replica; create it again when its network was removed while it was down."""
        container_id = self._resolve(ref)
        try:
            await act(container_id)
        except StepFailed as failed:
            replica = await self._engine.inspect(container_id) if failed.code == NETWORK_GONE else None
            deployment = await self._deployment_of(replica) if replica is not None else None
            if replica is None or deployment is None:
                raise
            created = await recreate(self._engine, self._traffic, replica, deployment)
            # The rest of the plan, and a rollback, mean the new container where they name the old one.
            self._replaced[container_id] = created
            renewed = dataclasses.replace(replica, container_id=created)
            self._observed = [renewed if r.container_id == container_id else r for r in self._observed]
            await self._context.replaced(container_id, created)
            self._context.remark(f"{replica.name} was created again: its network had been removed")

    async def _keep_failed(self, container_id: ContainerId) -> None:
        try:
            await self._engine.keep_failed(container_id)
        except StepFailed as failed:
            # It must not stay as a replica.
            await self._engine.remove(container_id)
            self._context.remark(f"the failed container is not kept: {failed}")
            return
        spec, deployment_id = self._deployment.spec, self._deployment.deployment_id
        look = f"syntra-agent logs {spec.service_name} --deployment {deployment_id}"
        self._context.remark(f"the failed container is kept for a day: see `{look}`")

    async def _deployment_of(self, replica: Container) -> Deployment | None:
        desired = self._context.desired.deployment
        if desired is not None and desired.deployment_id == replica.deployment_id:
            return desired
        return await self._context.kept(replica.deployment_id)

    async def _create(self, index: int, deadline: float) -> None:
        volumes = self._volumes
        assert volumes is not None, "cannot happen because every plan that creates replicas looks for their volumes"
        if volumes.image_paths is None:
            # Removed in the moment between two questions to the engine.
            image = self._deployment.spec.image
            raise StepFailed("IMAGE_NOT_FOUND", f"cannot create a replica: image {image} is gone; deploy again")
        mounts = volumes.mounts(index)
        self._created[index], _ = await self._from_image(
            lambda: self._engine.create(self._deployment, index, mounts), deadline
        )

    async def _obtain_image(self, deadline: float) -> None:
        command = self._context.desired.command
        auth = command.auth if isinstance(command, Deploy) else None
        # A deployment that runs or ran already has its image; only a new one may take the image that its tag has today.
        is_new = isinstance(command, Deploy) or (isinstance(command, Rollback) and command.image is not None)
        async with self._context.interruptible(deadline):
            note = await self._engine.obtain_image(
                self._deployment,
                auth,
                self._context.report_pull,
                resolve=is_new and not self._has_replicas(),
                deadline=deadline,
            )
        if note:
            self._context.remark(note)
        await self._record_image()

    def _has_replicas(self) -> bool:
        deployment_id = self._deployment.deployment_id
        return any(replica.deployment_id == deployment_id for replica in self._observed)

    async def _record_image(self) -> None:
        image = await self._engine.resolved_image(self._deployment)
        if image is not None and image != self._deployment.resolved:
            await self._context.resolved(image)

    async def _run_release(self, deadline: float) -> None:
        async def run() -> None:
            # The command's own limit comes first, so that its last lines are in the report.
            async with self._context.interruptible(deadline + RELEASE_SLACK_SECS):
                limit = max(deadline - asyncio.get_running_loop().time(), 0.0)
                mounts = self._volumes.own_mounts if self._volumes is not None else None
                await self._engine.run_release(self._deployment, limit, mounts)

        await self._from_image(run, deadline)

    async def _from_image(self, act: Callable[[], Awaitable[T]], deadline: float) -> T:
        if self._deployment.resolved is None:
            await self._record_image()
        try:
            return await act()
        except StepFailed as failed:
            if failed.code != "IMAGE_NOT_FOUND":
                raise
            # It was removed after the plan was made.
            await self._obtain_image(deadline)
            return await act()

    async def _by_spec(self, refs: Sequence[Ref]) -> list[tuple[ServiceSpec | None, list[ContainerId]]]:
        containers = self.resolve(refs)
        desired = self._context.desired
        spec = desired.deployment.spec if desired.deployment else None
        if not desired.is_rolling_back:
            return [(spec, containers)]
        # Restored replicas are checked and routed by the spec they were deployed with, not by the failed one.
        made_from = {replica.container_id: replica.deployment_id for replica in self._observed}
        found: list[tuple[ServiceSpec | None, list[ContainerId]]] = []
        for deployment_id in sorted({made_from[container_id] for container_id in containers}):
            earlier = await self._context.kept(deployment_id)
            group = [container_id for container_id in containers if made_from[container_id] == deployment_id]
            found.append((earlier.spec if earlier else spec, group))
        return found

    async def _withdraw(self, refs: Sequence[Ref]) -> None:
        await self._traffic.withdraw(self._context.service_id, self.resolve(refs))
        if not self._context.desired.is_rolling_back:
            return
        # The failed version may have added other domains; the current version keeps its own.
        earlier = await self._context.current()
        if earlier is not None:
            await self._traffic.publish(earlier.spec, ())

    async def _forget(self) -> None:
        service_id, deployment = self._context.service_id, self._context.desired.deployment
        await self._traffic.forget(service_id)
        if self._labels is not None:
            self._labels.forget(service_id)
        # Images first: once the service is forgotten, no record says whose they were.
        try:
            await self._engine.collect_garbage({}, frozenset({service_id}))
        except StepFailed as failed:
            self._context.remark(str(failed))
        for project in sorted(self._projects | ({deployment.spec.project_name} if deployment is not None else set())):
            try:
                await self._engine.release_network(project)
            except StepFailed as failed:
                self._context.remark(str(failed))

    async def _each(self, refs: Sequence[Ref], act: Callable[[ContainerId], Awaitable[None]]) -> None:
        # Several at once, but not all: a hundred stopping containers would starve the running ones.
        gate = asyncio.Semaphore(STOPS_AT_ONCE)
        failures: list[RuntimeFailure] = []

        async def one(container_id: ContainerId) -> None:
            async with gate:
                try:
                    await act(container_id)
                except RuntimeFailure as failed:
                    failures.append(failed)

        async with asyncio.TaskGroup() as group:
            for ref in refs:
                group.create_task(one(self._resolve(ref)), name=f"step {ref.name}")
        if failures:
            raise failures[0]

    def _grace(self, container_id: ContainerId) -> float:
        command = self._context.desired.command
        if isinstance(command, Stop | Restart) and command.grace_secs is not None:
            return command.grace_secs
        # Each container goes by what it was created with: the old version may need another time than the new one.
        own = (replica.stop_grace_secs for replica in self._observed if replica.container_id == container_id)
        return next(own, DEFAULT_STOP_GRACE_SECS)

    def _deployment_grace(self) -> float:
        own = self._deployment.spec.options.stop_grace_secs
        return DEFAULT_STOP_GRACE_SECS if own is None else own

    def _resolve(self, ref: Ref) -> ContainerId:
        container_id = self._created[ref.index] if ref.container_id is None else ref.container_id
        return self._replaced.get(container_id, container_id)
