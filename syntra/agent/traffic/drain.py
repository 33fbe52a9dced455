"""Waits until nobody is connected to a container that nothing leads to any more."""

from __future__ import annotations

import asyncio
import logging

from syntra.model.ids import ContainerId
from syntra.model.status import ContainerState
from syntra.networking.connections import open_connections
from syntra.runtime.adapter import Adapter

log = logging.getLogger(__name__)

DRAIN_LOOK_SECS = 0.1


async def drained(adapter: Adapter, container_id: ContainerId, port: int, deadline: float) -> bool:
    """Whether the last connection to `port` ended before `deadline` (loop time). Safe to cancel.

    A container that does not run has none. A count that cannot be had (0 is one that can) is no reason to cut anybody
    off: then the whole time is waited.
    """
    replica = await adapter.inspect(container_id)
    if replica is None or replica.state is not ContainerState.RUNNING:
        return True
    loop = asyncio.get_running_loop()
    while (count := await asyncio.to_thread(open_connections, replica.pid, port)) != 0:
        if loop.time() >= deadline:
            log.info("drain time is over", extra={"container": replica.name, "open": count})
            return False
        await asyncio.sleep(DRAIN_LOOK_SECS)
        if count is None and await adapter.inspect(container_id) is None:
            return True
    return True
