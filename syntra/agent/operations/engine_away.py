"""An engine that is away in the middle of an operation: told from a failure of the operation itself, and waited for."""

from __future__ import annotations

import asyncio
import logging

from syntra.runtime.adapter import Adapter
from syntra.runtime.errors import RuntimeUnavailable, StepFailed

log = logging.getLogger(__name__)

ENGINE_RETRY_SECS = 1.0


async def why_away(adapter: Adapter, failed: StepFailed | RuntimeUnavailable) -> RuntimeUnavailable | None:
    """Why the engine is away; None when it takes calls, so that the failure is the step's own.

    An engine that goes down ends every container while it still serves open connections: what fails in that time tells
    nothing about the operation.
    """
    if isinstance(failed, RuntimeUnavailable):
        return failed
    try:
        await adapter.ping()
    except RuntimeUnavailable as away:
        return away
    return None


async def until_back(adapter: Adapter) -> None:
    """Return when the engine takes calls again; the caller sets the deadline. Cancelling is safe."""
    while True:
        await asyncio.sleep(ENGINE_RETRY_SECS)
        try:
            await adapter.ping()
            return
        except RuntimeUnavailable as away:
            log.debug("engine does not answer", extra={"reason": str(away)})
