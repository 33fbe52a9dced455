"""Detects containers that exited unexpectedly, from the engine's events. Pure.

On a stop the engine sends kill (with the signal), die (with the exit code), stop; on a restart by policy only die and
start. Before an out-of-memory exit it sends oom, but it also does when only a child process was killed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.status import ContainerExit, ContainerExits
from syntra.runtime.docker import body
from syntra.runtime.docker.records import EngineEvent

MOST_ENDS = 1000
# An oom event this long before the exit had another cause.
_OOM_NS = 10 * 1_000_000_000
# Longer than most stop timeouts: a signal that a program survived this long did not end it.
_KILL_NS = 600 * 1_000_000_000
# Other signals usually ask for a reload.
_ENDING = {"2": "SIGINT", "3": "SIGQUIT", "9": "SIGKILL", "15": "SIGTERM"}
_ENDING |= {name: name for name in _ENDING.values()}


def _ours(_: str) -> bool:
    return True


class ExitTracker:
    """Call it with every event of the agent's containers. If the exits are not drained, the oldest are dropped."""

    def __init__(self, owner: str, most: int = MOST_ENDS, *, is_ours: Callable[[str], bool | None] = _ours) -> None:
        """`is_ours` judges a container with the agent's labels; None when it cannot yet."""
        self._owner = owner
        self._is_ours = is_ours
        self._ends: deque[ContainerExit] = deque(maxlen=most)
        self._complete = False
        # Per container; an entry is removed when the container starts again or is removed.
        self._asked: dict[str, int] = {}
        self._killed: dict[str, tuple[int, str]] = {}
        self._oom: dict[str, int] = {}
        self.dropped = 0

    def expected(self, container_id: str, at_ns: int) -> None:
        """The agent is about to stop, restart or remove it: its next exit is expected."""
        self._asked[container_id] = at_ns

    def gap(self) -> None:
        """Events were missed."""
        self._complete = False

    def feed(self, event: EngineEvent) -> None:
        """Process the next event."""
        if event.attributes.get(body.OWNER) != self._owner:
            return
        match event.action:
            case "oom":
                self._oom[event.id] = event.time_nano
            case "kill":
                if (signal := _ENDING.get(event.attributes.get("signal", ""))) is not None:
                    self._killed[event.id] = event.time_nano, signal
            case "start":
                self._forget(event.id, event.time_nano)
            case "die":
                self._died(event)
            case "destroy":
                self._forget(event.id, None)

    def drain(self) -> ContainerExits:
        """The exits since the last call."""
        taken = ContainerExits(ended=tuple(self._ends), complete=self._complete)
        self._ends.clear()
        self._complete = True
        return taken

    def _died(self, event: EngineEvent) -> None:
        labels = event.attributes
        if event.id in self._asked or body.SERVICE not in labels or body.DEPLOYMENT not in labels:
            return
        if labels.get(body.KIND):
            # Not a replica: it ends when it is done, and its operation waits for it.
            return
        if len(self._ends) == self._ends.maxlen:
            self.dropped += 1
            self._complete = False
        is_ours = self._is_ours(event.id)
        if is_ours is not True:
            # A container that was not inspected yet is found by comparing, if it is the agent's.
            self._complete = self._complete and is_ours is False
            return
        code, index = labels.get("exitCode", ""), labels.get(body.REPLICA, "")
        oom_at = self._oom.pop(event.id, None)
        killed_at, signal = self._killed.pop(event.id, (event.time_nano, ""))
        self._ends.append(
            ContainerExit(
                container_id=ContainerId(event.id),
                service_id=ServiceId(labels[body.SERVICE]),
                deployment_id=DeploymentId(labels[body.DEPLOYMENT]),
                index=_uncancelled(index) or 1,
                exit_code=_uncancelled(code),
                oom_killed=oom_at is not None and event.time_nano - oom_at < _OOM_NS and code != "0",
                signal=signal if event.time_nano - killed_at < _KILL_NS else "",
            )
        )

    def _forget(self, container_id: str, started_ns: int | None) -> None:
        self._killed.pop(container_id, None)
        self._oom.pop(container_id, None)
        # A late start event must not cancel a stop that was requested after that start.
        if started_ns is None or self._asked.get(container_id, 0) < started_ns:
            self._asked.pop(container_id, None)


def _uncancelled(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
