"""A cluster as a runtime: implements `runtime.runtime.Runtime`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from syntra.model.errors import RequestError
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.spec import Deployment
from syntra.model.status import ContainerExits
from syntra.runtime.errors import RuntimeUnavailable
from syntra.runtime.kubernetes.client import KubernetesClient
from syntra.runtime.kubernetes.cluster import Cluster
from syntra.runtime.kubernetes.errors import ClusterUnavailable
from syntra.runtime.kubernetes.exec_session import PodExec
from syntra.runtime.kubernetes.figures import PodFigures
from syntra.runtime.kubernetes.logs import PodLogs
from syntra.runtime.kubernetes.names import KIND, OWNER, label_value, namespace
from syntra.runtime.kubernetes.objects import Object, text
from syntra.runtime.kubernetes.pods import PodReplica
from syntra.runtime.kubernetes.render import check
from syntra.runtime.kubernetes.resources import SECRET
from syntra.runtime.kubernetes.revisions import REVISION_KIND, kept
from syntra.runtime.kubernetes.rollout import KubernetesRollout
from syntra.runtime.kubernetes.settings import KubernetesSettings
from syntra.runtime.runtime import OperationContext, RuntimeInfo, Surveyed
from syntra.runtime.tar_copies import TarCopies

PING_SECS = 5.0
# Longer than the lease takes from one renewal to the next: while it is renewed, nothing more need be asked.
HEARD_SECS = 6.0


class KubernetesRuntime:
    """`watch` must run for `observe` to answer. `control` is another client whose answers count for `ping`."""

    name = "kubernetes"

    def __init__(
        self,
        client: KubernetesClient,
        settings: KubernetesSettings,
        *,
        owner: str,
        control: KubernetesClient | None = None,
    ) -> None:
        self.cluster = Cluster(client, owner=owner, namespaces=settings.namespaces)
        self._client = client
        self._clients = (client,) if control is None else (client, control)
        self._settings = settings
        logs, execs, figures = PodLogs(self.cluster), PodExec(client), PodFigures(client, settings.namespaces)
        self.tail = logs.tail
        self.logs = logs.logs
        self.execute = execs.execute
        self.attach = execs.attach
        self.copy = TarCopies(execs).copy
        self.readings = figures.readings

    def rollout(self, context: OperationContext) -> KubernetesRollout:
        return KubernetesRollout(context, self.cluster, self._settings)

    async def check(self, deployment: Deployment, *, reserve: bool = True) -> None:
        allowed, wanted = self._settings.namespaces, namespace(deployment.spec.project_name)
        if allowed and wanted not in allowed:
            raise RequestError(
                "NAMESPACE_NOT_ALLOWED",
                f"cannot use namespace {wanted}: it is not in kubernetes.namespaces; add it there, or choose a project "
                f"whose namespace is {' or '.join(allowed)}",
            )
        check(deployment, await self._settings.routes(self.cluster), host_paths=self._settings.host_paths)

    async def obstacles(self, deployment: Deployment) -> list[str]:
        try:
            await self.check(deployment)
        except RequestError as refused:
            return [str(refused)]
        return []

    async def info(self) -> RuntimeInfo:
        version = await self._client.get("/version", what="read the version of the cluster")
        return RuntimeInfo(
            name=self.name,
            version=text(version, "gitVersion"),
            api_version=f"{text(version, 'major')}.{text(version, 'minor')}",
        )

    async def ping(self) -> None:
        if reason := self._client.hindrance():
            raise RuntimeUnavailable(f"cannot change the cluster: {reason}")
        answered_at = max(one.answered_at for one in self._clients)
        if answered_at > max(time.monotonic() - HEARD_SECS, *(one.failed_at for one in self._clients)):
            return
        try:
            async with asyncio.timeout(PING_SECS):
                await self._client.read("GET", "/readyz", what="ask the cluster")
        except TimeoutError as late:
            address = self._client.access.address.authority
            raise ClusterUnavailable(address, f"no answer within {PING_SECS:g} s") from late

    async def observe(self, service_id: ServiceId | None = None) -> Sequence[PodReplica]:
        return await self.cluster.replicas(service_id)

    async def inspect(self, container_id: ContainerId) -> PodReplica | None:
        return await self.cluster.replica(container_id)

    async def survey(self) -> Sequence[Surveyed]:
        deployments = {
            (found.deployment.spec.service_id, found.deployment.deployment_id): found.deployment
            for secret in await self._revision_secrets()
            if (found := kept(secret)) is not None
        }
        replicas = await self.cluster.replicas()
        return [
            Surveyed(replica=one, deployment=deployments.get((one.service_id, one.deployment_id))) for one in replicas
        ]

    async def failed(self, service_id: ServiceId | None = None) -> Sequence[Surveyed]:
        # A rollback deletes failed pods with their ReplicaSet; their last lines are in the report.
        return []

    async def collect_garbage(
        self, keep: Mapping[ServiceId, frozenset[DeploymentId]], known: frozenset[ServiceId]
    ) -> int:
        # The nodes collect images, and each deploy deletes what no version needs.
        return 0

    def drain_exits(self) -> ContainerExits:
        return self.cluster.exits.drain()

    async def watch(self, on_change: Callable[[], None]) -> None:
        await self.cluster.watch(on_change)

    async def _revision_secrets(self) -> list[Object]:
        labels = f"{OWNER}={label_value(self.cluster.owner)},{KIND}={REVISION_KIND}"
        return await self.cluster.everywhere(SECRET, labels)
