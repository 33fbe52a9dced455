"""Resolves commands that name a container, a deployment or a share of the traffic to operations on a service.

Only the agent's own replicas and the deployments in its journal are considered; other containers are never touched.
"""

from __future__ import annotations

from syntra.agent.journal.journal import Journal
from syntra.agent.operations.job import Job, OperationPhase
from syntra.agent.operations.service_queues import ServiceQueues
from syntra.model.command import (
    Abort,
    CanaryCommand,
    IndirectCommand,
    Operation,
    Promote,
    Restart,
    RestartContainer,
    Rollback,
    SplitTraffic,
    Stop,
    StopContainer,
    StopDeployment,
    SwitchTraffic,
)
from syntra.model.errors import RequestError
from syntra.model.fields import Json
from syntra.model.ids import ContainerId, DeploymentId, RequestId, ServiceId
from syntra.model.status import Replica
from syntra.runtime.runtime import Replicas
from syntra.utils.frozen import frozen


@frozen
class Resolved:
    """The command to carry out, with its kind and payload for the journal."""

    command: Operation | CanaryCommand
    kind: str
    payload: dict[str, Json]


@frozen
class Settled:
    """Nothing to do: the wanted state holds already. `data` is the data of the response."""

    data: dict[str, Json]


class IndirectCommands:
    """Resolves indirect commands. Raises RequestError when that is not possible, and RuntimeFailure."""

    def __init__(self, journal: Journal, replicas: Replicas, queues: ServiceQueues) -> None:
        self._journal = journal
        self._replicas = replicas
        self._queues = queues

    async def resolve(self, command: IndirectCommand) -> Resolved | Settled:
        """The operation that carries out the command now, or Settled."""
        match command:
            case RestartContainer():
                replica = await self._replica(command.container_id)
                if replica is None:
                    raise _no_container(command.container_id)
                return _restart(command.request_id, replica.service_id, command.grace_secs)
            case StopContainer():
                return await self._stop_container(command)
            case StopDeployment():
                return await self._stop_deployment(command)
            case SwitchTraffic():
                return await self._switch(command)
            case SplitTraffic():
                return self._split(command)

    async def _replica(self, container_id: ContainerId) -> Replica | None:
        # Not by inspecting the id: the engine would also find containers of others.
        found = [item for item in await self._replicas.observe() if item.container_id.startswith(container_id)]
        return found[0] if len(found) == 1 else None

    async def _stop_container(self, command: StopContainer) -> Resolved | Settled:
        replica = await self._replica(command.container_id)
        if replica is None:
            service_id = await self._service_of(command.deployment_id) if command.deployment_id else None
            row = await self._journal.service(service_id) if service_id is not None else None
            if service_id is None or (row is not None and row.deployment_id == command.deployment_id):
                raise _no_container(command.container_id)
            return _gone_already(service_id, "the container of an earlier deployment was removed already")
        service_id = replica.service_id
        job = self._queues.running(service_id)
        if job is not None and _brings(job, replica.deployment_id):
            raise RequestError(
                "BUSY",
                f"cannot stop container {command.container_id[:12]}: deployment {replica.deployment_id} is under way; "
                "cancel it",
            )
        row = await self._journal.service(service_id)
        if row is not None and row.deployment_id != replica.deployment_id:
            # The deploy that replaced it drains, stops and removes it.
            return _gone_already(service_id, "an earlier deployment's containers are stopped by what replaced it")
        return _stop(command.request_id, service_id, command.grace_secs, remove=command.remove)

    async def _stop_deployment(self, command: StopDeployment) -> Resolved | Settled:
        deployment_id = command.deployment_id
        service_id = await self._service_of(deployment_id)
        if service_id is None:
            raise RequestError("DEPLOYMENT_NOT_FOUND", f"cannot stop deployment {deployment_id}: it is not known here")
        row = await self._journal.service(service_id)
        is_under_way = any(_brings(job, deployment_id) for job in self._queues.of(service_id))
        if not is_under_way and (row is None or row.deployment_id != deployment_id):
            return _gone_already(service_id, "the deployment is not the service's current one: nothing of it runs")
        return _stop(command.request_id, service_id, command.grace_secs, remove=command.remove)

    async def _switch(self, command: SwitchTraffic) -> Resolved | Settled:
        service_id, target = command.service_id, command.deployment_id
        job = self._queues.running(service_id)
        if job is not None and _brings(job, target):
            if job.can_be_decided:
                return _canary(Promote(request_id=command.request_id, service_id=service_id), "promote", service_id)
            raise RequestError(
                "BUSY",
                f"cannot switch {service_id} to {target}: its deploy is under way and gets them once it is healthy",
            )
        row = await self._journal.service(service_id)
        is_current = row is not None and row.deployment_id == target and not row.stopped
        is_kept = job is None or (job.deployment_id == target and not isinstance(job.command, Stop))
        if is_current and is_kept:
            return Settled(data={"service_id": service_id, "deployment_id": target, "completed": True})
        # The rollback checks that the deployment is kept.
        return Resolved(
            command=Rollback(request_id=command.request_id, service_id=service_id, target=target),
            kind="rollback",
            payload={"service_id": service_id, "target_deployment_id": target},
        )

    def _split(self, command: SplitTraffic) -> Resolved | Settled:
        service_id = command.service_id
        job = self._queues.running(service_id)
        is_canary = job is not None and job.can_be_decided
        names_it = job is not None and command.deployment_id in (None, job.deployment_id)
        if command.deployment_id is None and command.percent:
            raise RequestError("INVALID_PAYLOAD", "deployment_id: is missing; a share needs the canary that gets it")
        if command.percent == 0:
            if is_canary and names_it:
                return _canary(Abort(request_id=command.request_id, service_id=service_id), "abort", service_id)
            if command.deployment_id is None:
                data: dict[str, Json] = {"service_id": service_id, "completed": True}
                return Settled(data=data)
        if not (is_canary and names_it):
            raise RequestError(
                "NO_CANARY",
                f"cannot split the traffic of {service_id}: no canary of {command.deployment_id} is under way; "
                "deploy it with strategy canary",
            )
        promote = Promote(request_id=command.request_id, service_id=service_id, percent=command.percent)
        return _canary(promote, "promote", service_id)

    async def _service_of(self, deployment_id: DeploymentId) -> ServiceId | None:
        kept = await self._journal.kept_by_service()
        found = [service_id for service_id, known in kept.items() if deployment_id in known]
        for service_id in found:
            row = await self._journal.service(service_id)
            if row is not None and row.deployment_id == deployment_id:
                return service_id
        return found[0] if found else None


