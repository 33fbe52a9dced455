"""Runs release commands in a cluster, and removes their pods."""

from __future__ import annotations

import asyncio

from syntra.model.ids import ServiceId
from syntra.model.spec import Deployment
from syntra.runtime.errors import StepFailed
from syntra.runtime.kubernetes.cluster import Cluster
from syntra.runtime.kubernetes.errors import ApiRefusal
from syntra.runtime.kubernetes.names import KIND
from syntra.runtime.kubernetes.objects import Object, integer, items, mapping, text
from syntra.runtime.kubernetes.pods import pod_id
from syntra.runtime.kubernetes.release_pod import RELEASE, release_pod
from syntra.runtime.kubernetes.render_context import RenderContext
from syntra.runtime.kubernetes.resources import POD

LOOK_SECS = 0.5
# Waiting reasons of a container that will not start.
_HOPELESS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError"})


class Releases:
    """The release commands of one operation. Raises the client's errors, and StepFailed when a command fails."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._client = cluster.client

    async def run(self, deployment: Deployment, context: RenderContext, limit_secs: float) -> None:
        """Start the command unless it was started before; return when it has succeeded."""
        pod = release_pod(deployment, context)
        namespace, name = text(pod, "metadata", "namespace"), text(pod, "metadata", "name")
        try:
            await self._client.create(pod)
        except ApiRefusal as refused:
            if not refused.is_conflict:
                raise
        about = f"cannot deploy {deployment.spec.service_name}"
        try:
            async with asyncio.timeout(limit_secs):
                ended = await self._ended(namespace, name, about)
        except TimeoutError as late:
            raise StepFailed(
                "RELEASE_FAILED",
                f"{about}: the release command was not done within {limit_secs:.0f} s; see its log, or raise "
                "timeout_seconds",
                container_id=pod_id(namespace, name),
            ) from late
        code = integer(ended, "exitCode", default=-1)
        if code != 0:
            raise StepFailed(
                "RELEASE_FAILED",
                f"{about}: the release command exited with code {code}; see its log",
                container_id=pod_id(namespace, name),
            )

    async def remove(self, service_id: ServiceId) -> None:
        """Remove the pods of the service's release commands; one that still runs ends first."""
        for pod in await self._cluster.everywhere(POD, f"{self._cluster.selector(service_id)},{KIND}={RELEASE}"):
            await self._client.delete(POD, text(pod, "metadata", "namespace"), text(pod, "metadata", "name"))

    async def _ended(self, namespace: str, name: str, about: str) -> Object:
        """The terminated state of the pod's container."""
        while True:
            pod = await self._client.get(POD.path(namespace, name), what=f"read pod {name}")
            for status in items(pod, "status", "containerStatuses"):
                if ended := mapping(status, "state", "terminated"):
                    return ended
                waiting = mapping(status, "state", "waiting")
                if text(waiting, "reason") in _HOPELESS:
                    reason = text(waiting, "message") or text(waiting, "reason")
                    raise StepFailed("RELEASE_FAILED", f"{about}: the release command could not be started: {reason}")
            if text(pod, "status", "phase") == "Failed":
                reason = text(pod, "status", "message") or text(pod, "status", "reason") or "its pod failed"
                raise StepFailed("RELEASE_FAILED", f"{about}: the release command could not be started: {reason}")
            await self._cluster.changed(LOOK_SECS)
