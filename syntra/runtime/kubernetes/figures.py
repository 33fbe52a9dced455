"""What pods use: from the kubelets' summaries, else from the metrics API, whichever the agent may read.

A kubelet's summary has counters (CPU time, network, processes). The metrics API (metrics-server) has CPU as a rate, of
which a counter is made here, and memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from syntra.model.figures import ContainerReading
from syntra.model.ids import ContainerId
from syntra.model.status import Replica
from syntra.runtime.kubernetes.client import KubernetesClient
from syntra.runtime.kubernetes.errors import ApiRefusal
from syntra.runtime.kubernetes.names import CONTAINER, MANAGED_BY, MANAGER
from syntra.runtime.kubernetes.objects import Object, integer, items, mapping, seconds, text
from syntra.runtime.kubernetes.pods import PodReplica, pod_id
from syntra.runtime.kubernetes.resources import POD_METRICS
from syntra.runtime.kubernetes.units import quantity

# How long a source that refused is not asked again.
REFUSED_SECS = 300.0


class PodFigures:
    """Implements `runtime.runtime.Usage`."""

    def __init__(self, client: KubernetesClient) -> None:
        self._client = client
        self._refused_at: dict[str, float] = {}
        self._cpu: dict[ContainerId, tuple[int, float]] = {}
        """Of the metrics API: the last time, and CPU nanoseconds so far."""

    async def readings(self, replicas: Sequence[Replica]) -> Mapping[ContainerId, ContainerReading]:
        """What these pods use now; those that cannot be measured are left out."""
        pods = [one for one in replicas if isinstance(one, PodReplica) and one.is_running]
        if not pods:
            return {}
        nodes = sorted({pod.node for pod in pods if pod.node})
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._summary(node), name=f"summary of {node}") for node in nodes]
        found = {key: reading for task in tasks for key, reading in task.result().items()}
        wanted = {pod.container_id for pod in pods}
        if not wanted <= found.keys():
            found = {**await self._metrics(), **found}
        return {key: reading for key, reading in found.items() if key in wanted}

    async def _summary(self, node: str) -> dict[ContainerId, ContainerReading]:
        path = f"/api/v1/nodes/{node}/proxy/stats/summary"
        answer = await self._asked("summary", path, None)
        found = {}
        for pod in items(answer, "pods"):
            key = pod_id(text(pod, "podRef", "namespace"), text(pod, "podRef", "name"))
            if (reading := summary_reading(pod)) is not None:
                found[key] = reading
        return found

    async def _metrics(self) -> dict[ContainerId, ContainerReading]:
        query = {"labelSelector": f"{MANAGED_BY}={MANAGER}"}
        answer = await self._asked("metrics", POD_METRICS.path(), query)
        found = {}
        for pod in items(answer, "items"):
            key = pod_id(text(pod, "metadata", "namespace"), text(pod, "metadata", "name"))
            usage = next((mapping(c, "usage") for c in items(pod, "containers") if text(c, "name") == CONTAINER), {})
            at = seconds(pod, "timestamp")
            cpu, memory = quantity(text(usage, "cpu")), quantity(text(usage, "memory"))
            if at is None or cpu is None or memory is None:
                continue
            at_ns = int(at * 1e9)
            last_ns, spent = self._cpu.get(key, (at_ns, 0.0))
            spent += float(cpu) * max(at_ns - last_ns, 0)
            self._cpu[key] = at_ns, spent
            found[key] = ContainerReading(at_ns=at_ns, cpu_ns=int(spent), memory_bytes=int(memory))
        self._cpu = {key: value for key, value in self._cpu.items() if key in found}
        return found

    async def _asked(self, source: str, path: str, query: Mapping[str, str] | None) -> Object:
        if time.monotonic() - self._refused_at.get(source, -REFUSED_SECS) < REFUSED_SECS:
            return {}
        try:
            return await self._client.get(path, query, what=f"read {source}")
        except ApiRefusal:
            self._refused_at[source] = time.monotonic()
            return {}


def summary_reading(pod: Object) -> ContainerReading | None:
    """A pod of a kubelet's summary (kubelet/pkg/apis/stats/v1alpha1); None while it has no figures yet."""
    container = next((one for one in items(pod, "containers") if text(one, "name") == CONTAINER), {})
    at = seconds(container, "cpu", "time")
    if at is None or "usageCoreNanoSeconds" not in mapping(container, "cpu"):
        return None
    memory = mapping(container, "memory")
    usage, working_set = integer(memory, "usageBytes"), integer(memory, "workingSetBytes")
    return ContainerReading(
        at_ns=int(at * 1e9),
        cpu_ns=integer(container, "cpu", "usageCoreNanoSeconds"),
        memory_bytes=usage or working_set,
        inactive_file_bytes=max(usage - working_set, 0),
        rss_bytes=integer(memory, "rssBytes") or None,
        memory_limit_bytes=(usage + integer(memory, "availableBytes")) if "availableBytes" in memory else None,
        networks={
            text(one, "name"): (integer(one, "rxBytes"), integer(one, "txBytes"))
            for one in items(pod, "network", "interfaces")
        },
        pids=integer(pod, "process_stats", "process_count"),
    )
