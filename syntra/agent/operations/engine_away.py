"""Tells an unavailable runtime from a failed step, and waits until the runtime is back."""

from __future__ import annotations

import asyncio
import logging

from syntra.runtime.errors import RuntimeFailure, RuntimeUnavailable
from syntra.runtime.runtime import Availability

log = logging.getLogger(__name__)

ENGINE_RETRY_SECS = 1.0


async def why_away(runtime: Availability, failed: RuntimeFailure) -> RuntimeUnavailable | None:
    """Why the runtime is unavailable; None when it answers, and the failure is the step's own.

    An engine that shuts down stops every container while it still answers on open connections. A failure in that time
    is not the operation's.
    """
    if isinstance(failed, RuntimeUnavailable):
        return failed
    try:
        await runtime.ping()
    except RuntimeUnavailable as away:
        return away
    return None


async def until_back(runtime: Availability) -> None:
    """Return when the runtime answers again. The caller sets the deadline. Safe to cancel."""
    while True:
        await asyncio.sleep(ENGINE_RETRY_SECS)
        try:
            await runtime.ping()
            return
        except RuntimeUnavailable as away:
            log.debug("engine does not answer", extra={"reason": str(away)})
