"""Requests that fail for a reason of the receiver's own: retried a few times, then refused for good. Thread-safe.

A sender drops its data after INTERNAL or 500, so a passing failure (no memory, a full disk) must be answered with
"try again". But a request that fails every time would come back for ever and block the sender's queue.
"""

from __future__ import annotations

import logging
import threading
import zlib

from syntra.telemetry.intake import Overloaded
from syntra.telemetry.signals import Signal

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
REMEMBERED = 256
RETRY_SECS = 5.0


class Failures:
    """Counts the failures of each request, and logs each kind of error once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._attempts: dict[tuple[int, int], int] = {}
        self._logged: set[str] = set()

    def failed(self, signal: Signal, body: bytes, error: Exception) -> Overloaded | None:
        """Note a failure. Returns what the sender gets: Overloaded to try again, None when it must give up."""
        key = (len(body), zlib.crc32(body))
        self.log_once(signal.value, error)
        with self._lock:
            # Taken out and put back: the oldest stands first.
            attempts = self._attempts.pop(key, 0) + 1
            self._attempts[key] = attempts
            if len(self._attempts) > REMEMBERED:
                del self._attempts[next(iter(self._attempts))]
        if attempts >= MAX_ATTEMPTS:
            return None
        return try_again()

    def log_once(self, place: str, error: Exception) -> None:
        """Log an unexpected error if it is the first of its type at this place."""
        kind = f"{place} {type(error).__name__}"
        with self._lock:
            is_new = kind not in self._logged
            self._logged.add(kind)
        if is_new:
            logger.error("otlp request failed", extra={"place": place}, exc_info=error)


def try_again() -> Overloaded:
    """What the sender of a request gets that failed for no fault of its own."""
    return Overloaded("cannot process the request: internal error; try again", RETRY_SECS)
