"""Keeps which containers were reached, so that an agent that starts again goes on from what the proxy does."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from syntra.agent.traffic.endpoints import EndpointTable
from syntra.model.ids import ContainerId, ServiceId
from syntra.utils import atomic_file
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

log = logging.getLogger(__name__)

FILE_NAME = "published.json"


@frozen
class Kept:
    """What was reached of one service."""

    reached: frozenset[ContainerId]
    canary: frozenset[ContainerId]
    share: int


def write(directory: Path, reach: EndpointTable) -> None:
    """Replace the file; blocks on the disk. It is a hint: a failure is logged and costs an exact start at most."""
    state = {
        service_id: {
            "reached": sorted(service.reached),
            **({"canary": sorted(service.canary), "share": service.share} if service.canary else {}),
        }
        for service_id, service in sorted(reach.items())
    }
    try:
        atomic_file.write(directory / FILE_NAME, json.dumps(state, indent=1).encode(), durable=False)
    except AgentError as failed:
        log.warning("cannot store the published endpoints", extra={"reason": str(failed)})


def read(directory: Path) -> Mapping[ServiceId, Kept]:
    """What was kept; nothing when there is no file or it is not one of these, as after a power cut."""
    try:
        state = json.loads((directory / FILE_NAME).read_text())
        return {
            ServiceId(service_id): Kept(
                reached=frozenset(ContainerId(one) for one in kept["reached"]),
                canary=frozenset(ContainerId(one) for one in kept.get("canary", ())),
                share=min(max(int(kept.get("share", 100)), 1), 100),
            )
            for service_id, kept in state.items()
        }
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return {}
