"""Answers `proxy_up`, `proxy_down` and `proxy_status`, with progress."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from syntra.agent.messages import Peer, PeerGone, refusal, success
from syntra.model.command import ProxyAction, ProxyControl
from syntra.model.fields import Json
from syntra.model.status import Failure
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)


class ProxyControls(Protocol):
    """Carries out `ProxyControl` commands; implemented by `agent.proxy.verbs`."""

    async def carry_out(self, action: ProxyAction, say: Callable[[str], Awaitable[None]]) -> dict[str, Json]:
        """Returns the data of the response; `say` takes progress sentences. Raises AgentError."""


async def control_proxy(command: ProxyControl, proxy: ProxyControls, peer: Peer) -> None:
    """Carry the command out. It continues when its client disconnects."""

    async def say(sentence: str) -> None:
        with suppress(PeerGone):
            await peer.stream("proxy_progress", {"request_id": command.request_id, "message": sentence})

    try:
        response = success(command.request_id, await proxy.carry_out(command.action, say))
    except AgentError as failed:
        log.error("proxy command failed", extra={"kind": command.action.value, "reason": str(failed)})
        response = refusal(command.request_id, Failure(code=failed.code, message=str(failed)))
    await peer.respond(response)
