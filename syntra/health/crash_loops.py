"""Which containers crash again and again: two exits by themselves within minutes. Pure."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from syntra.model.ids import ContainerId
from syntra.utils.frozen import frozen

# The engine waits a minute at most before it restarts a container, so a loop has two exits well within this time.
LOOP_SECS = 180.0


@frozen
class _Exit:
    at: float
    exit_code: int | None


@frozen
class CrashLoop:
    """A container in a loop, and the code of its last exit."""

    exit_code: int | None


class CrashLoops:
    """Remembers the last two exits of each container. Times are in seconds on a monotonic clock."""

    def __init__(self) -> None:
        self._exits: dict[ContainerId, tuple[_Exit, ...]] = {}

    def exited(self, now: float, container_id: ContainerId, exit_code: int | None) -> None:
        """A container exited by itself."""
        before = self._exits.get(container_id, ())
        self._exits[container_id] = (*before[-1:], _Exit(at=now, exit_code=exit_code))

    def keep(self, containers: AbstractSet[ContainerId]) -> None:
        """Forget all other containers."""
        self._exits = {known: exits for known, exits in self._exits.items() if known in containers}

    def of(self, now: float, container_id: ContainerId) -> CrashLoop | None:
        """The loop that a container is in; None when it is in none."""
        exits = self._exits.get(container_id, ())
        if len(exits) < 2 or now - exits[0].at > LOOP_SECS:
            return None
        return CrashLoop(exit_code=exits[-1].exit_code)
