"""Stores the published containers, so that a restarted agent continues with the proxy's current routes."""

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
class StoredEndpoints:
    """The stored endpoints of one service."""

    reached: frozenset[ContainerId]
    canary: frozenset[ContainerId]
    share: int


def write(directory: Path, table: EndpointTable) -> None:
    """Replace the file; blocks on the disk. A failure is logged: the file is a hint that makes the next start exact."""
    state = {
        service_id: {
            "reached": sorted(service.reached),
            **({"canary": sorted(service.canary), "share": service.share} if service.canary else {}),
        }
        for service_id, service in sorted(table.items())
    }
    try:
        atomic_file.write(directory / FILE_NAME, json.dumps(state, indent=1).encode(), durable=False)
    except AgentError as failed:
        log.warning("cannot store the published endpoints", extra={"reason": str(failed)})


def read(directory: Path) -> Mapping[ServiceId, StoredEndpoints]:
    """The stored endpoints; empty when the file is missing or invalid, as after a power cut."""
    try:
        state = json.loads((directory / FILE_NAME).read_text())
        return {
            ServiceId(service_id): StoredEndpoints(
                reached=frozenset(ContainerId(one) for one in stored["reached"]),
                canary=frozenset(ContainerId(one) for one in stored.get("canary", ())),
                share=min(max(int(stored.get("share", 100)), 1), 100),
            )
            for service_id, stored in state.items()
        }
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return {}
