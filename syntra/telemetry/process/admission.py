"""A budget of memory for all requests in progress: bytes are reserved before a body is read."""

from __future__ import annotations

import threading
from types import TracebackType

from syntra.telemetry.intake import Overloaded

RETRY_SECS = 1.0
"""When a sender should try again: requests take milliseconds, and senders back off by themselves."""


class MemoryBudget:
    """The budget; use it from any thread."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reserved = 0
        self.refused = 0
        """Requests that found no room."""
        self._lock = threading.Lock()

    def reserve(self, size: int) -> Reservation:
        """Reserve bytes until the reservation ends. Raises Overloaded.

        A request larger than the whole budget is let in when it is alone; the receiver limits its size.
        """
        with self._lock:
            if self.reserved and self.reserved + size > self.limit:
                self.refused += 1
                raise Overloaded("the agent's memory for requests is in use; try again", RETRY_SECS)
            self.reserved += size
        return Reservation(self, size)

    def release(self, size: int) -> None:
        """Give bytes back."""
        with self._lock:
            self.reserved -= size


class Reservation:
    """A context that returns the bytes at its end."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: MemoryBudget, size: int) -> None:
        self._budget = budget
        self._size = size

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.release(self._size)
