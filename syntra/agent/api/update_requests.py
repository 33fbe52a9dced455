"""Answers `update_agent`: at once to the control plane, with progress and after the swap to a person."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Protocol

from syntra.agent.messages import CONTROL_PLANE, Peer, PeerGone, refusal, success
from syntra.model.command import UpdateAgent
from syntra.model.fields import Json
from syntra.model.status import Failure
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

Send = Callable[[Mapping[str, Json]], Awaitable[None]]


class AgentUpdates(Protocol):
    """Updates the agent; see `agent.update.updates`."""

    async def carry_out(self, command: UpdateAgent, origin: str, say: Send, answer: Send) -> None:
        """Calls `answer` once with the data of the response. Raises AgentError, before or after it."""


async def update_agent(command: UpdateAgent, updates: AgentUpdates, peer: Peer) -> None:
    """Carry the command out. It continues when its client disconnects."""
    is_answered = False

    async def say(progress: Mapping[str, Json]) -> None:
        if peer.origin != CONTROL_PLANE:
            with suppress(PeerGone):
                await peer.stream("update_progress", {"request_id": command.request_id, **progress})

    async def answer(data: Mapping[str, Json]) -> None:
        nonlocal is_answered
        is_answered = True
        with suppress(PeerGone):
            await peer.respond(success(command.request_id, data))

    try:
        await updates.carry_out(command, peer.origin, say, answer)
    except AgentError as failed:
        log.error("update failed", extra={"request_id": command.request_id, "reason": str(failed)})
        if not is_answered:
            await peer.respond(refusal(command.request_id, Failure(code=failed.code, message=str(failed))))
