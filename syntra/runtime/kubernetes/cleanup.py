"""Deletes what no version of a service needs, and the namespace of a project that has no service left."""

from __future__ import annotations

from syntra.model.ids import ServiceId
from syntra.runtime.kubernetes.checks import Checks
from syntra.runtime.kubernetes.cluster import Cluster
from syntra.runtime.kubernetes.garbage import needed_objects
from syntra.runtime.kubernetes.names import MANAGED_BY, MANAGER, SLOT, Slot
from syntra.runtime.kubernetes.objects import label, text, value
from syntra.runtime.kubernetes.planner import DELETED_KINDS, KEPT_REVISIONS
from syntra.runtime.kubernetes.render import Rendered
from syntra.runtime.kubernetes.resources import CLAIM, DEPLOYMENT, KIND_BY_NAME, NAMESPACE, SECRET


class Cleanup:
    """Raises the client's errors. Deleting again what is gone has no effect."""

    def __init__(self, cluster: Cluster, checks: Checks) -> None:
        self._cluster = cluster
        self._client = cluster.client
        self._checks = checks

    async def prune(self, service_id: ServiceId, rendered: Rendered, slot: Slot, *, keeps_other: bool) -> None:
        """Delete the service's objects that are neither rendered nor of a version with pods, nor kept revisions.

        `keeps_other`: the Deployment of the other slot stays.
        """
        objects = await self._cluster.all_objects(service_id)
        replica_sets = [*self._cluster.replica_sets.objects.values()]
        needed = needed_objects(rendered, objects, replica_sets, keep_revisions=KEPT_REVISIONS)
        for kind in DELETED_KINDS:
            for obj in objects.get(kind, ()):
                name = text(obj, "metadata", "name")
                if name in needed.get(kind, frozenset()):
                    continue
                if kind == DEPLOYMENT.kind and (keeps_other or label(obj, SLOT) == slot.value):
                    continue
                await self._client.delete(KIND_BY_NAME[kind], text(obj, "metadata", "namespace"), name)

    async def forget(self, service_id: ServiceId, namespace: str) -> None:
        """The service is removed: delete the namespace if it was the last one there."""
        if not namespace or self._checks.are_given:
            return
        for kind in (DEPLOYMENT, SECRET, CLAIM):
            found, _ = await self._client.list(kind, namespace, labels=f"{MANAGED_BY}={MANAGER}")
            # A Deployment stays until its ReplicaSets and their pods are gone.
            if any(value(one, "metadata", "deletionTimestamp") is None for one in found):
                return
        is_ours = await self._checks.is_ours(namespace)
        # Asked last: a deploy of another service may have begun meanwhile.
        if self._cluster.unuse(namespace, service_id) and is_ours:
            await self._client.delete(NAMESPACE, None, namespace, is_foreground=False)
