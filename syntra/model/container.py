"""Replicas on a container engine, such as Docker or Podman."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field

from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.status import Health, ReplicaStatus
from syntra.utils.frozen import frozen

DEFAULT_STOP_GRACE_SECS = 10.0
"""Where neither the command nor the container's spec says it; Docker's own default."""


class ContainerState(enum.Enum):
    """The engine's container states."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


class NameSource(enum.Enum):
    """What resolves names for a container, and whether the engine resolves the container's own names."""

    ENGINE = "engine"
    AGENT = "agent"
    BOTH = "agent+engine"
    """It asks the agent; the engine resolves its names for containers that ask the engine."""


@frozen
class Container:
    """A replica on a container engine. Times in epoch nanoseconds; addresses by network name.

    `stop_grace_secs` is what it was created with: the time from the stop signal to SIGKILL. `image_health` is what the
    engine says by the image's own HEALTHCHECK, unknown while that is starting, None where there is none;
    `image_health_output` is the last output of that check, as the image wrote it.
    """

    container_id: ContainerId
    name: str
    service_id: ServiceId
    deployment_id: DeploymentId
    index: int
    spec_hash: str
    state: ContainerState
    created_ns: int
    started_ns: int | None = None
    finished_ns: int | None = None
    restart_count: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    pid: int = 0
    addresses: Mapping[str, str] = field(default_factory=dict)
    host_ports: frozenset[int] = frozenset()
    writable_mounts: frozenset[str] = frozenset()
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Where its volumes are mounted, to their names on the engine; anonymous ones too."""
    names: NameSource = NameSource.ENGINE
    stop_grace_secs: float = DEFAULT_STOP_GRACE_SECS
    image_health: Health | None = None
    image_health_output: str = field(default="", repr=False)

    @property
    def is_up(self) -> bool:
        """Running or about to be by the engine's own hand: it may be serving."""
        return self.state in (ContainerState.RUNNING, ContainerState.RESTARTING, ContainerState.PAUSED)

    @property
    def is_running(self) -> bool:
        return self.state is ContainerState.RUNNING

    @property
    def status(self) -> ReplicaStatus:
        return _STATUS.get(self.state, ReplicaStatus.STOPPED)

    @property
    def state_name(self) -> str:
        return self.state.value

    @property
    def place(self) -> str:
        return self.address or ""

    @property
    def address(self) -> str | None:
        """Where it answers, on the first of its networks; None while it has no address."""
        return next((address for address in self.addresses.values() if address), None)


_STATUS = {
    ContainerState.RUNNING: ReplicaStatus.RUNNING,
    ContainerState.PAUSED: ReplicaStatus.RUNNING,
    ContainerState.RESTARTING: ReplicaStatus.RESTARTING,
    ContainerState.DEAD: ReplicaStatus.ERROR,
}
