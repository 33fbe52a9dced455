"""Memory of requests: a reservation that grows with the body, and the return of freed memory to the system."""

from __future__ import annotations

import ctypes
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from syntra.telemetry.intake import Intake

STEP_BYTES = 1 << 20
LARGE_REQUEST_BYTES = 4 << 20
"""After a request of this size the receivers call `return_freed_memory`."""

_STATM = Path("/proc/self/statm")
_PAGE_BYTES = 4096
# malloc.h of glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


class Reservation:
    """A reservation that grows. Leaving the context returns all of it."""

    def __init__(self, intake: Intake, limit: int) -> None:
        self._intake = intake
        self._limit = limit
        # Not an ExitStack, which costs more than the reservation of a small request.
        self._held: list[AbstractContextManager[None]] = []
        self._reserved = 0

    def grow_to(self, size: int) -> None:
        """Have at least `size` bytes; large requests grow in steps of 1 MiB. Raises Overloaded."""
        missing = size - self._reserved
        if missing > 0:
            if size >= STEP_BYTES:
                missing = max(missing, min(STEP_BYTES, self._limit - self._reserved))
            held = self._intake.reserve(missing)
            held.__enter__()
            self._held.append(held)
            self._reserved += missing

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._held:
            self._held.pop().__exit__(None, None, None)


def limit_allocator() -> None:
    """Set the C library's allocator for large requests in many threads; a process with receivers calls this first.

    Blocks of 1 MiB and more get a mapping of their own, so they grow without a copy and return to the system when they
    are freed. By default the threshold rises to the largest block seen, and each thread may have an arena of its own.
    Up to 2 MiB that are free stay in the process: with a fixed threshold it would return the pages of each request of
    more than 128 KiB and fetch them again for the next one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        mallopt(_M_TRIM_THRESHOLD, 2 << 20)
        mallopt(_M_ARENA_MAX, 2)


def resident_bytes() -> int:
    """The resident memory of this process."""
    return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
