"""Which deployment an operation is about, and with how many replicas; refused when there is none."""

from __future__ import annotations

import dataclasses

from syntra.agent.journal.journal import Journal
from syntra.agent.journal.rows import CurrentService
from syntra.model.command import Deploy, Operation, Restart, Rollback, Scale, Stop
from syntra.model.errors import RequestError
from syntra.model.ids import ServiceId
from syntra.model.spec import Deployment
from syntra.model.spec_payload import fingerprint
from syntra.runtime.runtime import Replicas


class Targets:
    """Looks them up in the journal; every method may raise RequestError."""

    def __init__(self, journal: Journal, replicas: Replicas) -> None:
        self._journal = journal
        self._replicas = replicas

    async def of(self, command: Operation, *, resumed: bool = False) -> tuple[Deployment | None, int]:
        """Deployment and number of replicas. `resumed`: the operation was accepted before, so its own traces count."""
        match command:
            case Deploy(deployment=deployment):
                if not resumed:
                    await check_unchanged(deployment, self._journal)
                return await self._with_image(deployment), deployment.spec.replicas
            case Rollback():
                return await self._rollback(command)
            case Scale(replicas=replicas):
                _, deployment = await current_of(command.service_id, self._journal)
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
                if found is None and not resumed and not await self._replicas.observe(command.service_id):
                    raise _unknown(command.service_id)
                return (found.deployment, found.row.replicas) if found else (None, 0)

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
        # A target that holds a host port has a place for one.
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
            # Not kept, but the control plane knows what it ran: the current settings with that image.
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
    """A service's desired state and its deployment; raises RequestError (SERVICE_NOT_FOUND) when there is none."""
    found = await journal.current(service_id)
    if found is None or found.deployment is None:
        raise _unknown(service_id)
    return found, found.deployment


async def check_unchanged(deployment: Deployment, journal: Journal) -> None:
    """Raise RequestError (DEPLOYMENT_EXISTS) when the id is kept with another spec.

    Replicas are told apart by deployment id; one id with two specs would make a rollback ambiguous.
    """
    spec = deployment.spec
    known = await journal.deployment(spec.service_id, deployment.deployment_id)
    if known is not None and fingerprint(known.spec) != fingerprint(spec):
        raise RequestError(
            "DEPLOYMENT_EXISTS",
            f"deployment_id: {deployment.deployment_id} already exists with another spec; use a new deployment_id",
        )


def _unknown(service_id: ServiceId) -> RequestError:
    return RequestError("SERVICE_NOT_FOUND", f"cannot find service {service_id}: it was never deployed here")
