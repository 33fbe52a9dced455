"""Performs one operation on a service in a cluster: observes, plans, and performs single steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from syntra.model.command import Deploy, Restart, Rollback, Scale, Stop
from syntra.model.ids import ContainerId, DeploymentId
from syntra.model.spec import Deployment
from syntra.runtime.kubernetes import planner
from syntra.runtime.kubernetes.autoscaler import within
from syntra.runtime.kubernetes.awaiting import RolloutWait
from syntra.runtime.kubernetes.checks import Checks
from syntra.runtime.kubernetes.cleanup import Cleanup
from syntra.runtime.kubernetes.cluster import Cluster
from syntra.runtime.kubernetes.errors import ApiRefusal
from syntra.runtime.kubernetes.grace import PodGrace
from syntra.runtime.kubernetes.names import (
    DEPLOYMENT_ID,
    KIND,
    REPLACED_AT,
    SCALE_MANAGER,
    SLOT,
    Slot,
    namespace,
    service_name,
)
from syntra.runtime.kubernetes.objects import Object, label, mapping, text
from syntra.runtime.kubernetes.observed import ObservedService, Workload, slot_of
from syntra.runtime.kubernetes.pods import PodReplica
from syntra.runtime.kubernetes.releases import Releases
from syntra.runtime.kubernetes.render import RenderContext, Rendered, render, weighted
from syntra.runtime.kubernetes.resources import CLAIM, DEPLOYMENT, KIND_BY_NAME, SECRET, SERVICE, kind_of
from syntra.runtime.kubernetes.revisions import (
    Kept,
    as_kept,
    kept,
    kept_objects,
    revision_secret,
    revision_secrets,
    revisions,
)
from syntra.runtime.kubernetes.settings import KubernetesSettings
from syntra.runtime.kubernetes.steps import (
    ApplyRoutes,
    ApplyService,
    ApplySupports,
    ApplyWorkload,
    AwaitRollout,
    AwaitStopped,
    DeleteObjects,
    KeepRevision,
    Preflight,
    Prune,
    RemoveRelease,
    RunRelease,
    ScaleSlot,
    ShiftRequests,
    SwitchSlot,
)
from syntra.runtime.runtime import ForgetService, ObjectPreview, Observation, OperationContext, Plan, Ref, Step

RELEASE_SLACK_SECS = 60.0


class KubernetesRollout:
    """`runtime.runtime.Rollout` on a cluster."""

    def __init__(self, context: OperationContext, cluster: Cluster, settings: KubernetesSettings) -> None:
        self._context = context
        self._cluster = cluster
        self._client = cluster.client
        self._settings = settings
        self._observed = ObservedService()
        self._revisions: Sequence[Object] = ()
        self._is_checked = False
        command = context.desired.command
        secs = command.grace_secs if isinstance(command, Stop | Restart) else None
        grace = PodGrace(cluster, context.service_id, secs, remark=context.remark)
        self._wait = RolloutWait(cluster, context.service_id, grace)
        self._checks = Checks(cluster.client, are_given=bool(cluster.namespaces))
        self._cleanup = Cleanup(cluster, self._checks)
        self._releases = Releases(cluster)
        self._new: tuple[ContainerId, ...] = ()
        self._switched_at = 0.0
        """When this operation switched the requests, in epoch seconds; 0 when it did not."""

    @property
    def created(self) -> Sequence[ContainerId]:
        return self._new

    async def observe(self) -> ObservedService:
        service_id = self._context.service_id
        previous = await self._context.current()
        target = self._context.desired.deployment or previous
        home = "" if target is None else namespace(target.spec.project_name)
        objects = await self._cluster.all_objects(service_id, needed=home)
        workloads = [Workload.of(obj) for obj in objects[DEPLOYMENT.kind]]
        for obj in objects[DEPLOYMENT.kind]:
            self._wait.applied(obj)
        by_slot = {workload.slot: workload for workload in workloads}
        self._revisions = revision_secrets(objects[SECRET.kind])
        self._observed = ObservedService(
            replicas=self._cluster.numbered(objects["Pod"], service_id),
            workloads=by_slot,
            active=_active(objects[SERVICE.kind], by_slot),
            namespace=self._namespace(objects),
            objects={
                kind: frozenset(text(obj, "metadata", "name") for obj in its)
                for kind, its in objects.items()
                if kind != "Pod"
            },
            revisions=revisions(self._revisions),
            previous=previous,
            is_checked=self._is_checked,
        )
        self._note_new()
        return self._observed

    def prior(self, observed: Observation) -> frozenset[ContainerId]:
        is_scale = isinstance(self._context.desired.command, Scale)
        return frozenset(replica.container_id for replica in observed.replicas if replica.is_up or is_scale)

    def plan(self, observed: Observation) -> Plan:
        assert isinstance(observed, ObservedService), "cannot happen because `observe` makes them"
        return planner.steps_to(self._context.desired, observed, scale_down_delay=self._settings.scale_down_delay_secs)

    async def give_back(self) -> None:
        """The plan back has removed what the operation had taken."""

    async def preview(self) -> Sequence[ObjectPreview]:
        if self._context.desired.deployment is None:
            return ()
        return await self._checks.preview(await self._rendered(self._target()))

    def last_seen(self, step: Step) -> str:
        return self._wait.last_seen if isinstance(step, AwaitRollout | SwitchSlot | AwaitStopped) else ""

    def progress(self, step: Step) -> str:
        return self._wait.progress if isinstance(step, AwaitRollout) else ""

    def at_fault(self, step: Step) -> ContainerId | None:
        """None: the cluster keeps nothing of what failed; its last lines are in the report."""
        return None

    def resolve(self, refs: Sequence[Ref]) -> list[ContainerId]:
        wanted = {ref.index for ref in refs}
        deployment = self._context.desired.deployment
        found = {r.index: r.container_id for r in self._observed.replicas if _is_of(r, deployment)}
        return [found[index] for index in sorted(wanted) if index in found]

    async def perform(self, step: Step, deadline: float) -> None:
        match step:
            case Preflight():
                async with self._context.interruptible(deadline):
                    await self._preflight()
            case ApplySupports():
                async with self._context.interruptible(deadline):
                    await self._apply_supports()
            case RunRelease():
                await self._run_release(deadline)
            case RemoveRelease():
                await self._releases.remove(self._context.service_id)
            case ApplyService(slot=slot):
                await self._apply_all((await self._rendered(slot)).services)
            case ApplyWorkload(slot=slot):
                await self._apply_workload(step, slot)
            case AwaitRollout(name=name):
                async with self._context.interruptible(deadline):
                    await self._wait.rollout(self._observed.namespace, name, self._deployment.deployment_id)
                    self._note_new()
            case ShiftRequests(slot=slot, percent=percent):
                await self._shift(slot, percent)
            case SwitchSlot(slot=slot):
                async with self._context.interruptible(deadline):
                    await self._switch(slot)
            case ApplyRoutes():
                await self._apply_all((await self._rendered(self._target())).routes)
            case ScaleSlot():
                await self._scale_slot(step, deadline)
            case AwaitStopped():
                async with self._context.interruptible(deadline):
                    await self._wait.stopped()
            case KeepRevision(revision=number):
                await self._keep_revision(number)
            case DeleteObjects(objects=objects):
                for kind, name in objects:
                    await self._client.delete(KIND_BY_NAME[kind], self._observed.namespace, name)
            case Prune(slot=slot, keeps_other=keeps_other):
                rendered = await self._rendered(slot)
                await self._cleanup.prune(self._context.service_id, rendered, slot, keeps_other=keeps_other)
            case ForgetService():
                await self._cleanup.forget(self._context.service_id, self._observed.namespace)
            case _:
                raise AssertionError(f"cannot happen because no plan for a cluster has {type(step).__name__}")

    @property
    def _deployment(self) -> Deployment:
        """What is applied: while rolling back, the version before."""
        desired = self._context.desired
        if desired.is_rolling_back and not isinstance(desired.command, Scale) and self._observed.previous is not None:
            return self._observed.previous
        assert desired.deployment is not None, "cannot happen because only deployments plan such a step"
        return desired.deployment

    @property
    def _replicas(self) -> int:
        desired = self._context.desired
        return len(desired.prior) if desired.is_rolling_back else desired.replicas

    def _replicas_in(self, slot: Slot) -> int:
        """How many replicas to apply: where the cluster scales the service, as many as there are now."""
        autoscale = self._deployment.spec.autoscale
        if autoscale is None or self._replicas == 0:
            return self._replicas
        active = self._observed.workloads.get(self._observed.active or slot)
        return within(autoscale, active.replicas if active is not None and active.replicas else self._replicas)

    def _target(self) -> Slot:
        deployment = self._deployment
        return self._observed.slot_with(deployment.deployment_id) or planner.target_slot(
            replace(self._context.desired, deployment=deployment), self._observed
        )

    def _namespace(self, objects: Mapping[str, Sequence[Object]]) -> str:
        deployment = self._context.desired.deployment
        if deployment is not None:
            return namespace(deployment.spec.project_name)
        every = (text(obj, "metadata", "namespace") for its in objects.values() for obj in its)
        return next(every, "")

    async def _rendered(self, slot: Slot, *, is_restart: bool = False) -> Rendered:
        desired = self._context.desired
        workload = self._observed.workloads.get(slot)
        restarted_at = ""
        if is_restart:
            restarted_at = str(int(desired.begun_at))
        elif (
            workload is not None and workload.deployment_id == self._deployment.deployment_id and workload.restarted_at
        ):
            restarted_at = str(int(workload.restarted_at))
        rendered = render(self._deployment, await self._render_context(slot, restarted_at))
        if isinstance(desired.command, Rollback) or desired.is_rolling_back:
            revision = self._revision(self._deployment.deployment_id)
            rendered = rendered if revision is None else as_kept(rendered, revision, slot)
        # A slot that is filled again has its requests.
        mapping(rendered.workload, "metadata", "annotations")[REPLACED_AT] = ""
        return rendered

    def _revision(self, deployment_id: DeploymentId) -> Kept | None:
        """The newest revision of a deployment, as last observed."""
        for secret in reversed(self._revisions):
            if text(secret, "metadata", "annotations", DEPLOYMENT_ID) == deployment_id:
                return kept(secret)
        return None

    async def _render_context(self, slot: Slot, restarted_at: str = "") -> RenderContext:
        desired, settings = self._context.desired, self._settings
        command = desired.command
        return RenderContext(
            owner=self._cluster.owner,
            slot=slot,
            replicas=self._replicas_in(slot),
            routes=await settings.routes(self._cluster),
            min_healthy_secs=settings.min_healthy_secs,
            pre_stop_secs=settings.pre_stop_secs,
            cpu_request_fraction=settings.cpu_request_fraction,
            otlp_endpoint=settings.otlp_endpoint,
            restarted_at=restarted_at,
            auth=command.auth if isinstance(command, Deploy) and not desired.is_rolling_back else None,
            pull_secret=self._pull_secret(),
            entry_points=settings.entry_points,
            cert_resolver=settings.cert_resolver,
            ingress_class=settings.ingress_class,
            gateway=settings.gateway,
            storage_class=settings.storage_class,
        )

    def _pull_secret(self) -> str:
        name = f"{service_name(self._deployment.spec)}-pull"
        return name if name in self._observed.objects.get(SECRET.kind, frozenset()) else ""

    async def _preflight(self) -> None:
        self._cluster.use(self._observed.namespace, self._context.service_id)
        rendered = await self._rendered(self._target())
        await self._checks.dry_run(rendered)
        for note in rendered.notes:
            self._context.remark(note)
        self._is_checked = True

    async def _apply_supports(self) -> None:
        self._cluster.use(self._observed.namespace, self._context.service_id)
        rendered = await self._rendered(self._target())
        if not self._checks.are_given:
            await self._checks.own_namespace(rendered.namespace)
            await self._client.apply(rendered.namespace)
        for obj in rendered.supports:
            # A claim cannot change, and its class may be another setting's by now.
            if kind_of(obj) is not CLAIM or await self._client.find(obj) is None:
                await self._client.apply(obj)

    async def _run_release(self, deadline: float) -> None:
        # The command's own limit comes first, so that its last lines are in the report.
        async with self._context.interruptible(deadline + RELEASE_SLACK_SECS):
            limit = max(deadline - asyncio.get_running_loop().time(), 0.0)
            await self._releases.run(self._deployment, await self._render_context(self._target()), limit)

    async def _apply_all(self, objects: Sequence[Object]) -> None:
        for obj in objects:
            await self._client.apply(obj)

    async def _apply_workload(self, step: ApplyWorkload, slot: Slot) -> None:
        rendered = await self._rendered(slot, is_restart=step.is_restart)
        applied = await self._client.apply(rendered.workload)
        self._wait.applied(applied)
        if rendered.autoscaler is not None:
            await self._client.apply(rendered.autoscaler)

    def _note_new(self) -> None:
        deployment = self._context.desired.deployment
        if deployment is not None:
            pods = self._cluster.numbered([*self._cluster.pods.objects.values()], self._context.service_id)
            self._new = tuple(pod.container_id for pod in pods if _is_of(pod, deployment) and not pod.is_leaving)

    async def _shift(self, slot: Slot, percent: int) -> None:
        rendered = await self._rendered(slot)
        context = await self._render_context(slot)
        await self._apply_all(weighted(rendered, self._deployment, slot.other, slot, percent, context))

    async def _switch(self, slot: Slot) -> None:
        rendered = await self._rendered(slot)
        old = self._observed.workloads.get(slot.other)
        main = rendered.services[0]
        space, name = text(main, "metadata", "namespace"), text(main, "metadata", "name")
        for obj in rendered.services:
            await self._client.apply(obj)
        await self._wait.endpoints(space, name, slot, is_empty=self._replicas == 0)
        if old is not None and old.replicas > 0 and (self._observed.active is slot.other or not old.replaced_at):
            path = DEPLOYMENT.path(space, old.name)
            # A mark of an earlier switch, which was undone, says nothing about this one.
            self._switched_at = time.time()
            change: Object = {"metadata": {"annotations": {REPLACED_AT: f"{self._switched_at:.3f}"}}}
            await self._client.merge(path, change, what=f"mark Deployment {old.name}")

    async def _scale_slot(self, step: ScaleSlot, deadline: float) -> None:
        if step.delay_secs:
            old = self._observed.workloads.get(step.slot)
            marked = old.replaced_at if old is not None and self._observed.active is not step.slot else 0.0
            replaced_at = self._switched_at or marked or time.time()
            left = replaced_at + step.delay_secs - time.time()
            if left > 0:
                async with self._context.interruptible(deadline + step.delay_secs):
                    await asyncio.sleep(min(left, step.delay_secs))
        path = DEPLOYMENT.path(self._observed.namespace, step.name, "scale")
        try:
            await self._client.merge(
                path, {"spec": {"replicas": step.replicas}}, manager=SCALE_MANAGER, what=f"scale Deployment {step.name}"
            )
        except ApiRefusal as refused:
            if not refused.is_not_found:
                raise
            return
        self._wait.applied(await self._client.get(DEPLOYMENT.path(self._observed.namespace, step.name)))

    async def _keep_revision(self, number: int) -> None:
        deployment = self._deployment
        rendered = await self._rendered(self._target())
        about = mapping(rendered.workload, "metadata")
        secret = revision_secret(number, deployment, kept_objects(rendered), about)
        if secret is None:
            self._context.remark("the revision is too large for a Secret; a rollback renders it again")
            return
        await self._client.apply(secret)


def _active(services: Sequence[Object], workloads: Mapping[Slot, Workload]) -> Slot | None:
    """The slot that the service's own Service selects; without one, the slot that has pods."""
    for obj in services:
        slot = slot_of(text(obj, "spec", "selector", SLOT))
        if slot is not None and not label(obj, KIND):
            return slot
    with_pods = [slot for slot, workload in workloads.items() if workload.replicas > 0]
    return with_pods[0] if with_pods else next(iter(workloads), None)


def _is_of(replica: PodReplica, deployment: Deployment | None) -> bool:
    return deployment is not None and replica.deployment_id == deployment.deployment_id
