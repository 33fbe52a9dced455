"""The observed side of services, and what is reported about them."""

from __future__ import annotations

import enum
from dataclasses import field
from typing import Protocol

from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.utils.frozen import frozen


class Health(enum.Enum):
    """What is known of a service's health."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class ReplicaStatus(enum.Enum):
    """The state of a replica, in the contract's words."""

    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPED = "stopped"
    ERROR = "error"


class Replica(Protocol):
    """One running instance of a service as last observed, whatever runtime it is on. Times in epoch nanoseconds."""

    @property
    def container_id(self) -> ContainerId:
        """What the runtime knows it by."""

    @property
    def name(self) -> str: ...

    @property
    def service_id(self) -> ServiceId: ...

    @property
    def deployment_id(self) -> DeploymentId: ...

    @property
    def index(self) -> int:
        """Its number in the service, from 1; it outlives the instance."""

    @property
    def created_ns(self) -> int: ...

    @property
    def started_ns(self) -> int | None: ...

    @property
    def restart_count(self) -> int: ...

    @property
    def exit_code(self) -> int | None: ...

    @property
    def oom_killed(self) -> bool: ...

    @property
    def is_running(self) -> bool:
        """Its process runs now."""

    @property
    def is_up(self) -> bool:
        """Running, or about to be without our doing: it may be serving."""

    @property
    def status(self) -> ReplicaStatus: ...

    @property
    def state_name(self) -> str:
        """The runtime's own word for its state."""

    @property
    def place(self) -> str:
        """Where it runs, for people: its node on a cluster, else its address; empty while that is unknown."""


@frozen
class ContainerExit:
    """A container of the agent's that ended, and not by the agent's stop, restart or removal."""

    container_id: ContainerId
    service_id: ServiceId
    deployment_id: DeploymentId
    index: int
    exit_code: int | None
    oom_killed: bool = False
    signal: str = ""
    """The signal that was sent to it outside the agent before, such as SIGTERM; empty when it ended by itself."""


@frozen
class ContainerExits:
    """What ended since the last question, oldest first; not `complete` when some of it was missed."""

    ended: tuple[ContainerExit, ...] = ()
    complete: bool = True


class Phase(enum.Enum):
    """Where a deployment is, in the contract's words."""

    PULL_IMAGE = "pull_image"
    STOP_OLD = "stop_old"
    CREATE_CONTAINER = "create_container"
    START_CONTAINER = "start_container"
    CONFIGURE_NETWORK = "configure_network"
    HEALTH_CHECK = "health_check"
    CLEANUP = "cleanup"


class DeployState(enum.Enum):
    """The state of a deployment, in the contract's words; the last three are terminal."""

    PENDING = "pending"
    PULLING = "pulling"
    CREATING = "creating"
    STARTING = "starting"
    HEALTH_CHECKING = "health_checking"
    RUNNING = "running"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"

    @property
    def is_terminal(self) -> bool:
        return self in (DeployState.RUNNING, DeployState.FAILED, DeployState.ROLLED_BACK)


@frozen
class Failure:
    """Why something failed: the contract's error object. `details` is the runtime's own text, empty without one."""

    code: str
    message: str
    details: str = ""


@frozen
class LogLine:
    """One line of a container's output; `timestamp` is the engine's RFC 3339 form with nanoseconds.

    `truncated` says that the line was longer, and is cut.
    """

    timestamp: str
    stream: str
    message: str
    truncated: bool = False


@frozen
class ExecResult:
    """How an exec ended. `truncated` says that output beyond the limit was dropped."""

    exit_code: int
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)
    truncated: bool = False


@frozen
class Figures:
    """Resource use of one container. CPU: 100 is one core. Counters since the container's start."""

    container_id: ContainerId
    name: str
    cpu_percent: float
    memory_bytes: int
    memory_limit_bytes: int | None
    network_rx_bytes: int
    network_tx_bytes: int
    block_read_bytes: int
    block_write_bytes: int
    pids: int
