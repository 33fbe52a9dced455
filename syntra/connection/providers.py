"""Payloads that other packages collect for hello and heartbeat, within a deadline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from syntra.utils.errors import AgentError

_log = logging.getLogger(__name__)

Provider = Callable[[], Awaitable[Mapping[str, Any]]]
"""Collects a payload. AgentError, OSError and TimeoutError are logged; it is cancelled when it takes too long."""


async def gather(provider: Provider, limit_secs: float) -> Mapping[str, Any] | None:
    """The payload, or None when collecting it failed or took too long. Cancelling cancels the provider."""
    try:
        async with asyncio.timeout(limit_secs):
            return await provider()
    except (AgentError, OSError, TimeoutError) as exc:
        reason = str(exc) or f"it took longer than {limit_secs:g} s"
        _log.warning("cannot gather a payload for the control plane", extra={"reason": reason})
        return None
