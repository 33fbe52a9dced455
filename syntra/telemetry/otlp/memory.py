"""Memory that a request reserves step by step while its size becomes known."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType

from syntra.telemetry.intake import Intake

STEP_BYTES = 1 << 20


class Reservation:
    """A reservation that grows. Leaving the context returns all of it."""

    def __init__(self, intake: Intake, limit: int) -> None:
        self._intake = intake
        self._limit = limit
        self._stack = ExitStack()
        self._reserved = 0

    def grow_to(self, size: int) -> None:
        """Have at least `size` bytes; large requests grow in steps of 1 MiB. Raises Overloaded."""
        missing = size - self._reserved
        if missing > 0:
            if size >= STEP_BYTES:
                missing = max(missing, min(STEP_BYTES, self._limit - self._reserved))
            self._stack.enter_context(self._intake.reserve(missing))
            self._reserved += missing

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
