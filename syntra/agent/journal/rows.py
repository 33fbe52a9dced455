"""The records that the journal returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from syntra.model.fields import Json
from syntra.model.ids import ContainerId, DeploymentId, RequestId, ServiceId
from syntra.model.spec import Deployment
from syntra.utils.frozen import frozen


@frozen
class Remembered:
    """The answers to a request id: the response, and the terminal report of an operation once it has ended.

    `is_forgotten` says that the command was carried out, and its answers are no longer kept.
    """

    response: Mapping[str, Json] | None = field(repr=False)
    report: Mapping[str, Json] | None = field(repr=False)
    is_forgotten: bool = False


@frozen
class Unfinished:
    """An operation that was running or waiting when the agent last stopped.

    `stage` is the number of canary steps that are complete.
    """

    request_id: RequestId
    kind: str
    origin: str
    payload: Mapping[str, Json] = field(repr=False)
    phase: str
    prior: frozenset[ContainerId]
    begun_at: float | None
    reason: str
    stage: int


@frozen
class ServiceRow:
    """The desired state of one service."""

    service_id: ServiceId
    deployment_id: DeploymentId
    replicas: int
    stopped: bool
    at: float


@frozen
class CurrentService:
    """A service's desired state and its deployment, which is None when it is missing or unreadable."""

    row: ServiceRow
    deployment: Deployment | None


def service_row(row: Sequence[object]) -> ServiceRow:
    """Parse a row of the table `services`."""
    service_id, deployment_id, replicas, stopped, at = row
    assert isinstance(replicas, int) and isinstance(at, float), "cannot happen because the columns are typed"
    return ServiceRow(
        service_id=ServiceId(str(service_id)),
        deployment_id=DeploymentId(str(deployment_id)),
        replicas=replicas,
        stopped=bool(stopped),
        at=at,
    )
