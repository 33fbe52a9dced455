"""The deployments of replicas, from the journal in one transaction: a cluster may have hundreds of replicas."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, TypeVar

from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.spec import Deployment
from syntra.model.status import Replica

R = TypeVar("R", bound=Replica)


class Deployments(Protocol):
    """What of the journal is needed."""

    async def deployments(
        self, wanted: Collection[tuple[ServiceId, DeploymentId]]
    ) -> Mapping[tuple[ServiceId, DeploymentId], Deployment]: ...


async def with_deployments(replicas: Sequence[R], deployments: Deployments) -> list[tuple[R, Deployment | None]]:
    """Each replica with its deployment; None where the journal has it no longer."""
    found = await deployments.deployments({(one.service_id, one.deployment_id) for one in replicas})
    return [(one, found.get((one.service_id, one.deployment_id))) for one in replicas]