def _brings(job: Job, deployment_id: DeploymentId) -> bool:
    """Whether the job has yet to make this deployment the current one of its service.

    After its commit, a job only removes what it replaced: the deployment is the current one.
    """
    is_committed = job.phase is OperationPhase.COMMITTED
    return job.brings_deployment and job.deployment_id == deployment_id and not is_committed


def _restart(request_id: RequestId, service_id: ServiceId, grace_secs: float | None) -> Resolved:
    return Resolved(
        command=Restart(request_id=request_id, service_id=service_id, grace_secs=grace_secs),
        kind="restart",
        payload={"service_id": service_id, "timeout_seconds": grace_secs},
    )


def _stop(request_id: RequestId, service_id: ServiceId, grace_secs: float | None, *, remove: bool) -> Resolved:
    return Resolved(
        command=Stop(request_id=request_id, service_id=service_id, grace_secs=grace_secs, remove=remove),
        kind="stop",
        payload={"service_id": service_id, "timeout_seconds": grace_secs, "remove_container": remove},
    )


def _canary(command: CanaryCommand, kind: str, service_id: ServiceId) -> Resolved:
    return Resolved(command=command, kind=kind, payload={"service_id": service_id})


def _gone_already(service_id: ServiceId, note: str) -> Settled:
    return Settled(data={"service_id": service_id, "completed": True, "notes": [note]})


def _no_container(container_id: ContainerId) -> RequestError:
    return RequestError(
        "CONTAINER_NOT_FOUND", f"cannot find container {container_id[:12]}: no service of this agent has it"
    )
