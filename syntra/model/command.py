"""What the agent can be told to do: one frozen type per command of the wire contract."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field

from syntra.model.health_change import HealthChange
from syntra.model.ids import ContainerId, DeploymentId, RequestId, ServiceId
from syntra.model.image import ImageRef
from syntra.model.spec import Deployment, RegistryAuth
from syntra.utils.frozen import frozen


class Pace(enum.Enum):
    """How a scale-up brings replicas: all at once, or one after another."""

    IMMEDIATE = "immediate"
    ROLLING = "rolling"


@frozen
class Deploy:
    """Make a deployment real.

    `renames`: when another service of the project has the service's name, deploy it under another one, instead of
    refusing it. `asked_name` is the name in the command, where the deployment has got another one.
    """

    request_id: RequestId
    deployment: Deployment
    auth: RegistryAuth | None
    renames: bool = False
    asked_name: str = ""

    @property
    def service_id(self) -> ServiceId:
        return self.deployment.spec.service_id


@frozen
class Stop:
    """Stop every container of a service; `remove` removes them too.

    `grace_secs` is the time from the stop signal to SIGKILL; None means what each container was created with.
    """

    request_id: RequestId
    service_id: ServiceId
    grace_secs: float | None
    remove: bool


@frozen
class Scale:
    """Run this many replicas of what is deployed."""

    request_id: RequestId
    service_id: ServiceId
    replicas: int
    pace: Pace


@frozen
class Restart:
    """Restart the replicas one after another. `grace_secs` is as in Stop."""

    request_id: RequestId
    service_id: ServiceId
    grace_secs: float | None


@frozen
class Rollback:
    """Return to a kept deployment; None means the one before the current.

    `image` is what the target ran, as older control planes tell it: it serves when the target is not kept here.
    """

    request_id: RequestId
    service_id: ServiceId
    target: DeploymentId | None
    image: ImageRef | None = None


@frozen
class Promote:
    """End all holds of the canary under way: once its replicas are healthy, it gets every request.

    `percent` ends only the holds before the step with this share; None means the last step.
    """

    request_id: RequestId
    service_id: ServiceId
    percent: int | None = None


@frozen
class Abort:
    """End the canary under way, and return to what served before."""

    request_id: RequestId
    service_id: ServiceId


@frozen
class PauseService:
    """Leave a service alone for maintenance, until `ResumeService`."""

    request_id: RequestId
    service_id: ServiceId
    reason: str = ""
    by: str = ""


@frozen
class ResumeService:
    """End the maintenance of a service."""

    request_id: RequestId
    service_id: ServiceId
    by: str = ""


@frozen
class RestartContainer:
    """Restart the service that a container belongs to."""

    request_id: RequestId
    container_id: ContainerId
    grace_secs: float | None


@frozen
class StopContainer:
    """Stop the service that a container belongs to. A container of an earlier deployment is on its way out already."""

    request_id: RequestId
    container_id: ContainerId
    deployment_id: DeploymentId | None
    grace_secs: float | None
    remove: bool


@frozen
class StopDeployment:
    """Stop the service that runs a deployment; one that is no longer current is stopped already."""

    request_id: RequestId
    deployment_id: DeploymentId
    grace_secs: float | None
    remove: bool


@frozen
class Cancel:
    """End a deployment that waits or is under way, and return to what served before."""

    request_id: RequestId
    deployment_id: DeploymentId


@frozen
class SwitchTraffic:
    """Have a deployment of the service receive every request: the canary under way, or one that is kept."""

    request_id: RequestId
    service_id: ServiceId
    deployment_id: DeploymentId


@frozen
class SplitTraffic:
    """Go to the step of the canary under way that has this share; 0, or no deployment, ends the canary."""

    request_id: RequestId
    service_id: ServiceId
    deployment_id: DeploymentId | None
    percent: int


@frozen
class InstallCertificate:
    """Serve a domain of a service with this certificate (PEM, the chain below it) and its key."""

    request_id: RequestId
    service_id: ServiceId
    domain: str
    certificate: str = field(repr=False)
    private_key: str = field(repr=False)


@frozen
class ExecStreams:
    """An exec whose streams are the client's. `rows` and `columns` are its terminal's size; 0 where it is unknown."""

    stdin: bool
    tty: bool
    rows: int = 0
    columns: int = 0


@frozen
class Exec:
    """Run a command in one container of a service. Arguments and environment may be secret.

    `replica` is a number of `ps`; None takes the newest that runs. Without `streams` the output is bounded and answered
    at the end. `timeout_secs` None is without end, for streams only.
    """

    request_id: RequestId
    service_id: ServiceId
    argv: tuple[str, ...] = field(repr=False)
    env: Mapping[str, str] = field(repr=False)
    working_dir: str | None
    timeout_secs: float | None
    replica: int | None = None
    streams: ExecStreams | None = None


class CopyWay(enum.Enum):
    """Whether a copy is read from a container or written to it."""

    FROM = "from"
    TO = "to"


@frozen
class Copy:
    """Copy a path of one container as a tar archive, over the client's connection.

    `path` is absolute; `/.` at its end is the content of a folder. `replica` is a number of `ps`; None takes the newest
    that runs, or the newest if none does.
    """

    request_id: RequestId
    service_id: ServiceId
    path: str
    way: CopyWay
    replica: int | None = None

    @property
    def streams(self) -> ExecStreams:
        """What the client's connection carries."""
        return ExecStreams(stdin=self.way is CopyWay.TO, tty=False)


