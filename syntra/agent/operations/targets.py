"""Finds the deployment and the number of replicas for an operation; refuses it when there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

from syntra.agent.journal.journal import Journal
from syntra.agent.journal.rows import CurrentService
from syntra.model.command import Cancel, Deploy, Operation, Restart, Rollback, Scale, Stop
from syntra.model.errors import RequestError
from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.spec import Deployment
from syntra.model.spec_payload import fingerprint
from syntra.runtime.runtime import Failures, Replicas


class ObservedServices(Replicas, Failures, Protocol):
    """The runtime's capabilities that finding a target needs."""


class Targets:
    """Reads targets from the journal. Every method may raise RequestError."""

    def __init__(self, journal: Journal, runtime: ObservedServices, has_failed: Callable[[ServiceId], bool]) -> None:
        """`has_failed`: whether an alert says that the last deployment of a service failed."""
        self._journal = journal
        self._runtime = runtime
        self._has_failed = has_failed

    async def of(self, command: Operation, *, resumed: bool = False) -> tuple[Deployment | None, int]:
        """Deployment and number of replicas. `resumed`: accepted before, so its own deployment may be stored."""
        match command:
            case Deploy(deployment=deployment):
                if not resumed:
                    await check_unchanged(deployment, self._journal)
                return await self._with_image(deployment), deployment.spec.replicas
            case Rollback():
                return await self._rollback(command)
            case Scale(replicas=replicas):
                _, deployment = await current_of(command.service_id, self._journal)
                autoscale = deployment.spec.autoscale
                if autoscale is not None:
                    raise RequestError(
                        "INVALID_PAYLOAD",
                        f"replicas: the cluster scales this service between {autoscale.least} and {autoscale.most}; "
                        "deploy it with another autoscale section",
                    )
                port = deployment.spec.host_port
                if port is not None and replicas > 1:
                    raise RequestError(
                        "INVALID_PAYLOAD", f"replicas: {replicas} replicas cannot share host port {port}; use 1"
                    )
                return deployment, replicas
            case Restart():
                current, deployment = await current_of(command.service_id, self._journal)
                return deployment, current.row.replicas
            case Stop():
                found = await self._journal.current(command.service_id)
                if found is None and not resumed and not await self._runtime.observe(command.service_id):
                    await self._check_failed(command)
                return (found.deployment, found.row.replicas) if found else (None, 0)

    async def _check_failed(self, command: Stop) -> None:
        """Raise RequestError unless there is something to remove of a service whose deployments all failed."""
        service_id = command.service_id
        is_kept = bool(await self._runtime.failed(service_id))
        if not is_kept and not (command.remove and self._has_failed(service_id)):
            raise _unknown(service_id)
        if not command.remove:
            raise RequestError(
                "CONTAINER_NOT_RUNNING",
                f"cannot stop {service_id}: it does not run, as its deployment failed; remove it (stop --remove)",
            )

    async def _with_image(self, deployment: Deployment) -> Deployment:
        # The command brings no image that was resolved; an earlier run of it, or the same deployment before, may have.
        known = await self._journal.deployment(deployment.spec.service_id, deployment.deployment_id)
        if known is None or fingerprint(known.spec) != fingerprint(deployment.spec):
            return deployment
        return dataclasses.replace(deployment, resolved=known.resolved)

    async def _rollback(self, command: Rollback) -> tuple[Deployment, int]:
        found = await self._journal.current(command.service_id)
        deployment = await self._rollback_target(command, found)
        replicas = found.row.replicas if found and not found.row.stopped else deployment.spec.replicas
        # A deployment with a host port can have one replica only.
        return deployment, min(replicas, 1) if deployment.spec.host_port is not None else replicas

    async def _rollback_target(self, command: Rollback, found: CurrentService | None) -> Deployment:
        service_id, target = command.service_id, command.target
        kept = await self._journal.kept(service_id)
        if target is None:
            target = next((known for known in kept if found is None or known != found.row.deployment_id), None)
            if target is None:
                raise RequestError(
                    "NO_ROLLBACK_TARGET", f"cannot roll back {service_id}: there is no earlier deployment"
                )
        deployment = await self._journal.deployment(service_id, target) if target in kept else None
        if deployment is None and command.image is not None and found is not None:
            # The deployment is not kept. Use the current settings with the image that the control plane sent.
            _, current = await current_of(service_id, self._journal)
            spec = dataclasses.replace(current.spec, image=command.image)
            deployment = dataclasses.replace(current, deployment_id=target, spec=spec, resolved=None)
        if deployment is None:
            known = ", ".join(kept) or "none"
            raise RequestError(
                "DEPLOYMENT_NOT_FOUND", f"cannot roll back {service_id} to {target}: not found; available: {known}"
            )
        return deployment


async def current_of(service_id: ServiceId, journal: Journal) -> tuple[CurrentService, Deployment]:
    """A service's desired state and its deployment. Raises RequestError (SERVICE_NOT_FOUND) when there is none."""
    found = await journal.current(service_id)
    if found is None or found.deployment is None:
        raise _unknown(service_id)
    return found, found.deployment


async def check_unchanged(deployment: Deployment, journal: Journal) -> None:
    """Raise RequestError (DEPLOYMENT_EXISTS) when the id is stored with another spec.

    The deployment id identifies replicas: with two specs for one id, a rollback would be ambiguous.
    """
    spec = deployment.spec
    known = await journal.deployment(spec.service_id, deployment.deployment_id)
    if known is not None and fingerprint(known.spec) != fingerprint(spec):
        raise RequestError(
            "DEPLOYMENT_EXISTS",
            f"deployment_id: {deployment.deployment_id} already exists with another spec; use a new deployment_id",
        )


async def not_under_way(command: Cancel, journal: Journal) -> RequestError:
    """The refusal to cancel a deployment that no job deploys."""
    deployment_id = command.deployment_id
    rows = await journal.services()
    if any(row.deployment_id == deployment_id and not row.stopped for row in rows):
        return already_deployed(deployment_id)
    kept = await journal.kept_by_service()
    if any(deployment_id in known for known in kept.values()):
        return RequestError("DEPLOYMENT_FINISHED", f"cannot cancel deployment {deployment_id}: it is over already")
    return RequestError(
        "DEPLOYMENT_NOT_FOUND", f"cannot cancel deployment {deployment_id}: it is not under way and nothing of it runs"
    )


def already_deployed(deployment_id: DeploymentId) -> RequestError:
    """The refusal of a cancel that came too late."""
    return RequestError(
        "ALREADY_DEPLOYED",
        f"cannot cancel deployment {deployment_id}: it is deployed already; roll back or stop the service",
    )


def _unknown(service_id: ServiceId) -> RequestError:
    return RequestError("SERVICE_NOT_FOUND", f"cannot find service {service_id}: it was never deployed here")
