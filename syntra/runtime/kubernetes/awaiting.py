"""Waits for a Deployment to roll out, and for a Service to have the endpoints of one slot."""

from __future__ import annotations

import time
from collections.abc import Sequence

from syntra.model.ids import ServiceId
from syntra.runtime.errors import StepFailed
from syntra.runtime.kubernetes.cache import ObjectCache
from syntra.runtime.kubernetes.cluster import Cluster
from syntra.runtime.kubernetes.grace import PodGrace
from syntra.runtime.kubernetes.names import DEPLOYMENT_ID, SERVICE, SLOT, Slot, label_value
from syntra.runtime.kubernetes.objects import Object, integer, is_true, items, label, text, value
from syntra.runtime.kubernetes.pod_trouble import unready_secs
from syntra.runtime.kubernetes.pods import pod_id
from syntra.runtime.kubernetes.resources import ENDPOINT_SLICE
from syntra.runtime.kubernetes.verdict import Done, Failed, Waiting, judge

# A watch that is late must not hold up a rollout.
LOOK_SECS = 1.0
ENDPOINTS_SECS = 0.2
PODS_SECS = 5.0


class RolloutWait:
    """The waits of one operation. `last_seen` says what the current one saw last, for people."""

    def __init__(self, cluster: Cluster, service_id: ServiceId, grace: PodGrace) -> None:
        self._cluster = cluster
        self._grace = grace
        self._service_id = service_id
        self._generations: dict[str, int] = {}
        self._since = time.time()
        self._asked_at = 0.0
        self.last_seen = ""
        self.progress = ""
        """How many of the replicas of a rollout are ready."""

    def applied(self, workload: Object) -> None:
        """A Deployment as the API server answered: a verdict needs to have seen this generation."""
        self._generations[text(workload, "metadata", "name")] = integer(workload, "metadata", "generation")
        self._since = time.time()

    async def rollout(self, namespace: str, name: str, deployment_id: str) -> None:
        """Return when the Deployment is rolled out. Raises StepFailed as soon as its pods tell that it will not be."""
        while True:
            await self._grace.shorten()
            workload = self._cluster.workloads.objects.get((namespace, name))
            least = self._generations.get(name, 0)
            if workload is not None and integer(workload, "metadata", "generation") >= least:
                ready, wanted = integer(workload, "status", "readyReplicas"), integer(workload, "spec", "replicas")
                self.progress = f"{min(ready, wanted)}/{wanted} ready"
                verdict = await self._verdict(workload, deployment_id)
                if isinstance(verdict, Done):
                    await self._pods_seen(workload, wanted)
                    await self._grace.shorten()
                    self.last_seen = ""
                    return
                self.last_seen = verdict.text
            await self._cluster.changed(LOOK_SECS)

    async def _pods_seen(self, workload: Object, wanted: int) -> None:
        """Return when the watch of pods has seen as many as the Deployment's status says: each kind has its own watch.

        It also returns after a while, since an autoscaler may be at work.
        """
        key = (label(workload, SERVICE), label(workload, SLOT))
        until = time.monotonic() + PODS_SECS
        while time.monotonic() < until:
            pods = [
                pod for pod in self._cluster.pods.objects.values() if (label(pod, SERVICE), label(pod, SLOT)) == key
            ]
            if sum(value(pod, "metadata", "deletionTimestamp") is None for pod in pods) == wanted:
                return
            await self._cluster.changed(ENDPOINTS_SECS)

    async def endpoints(self, namespace: str, name: str, slot: Slot, *, is_empty: bool) -> None:
        """Return when the ready endpoints of the Service are pods of the slot only; none at all where `is_empty`."""
        wanted = set() if is_empty else {slot.value}
        while True:
            selector = f"kubernetes.io/service-name={name}"
            slices, _ = await self._cluster.client.list(ENDPOINT_SLICE, namespace, labels=selector)
            ready = [
                text(endpoint, "targetRef", "name")
                for one in slices
                for endpoint in items(one, "endpoints")
                if is_true(endpoint, "conditions", "ready")
            ]
            pods = self._cluster.pods.objects
            slots = {text(pods.get((namespace, pod)), "metadata", "labels", SLOT) for pod in ready}
            if slots == wanted:
                self.last_seen = ""
                return
            self.last_seen = f"Service {name} has endpoints in {', '.join(sorted(slots)) or 'no slot'}"
            await self._cluster.changed(ENDPOINTS_SECS)

    async def stopped(self) -> None:
        """Return when no pod of the service is left."""
        while left := await self._cluster.listed_replicas(self._service_id):
            self.last_seen = f"{len(left)} {'pod is' if len(left) == 1 else 'pods are'} ending"
            await self._grace.shorten()
            await self._cluster.changed(LOOK_SECS)
        self.last_seen = ""

    async def _verdict(self, workload: Object, deployment_id: str) -> Waiting | Done:
        namespace, found = text(workload, "metadata", "namespace"), self._judged(workload, (), deployment_id)
        about = self._unready(deployment_id) if isinstance(found, Waiting) else ""
        if isinstance(found, Failed):
            about = found.pod or text(workload, "metadata", "name")
        if about:
            # Events have the words of scheduler and kubelet, and tell whether an autoscaler is about to help. That a
            # check fails stands nowhere else.
            found = self._judged(workload, await self._cluster.events(namespace, about), deployment_id)
        if isinstance(found, Failed):
            pod = pod_id(namespace, found.pod) if found.pod else None
            raise StepFailed(found.code, found.sentence, container_id=pod, details=found.details)
        return found

    def _unready(self, deployment_id: str) -> str:
        """The name of a pod that has been unready for longer than its check may fail; asked once in a while only."""
        now = time.time()
        if now - self._asked_at < LOOK_SECS:
            return ""
        for pod in self._of_service(self._cluster.pods):
            is_new = text(pod, "metadata", "annotations", DEPLOYMENT_ID) == deployment_id
            if is_new and unready_secs(pod, now=now) > 0 and value(pod, "metadata", "deletionTimestamp") is None:
                self._asked_at = now
                return text(pod, "metadata", "name")
        return ""

    def _of_service(self, cache: ObjectCache) -> list[Object]:
        service = label_value(self._service_id)
        return [one for one in cache.objects.values() if label(one, SERVICE) == service]

    def _judged(self, workload: Object, events: Sequence[Object], deployment_id: str) -> Waiting | Done | Failed:
        return judge(
            workload,
            self._of_service(self._cluster.replica_sets),
            self._of_service(self._cluster.pods),
            events,
            now=time.time(),
            since=self._since,
            deployment_id=deployment_id,
        )
