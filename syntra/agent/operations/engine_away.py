"""A runtime that is away in the middle of an operation: told from a failure of the operation itself, and waited for."""

from __future__ import annotations

import asyncio
import logging

from syntra.runtime.errors import RuntimeFailure, RuntimeUnavailable
from syntra.runtime.runtime import Availability

log = logging.getLogger(__name__)

ENGINE_RETRY_SECS = 1.0


async def why_away(runtime: Availability, failed: RuntimeFailure) -> RuntimeUnavailable | None:
    """Why the runtime is away; None when it takes calls, so that the failure is the step's own.

    An engine that goes down ends every container while it still serves open connections: what fails in that time says
    nothing about the operation.
    """
    if isinstance(failed, RuntimeUnavailable):
        return failed
    try:
        await runtime.ping()
    except RuntimeUnavailable as away:
        return away
    return None


async def until_back(runtime: Availability) -> None:
    """Return when the runtime takes calls again; the caller sets the deadline. Cancelling is safe."""
    while True:
        await asyncio.sleep(ENGINE_RETRY_SECS)
        try:
            await runtime.ping()
            return
        except RuntimeUnavailable as away:
            log.debug("engine does not answer", extra={"reason": str(away)})
