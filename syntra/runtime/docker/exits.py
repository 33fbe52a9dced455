"""Which containers ended without our asking, told by the engine's events. Pure.

On a stop the engine says kill (with the signal), die (with the exit code), stop; on a restart by policy only die and
start; before an end for want of memory it says oom, but it says oom as well when only a child was killed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.status import ContainerExit, ContainerExits
from syntra.runtime.docker import body
from syntra.runtime.docker.records import EngineEvent

MOST_ENDS = 1000
# An oom that long before the end was about something else.
_OOM_NS = 10 * 1_000_000_000
# Longer than nearly everybody lets a container take to end; what a program survived that long did not end it.
_KILL_NS = 600 * 1_000_000_000
# Other signals are mostly a wish to reload.
_ENDING = {"2": "SIGINT", "3": "SIGQUIT", "9": "SIGKILL", "15": "SIGTERM"}
_ENDING |= {name: name for name in _ENDING.values()}


def _ours(_: str) -> bool:
    return True


class ExitTracker:
    """Fed with every event of a container of ours. What nobody takes in time is dropped, oldest first, and counted."""

    def __init__(self, owner: str, most: int = MOST_ENDS, *, is_ours: Callable[[str], bool | None] = _ours) -> None:
        """`is_ours` judges a container with our labels; None when it cannot yet."""
        self._owner = owner
        self._is_ours = is_ours
        self._ends: deque[ContainerExit] = deque(maxlen=most)
        self._complete = False
        # By container; each is forgotten when the container starts again or goes.
        self._asked: dict[str, int] = {}
        self._killed: dict[str, tuple[int, str]] = {}
        self._oom: dict[str, int] = {}
        self.dropped = 0

    def expected(self, container_id: str, at_ns: int) -> None:
        """We are about to stop, restart or remove it: its next end is no news."""
        self._asked[container_id] = at_ns

    def gap(self) -> None:
        """Events were missed."""
        self._complete = False

    def feed(self, event: EngineEvent) -> None:
        """Take the next event."""
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
        """The ends since the last call."""
        taken = ContainerExits(ended=tuple(self._ends), complete=self._complete)
        self._ends.clear()
        self._complete = True
        return taken

    def _died(self, event: EngineEvent) -> None:
        labels = event.attributes
        if event.id in self._asked or body.SERVICE not in labels or body.DEPLOYMENT not in labels:
            return
        if len(self._ends) == self._ends.maxlen:
            self.dropped += 1
            self._complete = False
        is_ours = self._is_ours(event.id)
        if is_ours is not True:
            # What was not looked at yet is found by comparing, if it is ours.
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
        # A start that is told late says nothing about the stop that was asked for after it.
        if started_ns is None or self._asked.get(container_id, 0) < started_ns:
            self._asked.pop(container_id, None)


def _uncancelled(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
