"""The failure of an operation: in words, and as the journal stores it while the operation rolls back. Pure."""

from __future__ import annotations

import json
from dataclasses import field

from syntra.agent.operations.job import Interruption, Job, abort_reason, cancel_reason
from syntra.model.fields import Json
from syntra.model.ids import ContainerId
from syntra.model.status import Failure, LogLine
from syntra.utils.frozen import frozen

CLEANUP_SECS = 300.0
"""The limit of the cleanup after a commit, and of an operation without a deployment."""

_VERBS = {"rollback": "roll back"}


@frozen
class Ended:
    """Why an operation failed. `at_fault`: the container to keep, for inspection."""

    failure: Failure
    logs: tuple[LogLine, ...] = field(default=(), repr=False)
    at_fault: ContainerId | None = None

    def stored(self) -> dict[str, Json]:
        """As `restored` reads it."""
        stored: dict[str, Json] = {"code": self.failure.code, "message": self.failure.message}
        if self.failure.details:
            stored["details"] = self.failure.details
        if self.at_fault is not None:
            stored["container_id"] = self.at_fault
        stored["logs"] = [line.message for line in self.logs]
        return stored


def restored(reason: str) -> Ended:
    """The stored failure of an operation that rolls back."""
    stored = json.loads(reason or "{}")
    failure = Failure(
        code=stored.get("code", "INTERRUPTED"),
        message=stored.get("message", "the agent stopped before it finished"),
        details=stored.get("details", ""),
    )
    logs = tuple(LogLine(timestamp="", stream="stdout", message=line) for line in stored.get("logs", []))
    at_fault = stored.get("container_id")
    return Ended(failure=failure, logs=logs, at_fault=ContainerId(at_fault) if at_fault else None)


def interruption_message(cause: Interruption, job: Job, where: str) -> str:
    """Why an interrupted operation ends. `where`: the step that was under way; empty without one."""
    if cause is Interruption.ABORTED:
        return abort_reason(job).message
    if cause is Interruption.CANCELLED:
        return cancel_reason(job).message
    name = job.deployment.spec.service_name if job.deployment else job.service_id
    if cause is Interruption.SUPERSEDED:
        return f"cannot {_VERBS.get(job.kind, job.kind)} {name}: replaced by a newer command for the service"
    allowed = job.deployment.timeout_secs if job.deployment else CLEANUP_SECS
    ended_in = f"; it ended in: {where}" if where else ""
    return (
        f"cannot {_VERBS.get(job.kind, job.kind)} {name}: not done within {allowed:g} s{ended_in}; "
        "see its log, or raise timeout_seconds"
    )
