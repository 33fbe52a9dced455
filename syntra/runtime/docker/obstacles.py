"""Why a deployment would fail on this host, as far as that can be seen before it is tried."""

from __future__ import annotations

import asyncio
import os

from syntra.model.spec import Deployment
from syntra.runtime.docker.explanations import port_is_taken
from syntra.runtime.docker.port_holders import PortHolders


async def obstacles(deployment: Deployment, holders: PortHolders) -> list[str]:
    """One sentence for each: a host port that another holds, a bind's source that is not there."""
    spec = deployment.spec
    found = []
    if spec.host_port is not None:
        holder = await holders.of(spec.host_port, service_id=spec.service_id)
        if holder:
            found.append(f"the deploy would fail: {port_is_taken(spec.host_port, holder)}")
    sources = [volume.host_path for volume in spec.volumes if volume.host_path]
    missing = await asyncio.to_thread(lambda: [source for source in sources if _is_missing(source)])
    for source in missing:
        found.append(f"the deploy would fail: {source} does not exist on this server; create it, or correct the volume")
    return found


def _is_missing(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        # The engine may have access where the agent has none.
        return False
    return False
