"""Containers that ended and were started again by the kubelet, from changes of pods. Pure.

A rollout, a drain or a person may delete a pod: that is no failure. So only its containers' restarts
and its own failure count.
"""

from __future__ import annotations

from collections import deque

from syntra.model.status import ContainerExit, ContainerExits
from syntra.runtime.kubernetes.pods import PodReplica

MOST_ENDS = 1000


class ExitTracker:
    """Call `changed` with each change of a pod. If the exits are not drained, the oldest are dropped."""

    def __init__(self, most: int = MOST_ENDS) -> None:
        self._ends: deque[ContainerExit] = deque(maxlen=most)
        self._is_complete = False

    def changed(self, before: PodReplica, after: PodReplica) -> None:
        """A pod as it was, and as it is."""
        if after.is_leaving:
            return
        restarts = after.restart_count - before.restart_count
        if restarts > 0:
            self._is_complete = self._is_complete and restarts == 1
            self._add(after, after.last_exit_code, after.last_oom_killed)
        elif after.exit_code is not None and before.exit_code is None and after.phase in ("Failed", "Succeeded"):
            self._add(after, after.exit_code, after.oom_killed)

    def gap(self) -> None:
        """Changes were missed."""
        self._is_complete = False

    def drain(self) -> ContainerExits:
        """The exits since the last call."""
        taken = ContainerExits(ended=tuple(self._ends), complete=self._is_complete)
        self._ends.clear()
        self._is_complete = True
        return taken

    def _add(self, pod: PodReplica, exit_code: int | None, oom_killed: bool) -> None:
        self._ends.append(
            ContainerExit(
                container_id=pod.container_id,
                service_id=pod.service_id,
                deployment_id=pod.deployment_id,
                index=pod.index,
                exit_code=exit_code,
                oom_killed=oom_killed,
            )
        )
