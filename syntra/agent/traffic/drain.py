"""Waits until a withdrawn container has no open connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from syntra.model.ids import ContainerId
from syntra.runtime.containers.engine import Connections, Containers

log = logging.getLogger(__name__)

DRAIN_POLL_SECS = 0.1


class DrainSource(Containers, Connections, Protocol):
    """Inspects containers and counts their connections."""


async def drained(
    engine: DrainSource,
    container_id: ContainerId,
    port: int,
    deadline: float,
    *,
    seen: Callable[[int | None], object] = lambda _: None,
) -> bool:
    """Whether the last connection to `port` ended before `deadline` (loop time). Safe to cancel.

    A container that does not run has no connections. When they cannot be counted, this waits until the deadline, so
    that no client is cut off early. `seen` gets each count.
    """
    container = await engine.inspect(container_id)
    if container is None or not container.is_running:
        return True
    loop = asyncio.get_running_loop()
    while (count := await engine.open_connections(container, port)) != 0:
        seen(count)
        if loop.time() >= deadline:
            log.info("drain time is over", extra={"container": container.name, "open": count})
            return False
        await asyncio.sleep(DRAIN_POLL_SECS)
        if count is None and await engine.inspect(container_id) is None:
            return True
    return True
