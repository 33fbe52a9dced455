"""The time that pods have from their stop signal to SIGKILL, where a command asks for another than their own.

A cluster deletes the pods that a Deployment no longer wants with the time of their spec. A second delete with a shorter
time shortens it; a longer one changes nothing (apiserver, registry/rest/delete.go, BeforeDelete).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from syntra.model.ids import ServiceId
from syntra.runtime.kubernetes.cluster import Cluster
from syntra.runtime.kubernetes.names import SERVICE, label_value
from syntra.runtime.kubernetes.objects import Object, integer, items, label, mapping, text, value
from syntra.runtime.kubernetes.resources import POD


class PodGrace:
    """`shorten` is called whenever pods may have begun to end. `secs` is None for the time that each pod has."""

    def __init__(
        self, cluster: Cluster, service_id: ServiceId, secs: float | None, *, remark: Callable[[str], None]
    ) -> None:
        self._cluster = cluster
        self._service = label_value(service_id)
        self._secs = secs
        self._remark = remark
        self._told: set[str] = set()

    async def shorten(self) -> None:
        """Give the service's pods that are ending the time asked for. Raises the client's errors."""
        if self._secs is None:
            return
        for pod in [*self._cluster.pods.objects.values()]:
            if label(pod, SERVICE) != self._service or value(pod, "metadata", "deletionTimestamp") is None:
                continue
            # Zero would take the pod out of the API while it still runs.
            wanted = max(1, math.ceil(self._secs)) + before_stop_secs(pod)
            left = integer(pod, "metadata", "deletionGracePeriodSeconds")
            uid = text(pod, "metadata", "uid")
            if left < wanted:
                self._remark(
                    f"pods have {left - before_stop_secs(pod)} s to stop, as they were created; a cluster does not "
                    "lengthen it: change stop_grace_seconds, and deploy"
                )
            if left > wanted and uid not in self._told:
                self._told.add(uid)
                namespace, name = text(pod, "metadata", "namespace"), text(pod, "metadata", "name")
                await self._cluster.client.delete(POD, namespace, name, grace_secs=wanted)


def before_stop_secs(pod: Object) -> int:
    """How long a pod waits before its stop signal."""
    longest = 0
    for container in items(pod, "spec", "containers"):
        hook = mapping(container, "lifecycle", "preStop")
        command = value(hook, "exec", "command")
        if isinstance(command, list) and command[:1] == ["sleep"]:
            # A pod may have containers that others added, with a command of another form.
            longest = max(longest, sum(int(word) for word in command[1:2] if str(word).isdecimal()))
        elif mapping(hook, "sleep"):
            longest = max(longest, integer(hook, "sleep", "seconds"))
    return longest
