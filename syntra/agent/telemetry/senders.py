"""Tells the telemetry process who its senders are: the address of each replica, and the gateways to listen on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from syntra.agent.changes import Changes
from syntra.agent.telemetry.deployments import Deployments, with_deployments
from syntra.model.fields import Json
from syntra.model.network import ProjectNetwork
from syntra.model.spec import Deployment
from syntra.model.status import Replica
from syntra.runtime.errors import RuntimeFailure
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

RECHECK_SECS = 30.0


class Addressed(Replica, Protocol):
    """A replica with addresses."""

    @property
    def address(self) -> str | None:
        """Where it answers; None while it has no address."""

    @property
    def addresses(self) -> Mapping[str, str]:
        """Its addresses by network."""


class Engine(Protocol):
    """What of the engine is needed; see `runtime.containers.engine`."""

    async def observe(self) -> Sequence[Addressed]: ...

    async def networks(self, projects: frozenset[str]) -> list[ProjectNetwork]: ...


class Process(Protocol):
    """The telemetry process; see `process.TelemetryProcess`."""

    async def tell(self, kind: str, fields: Mapping[str, Json]) -> None: ...


class Senders:
    """Follows the agent's containers and networks; `run` it beside the telemetry process."""

    def __init__(
        self,
        engine: Engine,
        deployments: Deployments,
        changes: Changes,
        process: Process,
        *,
        is_network_shared: bool = False,
    ) -> None:
        """`is_network_shared`: containers are on one network with those of others, as the pods of a cluster are."""
        self._engine = engine
        self._deployments = deployments
        self._changes = changes.follow()
        self._process = process
        self._is_shared = is_network_shared
        self._networks: dict[str, ProjectNetwork] = {}

    async def run(self) -> None:
        """Tell every change until cancelled."""
        while True:
            try:
                await self._refresh()
            except RuntimeFailure as later:
                log.debug("senders of telemetry are unchanged for now", extra={"reason": str(later)})
            except AgentError as failed:
                log.error("cannot list the senders of telemetry", extra={"reason": str(failed)})
            await self._changes.recheck(RECHECK_SECS)

    async def _refresh(self) -> None:
        up = [one for one in await self._engine.observe() if one.is_up]
        known = [(one, of) for one, of in await with_deployments(up, self._deployments) if of is not None]
        # First who they are: a sender may be faster than the next message.
        await self._process.tell("senders", {"senders": senders(known)})
        projects = frozenset(deployment.spec.project_name for _, deployment in known)
        networks = await self._engine.networks(projects)
        await self._process.tell(
            "gateways",
            {
                "gateways": sorted({str(address) for network in networks for address in network.gateways}),
                "subnets": sorted({str(subnet) for network in networks for subnet in network.subnets}),
                "is_shared": self._is_shared,
            },
        )


def senders(replicas: Sequence[tuple[Addressed, Deployment]]) -> dict[str, Json]:
    """The identity of each replica, by its addresses. Pure."""
    found: dict[str, Json] = {}
    for container, deployment in replicas:
        named: dict[str, Json] = {**identity(container, deployment)}
        for address in container.addresses.values():
            if address:
                found[address] = named
    return found


def identity(replica: Replica, deployment: Deployment) -> dict[str, str]:
    """The fields of `telemetry.processing.identity.Identity`. Pure."""
    spec = deployment.spec
    return {
        "service_id": spec.service_id,
        "service_name": spec.service_name,
        "project": spec.project_name,
        "deployment_id": deployment.deployment_id,
        "container_id": replica.container_id,
        # Unique on this server, which `service.instance.id` must be.
        "replica": replica.name,
        "image": str(spec.image),
    }
