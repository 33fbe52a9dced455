"""The agent's objects in a cluster: watched for all readers, listed afresh for an operation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from syntra.model.ids import ContainerId, ServiceId
from syntra.runtime.errors import RuntimeUnavailable
from syntra.runtime.kubernetes.cache import ObjectCache
from syntra.runtime.kubernetes.client import KubernetesClient
from syntra.runtime.kubernetes.errors import ApiRefusal
from syntra.runtime.kubernetes.exits import ExitTracker
from syntra.runtime.kubernetes.names import OWNER, SERVICE, label_value
from syntra.runtime.kubernetes.objects import Object, items, text
from syntra.runtime.kubernetes.pods import Indexes, PodReplica, pod_id, pod_replica, replicas, split_id
from syntra.runtime.kubernetes.resources import (
    AUTOSCALER,
    DEPLOYMENT,
    HTTP_ROUTE,
    INGRESS,
    INGRESS_ROUTE,
    MIDDLEWARE,
    POD,
    REPLICA_SET,
    SECRET,
    TRAEFIK_SERVICE,
    Kind,
)
from syntra.runtime.kubernetes.resources import (
    SERVICE as SERVICE_KIND,
)

# How long the API groups of a cluster are taken as known.
GROUPS_SECS = 60.0
# How long a reader waits for the first list.
LISTED_SECS = 10.0


class Cluster:
    """`watch` it from start to end. Raises ClusterUnavailable and ApiRefusal."""

    def __init__(self, client: KubernetesClient, *, owner: str, namespaces: Sequence[str] = ()) -> None:
        self.client = client
        self.owner = owner
        self.namespaces = namespaces
        """The only ones that the agent may use; empty for all."""
        self.exits = ExitTracker()
        self._indexes: dict[str, Indexes] = {}
        self._changed = asyncio.Event()
        self._users: dict[str, set[ServiceId]] = {}
        self._on_change: Callable[[], None] = lambda: None
        self._groups: frozenset[str] = frozenset()
        self._groups_at = -GROUPS_SECS
        labels = f"{OWNER}={label_value(owner)}"
        self.pods = ObjectCache(client, POD, labels, self._pod_changed, namespaces=namespaces)
        self.workloads = ObjectCache(client, DEPLOYMENT, labels, self._object_changed, namespaces=namespaces)
        self.replica_sets = ObjectCache(client, REPLICA_SET, labels, self._object_changed, namespaces=namespaces)

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Watch until cancelled; `on_change` is called after changes."""
        self._on_change = on_change
        async with asyncio.TaskGroup() as group:
            for cache in (self.pods, self.workloads, self.replica_sets):
                group.create_task(cache.run(), name=f"watch {cache.kind.plural}")

    @property
    def problems(self) -> list[str]:
        """Why what is watched is not current, one sentence each."""
        return sorted({cache.problem for cache in (self.pods, self.workloads, self.replica_sets) if cache.problem})

    async def changed(self, within_secs: float) -> None:
        """Wait for a change of a watched object, at most so long."""
        event = self._changed
        try:
            async with asyncio.timeout(within_secs):
                await event.wait()
        except TimeoutError:
            return

    def use(self, namespace: str, service_id: ServiceId) -> None:
        """A service is about to have objects in the namespace, so it must stay."""
        self._users.setdefault(namespace, set()).add(service_id)

    def unuse(self, namespace: str, service_id: ServiceId) -> bool:
        """The service has no objects there any more; whether no other service is about to have some."""
        users = self._users.get(namespace, set())
        users.discard(service_id)
        return not users

    async def replicas(self, service_id: ServiceId | None = None) -> list[PodReplica]:
        """The pods of all services, or of one, as the watch knows them."""
        if not self.pods.is_listed and self.pods.problem:
            raise RuntimeUnavailable(self.pods.problem)
        try:
            async with asyncio.timeout(LISTED_SECS):
                await self.pods.listed()
        except TimeoutError as late:
            raise RuntimeUnavailable(self.pods.problem or "the cluster's pods are not listed yet") from late
        return self.numbered([*self.pods.objects.values()], service_id)

    async def listed_replicas(self, service_id: ServiceId) -> list[PodReplica]:
        """The pods of a service, asked now."""
        return self.numbered(await self.objects(POD, service_id), service_id)

    async def everywhere(self, kind: Kind, labels: str, *, needed: str = "") -> list[Object]:
        """The objects of one kind with these labels, asked now, in all namespaces that may be used.

        Of several, one that may not be read is passed over, except the one that is `needed`.
        """
        found: list[Object] = []
        refusals: list[ApiRefusal] = []
        for namespace in self.namespaces or (None,):
            try:
                found += (await self.client.list(kind, namespace, labels=labels))[0]
            except ApiRefusal as refused:
                if refused.status != 403 or namespace in (None, needed):
                    raise
                refusals.append(refused)
        if refusals and len(refusals) == len(self.namespaces):
            raise refusals[0]
        return found

    async def replica(self, container_id: ContainerId) -> PodReplica | None:
        """One pod; None when it is gone."""
        return next((one for one in await self.replicas() if one.container_id == container_id), None)

    async def objects(self, kind: Kind, service_id: ServiceId, *, needed: str = "") -> list[Object]:
        """The objects of a service of one kind, as `everywhere` finds them."""
        return await self.everywhere(kind, self.selector(service_id), needed=needed)

    def selector(self, service_id: ServiceId) -> str:
        """The label selector of a service's objects."""
        return f"{OWNER}={label_value(self.owner)},{SERVICE}={label_value(service_id)}"

    async def all_objects(self, service_id: ServiceId, *, needed: str = "") -> Mapping[str, Sequence[Object]]:
        """The objects of a service by kind, as `everywhere` finds them."""
        groups = await self.groups()
        kinds = [POD, DEPLOYMENT, SERVICE_KIND, SECRET, INGRESS, AUTOSCALER]
        if "traefik.io" in groups:
            kinds += [INGRESS_ROUTE, MIDDLEWARE, TRAEFIK_SERVICE]
        if "gateway.networking.k8s.io" in groups:
            kinds.append(HTTP_ROUTE)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    kind: group.create_task(self._readable(kind, service_id, needed), name=f"list {kind.plural}")
                    for kind in kinds
                }
        except ExceptionGroup as failures:
            # One reason is enough: they are mostly the same.
            raise failures.exceptions[0] from None
        return {kind.kind: task.result() for kind, task in tasks.items()}

    async def groups(self) -> frozenset[str]:
        """The API groups that the cluster has, such as `traefik.io`."""
        if time.monotonic() - self._groups_at >= GROUPS_SECS:
            answer = await self.client.get("/apis", what="list the cluster's API groups")
            self._groups = frozenset(text(group, "name") for group in items(answer, "groups"))
            self._groups_at = time.monotonic()
        return self._groups

    async def events(self, namespace: str, name: str) -> list[Object]:
        """What happened to an object lately."""
        path = f"/api/v1/namespaces/{namespace}/events"
        query = {"fieldSelector": f"involvedObject.name={name}", "limit": "50"}
        return list(items(await self.client.get(path, query, what="list events"), "items"))

    async def _readable(self, kind: Kind, service_id: ServiceId, needed: str) -> list[Object]:
        try:
            return await self.objects(kind, service_id, needed=needed)
        except ApiRefusal as refused:
            # Kinds that only some services use: an agent without a right to them has none of them.
            if kind in (AUTOSCALER, INGRESS_ROUTE, MIDDLEWARE, TRAEFIK_SERVICE, HTTP_ROUTE) and (
                refused.status in (403, 404)
            ):
                return []
            raise

    def numbered(self, pods: Sequence[Object], service_id: ServiceId | None) -> list[PodReplica]:
        """Pods as replicas with their numbers. `pods` are all of the agent's, or all of the service."""
        by_service: dict[str, list[Object]] = {}
        for pod in pods:
            by_service.setdefault(text(pod, "metadata", "labels", SERVICE), []).append(pod)
        if service_id is not None:
            service = label_value(service_id)
            by_service = {service: by_service.get(service, [])}
        else:
            for gone in self._indexes.keys() - by_service.keys():
                del self._indexes[gone]
        return [
            replica
            for service, its in sorted(by_service.items())
            for replica in replicas(its, self._indexes.setdefault(service, Indexes()))
        ]

    def _pod_changed(self, before: Object | None, after: Object | None) -> None:
        if before is not None and after is not None:
            known = self._indexes.get(text(after, "metadata", "labels", SERVICE), Indexes())
            was, now = pod_replica(before, known), pod_replica(after, known)
            if was is not None and now is not None:
                self.exits.changed(was, now)
        self._object_changed(before, after)

    def _object_changed(self, before: Object | None, after: Object | None) -> None:
        event, self._changed = self._changed, asyncio.Event()
        event.set()
        self._on_change()


def id_parts(container_id: ContainerId) -> tuple[str, str]:
    """Namespace and name of a pod; raises ApiRefusal for what is no pod's id."""
    namespace, name = split_id(container_id)
    if not name or pod_id(namespace, name) != container_id:
        raise ApiRefusal(404, "NotFound", f"pod {container_id!r} does not exist", what="find the pod")
    return namespace, name