@frozen
class LogsSubscribe:
    """Stream the log lines of a service. `since` and `until` are RFC 3339 in UTC with nine digits of fraction.

    `deployment_id`: only of that deployment, which may be one that failed.
    """

    request_id: RequestId
    service_id: ServiceId
    follow: bool
    tail: int
    since: str | None
    until: str | None
    deployment_id: DeploymentId | None = None


@frozen
class LogsUnsubscribe:
    """End the subscription of that request id, or every subscription of the service when none matches."""

    request_id: RequestId
    service_id: ServiceId | None


@frozen
class ConfigureHealthCheck:
    """Change how the replicas of a service are asked, without new containers."""

    request_id: RequestId
    service_id: ServiceId
    change: HealthChange


class QueryKind(enum.Enum):
    """Questions that change nothing; a person asks them through the local socket."""

    STATUS = "status"
    LIST_SERVICES = "list_services"
    DESCRIBE = "describe_service"
    LIST_DEPLOYMENTS = "list_deployments"
    LIST_EVENTS = "list_events"
    METRICS = "metrics"
    TOP = "top"
    PLAN = "plan"
    TELEMETRY = "telemetry_status"
    LIST_SECRETS = "list_secrets"


@frozen
class Query:
    """A question. `service_id` for metrics and events is optional: without it, they are of all services.

    `deployment` is for a plan; `is_forced`: plan the deploy even if nothing changes by it;
    `with_manifests`: show the objects that a cluster would get. Events are the newest
    `limit` with a number above `after`, at `since` (epoch seconds) or later.
    """

    request_id: RequestId
    kind: QueryKind
    service_id: ServiceId | None = None
    deployment: Deployment | None = None
    is_forced: bool = False
    with_manifests: bool = False
    after: int = 0
    since: float = 0.0
    limit: int = 0


@frozen
class TelemetryTail:
    """Stream telemetry as it is received. An empty filter matches everything; `signal` is traces, metrics or logs."""

    request_id: RequestId
    service: str
    signal: str


class ProxyAction(enum.Enum):
    """What a person asks of the proxy, through the local socket only."""

    UP = "proxy_up"
    DOWN = "proxy_down"
    STATUS = "proxy_status"


@frozen
class ProxyControl:
    """Bring the proxy up or down, or tell of it. Repeating it does no harm, so it is not journaled."""

    request_id: RequestId
    action: ProxyAction


@frozen
class SetSecret:
    """Store a secret for services' variables, or replace it. Repeating it does no harm, so it is not journaled."""

    request_id: RequestId
    name: str
    value: str = field(repr=False)


@frozen
class RemoveSecret:
    """Forget a secret. What is deployed keeps its value."""

    request_id: RequestId
    name: str


@frozen
class UpdateAgent:
    """Install another version of the agent. `version` is empty for the newest of the channel.

    `channel` is empty for the configured one; a control plane cannot choose it. `check_only` installs nothing. What is
    installed comes from the verified manifest: a `download_url` is not even read.
    """

    request_id: RequestId
    version: str = ""
    channel: str = ""
    check_only: bool = False


# What changes a service: journaled, run once, one at a time per service.
Operation = Deploy | Stop | Scale | Restart | Rollback
# Commands that decide how an operation under way continues.
CanaryCommand = Promote | Abort
# What names its service by a container or a deployment, or its work by the result: each becomes one of the others.
IndirectCommand = RestartContainer | StopContainer | StopDeployment | SwitchTraffic | SplitTraffic
SecretCommand = SetSecret | RemoveSecret
Command = (
    Operation
    | CanaryCommand
    | IndirectCommand
    | Cancel
    | InstallCertificate
    | Exec
    | Copy
    | LogsSubscribe
    | LogsUnsubscribe
    | TelemetryTail
    | ConfigureHealthCheck
    | PauseService
    | ResumeService
    | Query
    | ProxyControl
    | SecretCommand
    | UpdateAgent
)
