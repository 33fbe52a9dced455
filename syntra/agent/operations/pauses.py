"""Carries out `pause` and `resume`: a paused service is left alone until it is resumed.

The agent restores no replica of it and accepts no operation that makes or replaces replicas. Stop, restart and exec
work: a person at work on the service needs them. An operation that was accepted before continues to its end.
"""

from __future__ import annotations

import logging
import time

from syntra.agent.changes import Changes
from syntra.agent.journal.journal import Journal
from syntra.agent.journal.pauses import Pause
from syntra.agent.messages import for_control_plane, success
from syntra.model.command import Deploy, Operation, PauseService, ResumeService, Rollback, Scale
from syntra.model.errors import RequestError
from syntra.model.fields import Json
from syntra.utils.timestamps import format_secs

log = logging.getLogger(__name__)


class Pauses:
    """One per agent."""

    def __init__(self, journal: Journal, changes: Changes) -> None:
        self._journal = journal
        self._changes = changes

    async def carry_out(self, command: PauseService | ResumeService, origin: str) -> dict[str, Json]:
        """Store the change and the response; the outbox sends the response to the control plane if it asked.

        Pausing a paused service changes the reason only. Raises RequestError when there is no such service.
        """
        service_id = command.service_id
        if await self._journal.service(service_id) is None:
            raise RequestError("SERVICE_NOT_FOUND", f"cannot find service {service_id}: it was never deployed here")
        before = await self._journal.pauses.of(service_id)
        pause: Pause | None = None
        if isinstance(command, PauseService):
            pause = Pause(at=before.at if before else time.time(), reason=command.reason, by=command.by)
        kind = "resume" if pause is None else "pause"
        data: dict[str, Json] = {
            "service_id": service_id,
            "paused": pause_view(pause),
            "changed": (pause is None) != (before is None),
        }
        response = success(command.request_id, data)
        await self._journal.pauses.put(
            service_id,
            pause,
            request_id=command.request_id,
            kind=kind,
            origin=origin,
            response=response,
            messages=for_control_plane(origin, "command_response", response),
        )
        if pause is not None or before is not None:
            self._journal.events.note(kind, _sentence(pause, command), service_id=service_id)
        log.info("service paused" if pause else "service resumed", extra={"service_id": service_id})
        self._changes.announce()
        return response


async def refuse_paused(journal: Journal, command: Operation) -> None:
    """Raise RequestError for an operation that a paused service does not accept."""
    if not isinstance(command, Deploy | Scale | Rollback):
        return
    pause = await journal.pauses.of(command.service_id)
    if pause is None:
        return
    kind = type(command).__name__.lower().replace("rollback", "roll back")
    why = f" ({pause.reason})" if pause.reason else ""
    raise RequestError(
        "SERVICE_PAUSED",
        f"cannot {kind} {command.service_id}: it is paused since {format_secs(pause.at)}{why}; "
        f"run `syntra-agent resume {command.service_id}` first",
    )


def pause_view(pause: Pause | None) -> dict[str, Json] | None:
    """A pause as views show it."""
    return None if pause is None else {"since": format_secs(pause.at), "reason": pause.reason, "by": pause.by}


def _sentence(pause: Pause | None, command: PauseService | ResumeService) -> str:
    words = "resumed" if pause is None else "paused"
    by = f" by {command.by}" if command.by else ""
    return f"{words}{by}" + (f": {pause.reason}" if pause is not None and pause.reason else "")
