"""Replicas that should run and cannot be restored: why, since when, and when the next attempt is. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from syntra.health.result import bounded
from syntra.model.ids import ServiceId
from syntra.model.spec import ServiceSpec
from syntra.utils.frozen import frozen
from syntra.utils.timestamps import format_secs

# An alert waits for the second attempt, or this long: the first one often succeeds a second later.
ALERT_AFTER_SECS = 10.0


@frozen
class RestoreFailure:
    """The last failed attempt to restore a replica. Times are epoch seconds; `next_at` is None while it is unknown."""

    spec: ServiceSpec
    index: int
    reason: str
    since: float
    attempts: int
    next_at: float | None = None

    @property
    def problem(self) -> str:
        """For an alert about the service."""
        return f"cannot restore replica {self.index}: {self.reason}{self._next_try}"

    def __str__(self) -> str:
        service = f"service {self.spec.service_name} ({self.spec.project_name}/{self.spec.service_id})"
        return f"{service}: {self.problem}"

    @property
    def _next_try(self) -> str:
        if self.next_at is None:
            return ""
        # The time of day only: attempts are five minutes apart at most.
        return f"; next try at {format_secs(self.next_at)[11:19]} UTC"

    def is_alert(self, now: float) -> bool:
        """Whether it is more than a moment's problem."""
        return self.attempts > 1 or now - self.since >= ALERT_AFTER_SECS


class RestoreFailures:
    """The failures of all services, by replica index."""

    def __init__(self) -> None:
        self._known: dict[tuple[ServiceId, int], RestoreFailure] = {}

    def failed(self, now: float, spec: ServiceSpec, index: int, reason: str) -> None:
        """An attempt failed."""
        known = self._known.get((spec.service_id, index))
        self._known[spec.service_id, index] = RestoreFailure(
            spec=spec,
            index=index,
            reason=bounded(reason),
            since=known.since if known else now,
            attempts=known.attempts + 1 if known else 1,
        )

    def restored(self, service_id: ServiceId, index: int) -> None:
        """An attempt succeeded, or is not needed."""
        self._known.pop((service_id, index), None)

    def keep(self, is_missing: Callable[[ServiceId, int], bool]) -> None:
        """Forget the replicas that run, and the replicas that should not run."""
        self._known = {key: failure for key, failure in self._known.items() if is_missing(*key)}

    def all(self, next_at: Callable[[ServiceId, int], float | None]) -> list[RestoreFailure]:
        """Every failure, with the time of its next attempt, by service and index."""
        return [replace(failure, next_at=next_at(*key)) for key, failure in sorted(self._known.items())]
