"""What pods use: from the kubelets' resource metrics, else from the metrics API, whichever the agent may read.

A kubelet has counters of CPU time (the source of metrics-server). The metrics API has CPU as a rate, of which a counter
is made here. Both have memory as the working set.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping, Sequence

import orjson

from syntra.model.figures import ContainerReading
from syntra.model.ids import ContainerId
from syntra.model.status import Replica
from syntra.runtime.errors import RuntimeFailure
from syntra.runtime.kubernetes.client import KubernetesClient
from syntra.runtime.kubernetes.names import CONTAINER, MANAGED_BY, MANAGER
from syntra.runtime.kubernetes.objects import Object, items, mapping, seconds, text
from syntra.runtime.kubernetes.pods import PodReplica, pod_id
from syntra.runtime.kubernetes.resources import POD_METRICS
from syntra.runtime.kubernetes.units import quantity

log = logging.getLogger(__name__)

# How long a source that refused is not asked again.
REFUSED_SECS = 60.0
READ_SECS = 5.0

# Label values of the API's names need no escapes.
_SAMPLE = re.compile(
    rb"^container_(cpu_usage_seconds_total|memory_working_set_bytes)"
    rb'\{container="([^"]*)",namespace="([^"]*)",pod="([^"]*)"\} (\S+) (\d+)$',
    re.MULTILINE,
)


class PodFigures:
    """Implements `runtime.runtime.Usage`."""

    def __init__(self, client: KubernetesClient, namespaces: Sequence[str] = ()) -> None:
        self._client = client
        self._namespaces = namespaces
        self._refused_at: dict[str, float] = {}
        self._cpu: dict[ContainerId, tuple[int, float]] = {}
        """Of the metrics API: the last time, and CPU nanoseconds so far."""

    async def readings(self, replicas: Sequence[Replica]) -> Mapping[ContainerId, ContainerReading]:
        """What these pods use now; pods that cannot be measured are left out."""
        pods = [one for one in replicas if isinstance(one, PodReplica) and one.is_running]
        if not pods:
            return {}
        nodes = sorted({pod.node for pod in pods if pod.node})
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._of_node(node), name=f"resource metrics of {node}") for node in nodes]
        found = {key: reading for task in tasks for key, reading in task.result().items()}
        wanted = {pod.container_id for pod in pods}
        if not wanted <= found.keys():
            found = {**await self._metrics(), **found}
        return {key: reading for key, reading in found.items() if key in wanted}

    async def _of_node(self, node: str) -> dict[ContainerId, ContainerReading]:
        path = f"/api/v1/nodes/{node}/proxy/metrics/resource"
        return resource_readings(await self._asked(f"the metrics of node {node}", path, None))

    async def _metrics(self) -> dict[ContainerId, ContainerReading]:
        query = {"labelSelector": f"{MANAGED_BY}={MANAGER}"}
        pods: list[Object] = []
        for namespace in self._namespaces or (None,):
            source = f"pod metrics of {namespace}" if namespace else "pod metrics"
            body = await self._asked(source, POD_METRICS.path(namespace), query)
            pods += items(orjson.loads(body) if body else {}, "items")
        found = {}
        for pod in pods:
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

    async def _asked(self, source: str, path: str, query: Mapping[str, str] | None) -> bytes:
        if time.monotonic() - self._refused_at.get(source, -REFUSED_SECS) < REFUSED_SECS:
            return b""
        try:
            return await self._client.read("GET", path, query=query, deadline=READ_SECS, what=f"read {source}")
        except RuntimeFailure as refused:
            # A kubelet that does not answer must not hold up the figures of the others.
            log.debug("no figures", extra={"source": source, "reason": str(refused)})
            self._refused_at[source] = time.monotonic()
            return b""


def resource_readings(body: bytes) -> dict[ContainerId, ContainerReading]:
    """The readings in a kubelet's `/metrics/resource` (Prometheus text; kubelet/server/metrics/resource_metrics.go)."""
    cpu: dict[ContainerId, tuple[int, int]] = {}
    memory: dict[ContainerId, int] = {}
    for found in _SAMPLE.finditer(body):
        kind, container, namespace, pod, value, stamp = (part.decode() for part in found.groups())
        if container != CONTAINER:
            continue
        key = pod_id(namespace, pod)
        if kind == "cpu_usage_seconds_total":
            cpu[key] = int(stamp) * 1_000_000, int(float(value) * 1e9)
        else:
            memory[key] = int(float(value))
    return {
        key: ContainerReading(at_ns=at_ns, cpu_ns=spent_ns, memory_bytes=memory[key])
        for key, (at_ns, spent_ns) in cpu.items()
        if key in memory
    }
