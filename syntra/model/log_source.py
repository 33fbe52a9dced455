"""A container whose log can be read, as the engine describes it."""

from __future__ import annotations

from collections.abc import Mapping

from syntra.model.ids import ContainerId
from syntra.model.spec import Deployment
from syntra.utils.frozen import frozen


@frozen
class LogSource:
    """One container. `path` is its file of the driver `json-file`, on the engine's host; empty for other drivers."""

    container_id: ContainerId
    name: str
    image: str
    driver: str
    path: str
    created_ns: int
    is_running: bool
    labels: Mapping[str, str]
    deployment: Deployment | None
    """What it was created from, from its labels; None for a container that is not the agent's."""
