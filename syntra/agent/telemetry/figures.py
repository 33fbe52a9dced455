"""Samples host and containers at an interval, and tells the samples: to the telemetry process, and to the hub."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from syntra import __version__
from syntra.agent.config.settings import Settings
from syntra.agent.figures.sampler import Measured, Sample
from syntra.agent.messages import PeerGone
from syntra.agent.telemetry.deployments import Deployments
from syntra.agent.telemetry.hub_figures import HubFigures
from syntra.agent.telemetry.senders import identity
from syntra.model.container import Container
from syntra.model.fields import Json
from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.spec import Deployment
from syntra.telemetry.collect.figures.message import ContainerFigures, FiguresMessage, message_fields
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen
from syntra.utils.host import HostFacts, facts

log = logging.getLogger(__name__)

SEND_SECS = 10.0
"""How long a sample may wait for the socket; the next one is newer."""


class Sampler(Protocol):
    """See `agent.figures.sampler`."""

    async def sample(self) -> Sample: ...


class Process(Protocol):
    """The telemetry process; see `process.TelemetryProcess`."""

    async def send(self, kind: str, fields: Mapping[str, Json]) -> None: ...


class Connection(Protocol):
    """The control plane's connection; see `agent.api.control_link`. `stream` raises PeerGone."""

    @property
    def is_connected(self) -> bool: ...

    @property
    def is_hub(self) -> bool: ...

    async def stream(self, kind: str, payload: Mapping[str, Json]) -> None: ...


@frozen
class Known:
    """A measured container and its deployment."""

    measured: Measured
    deployment: Deployment


class FiguresTelling:
    """Follows one sampler. `run` samples even if the figures are sent to no one, so that the last sample is young."""

    def __init__(
        self,
        sampler: Sampler,
        deployments: Deployments,
        *,
        interval_secs: float,
        process: Process | None,
        hub: HubFigures | None,
        agent: Mapping[str, str],
        facts: Callable[[], HostFacts],
    ) -> None:
        """`process` and `hub` are None if they receive nothing. `agent` has the attributes that name
        the agent. `facts` reads the facts of the host, and may block."""
        self._sampler = sampler
        self._deployments = deployments
        self._interval_secs = interval_secs
        self._process = process
        self._hub = hub
        self._agent = agent
        self._facts = facts
        self._resource: Mapping[str, str] = {}
        # A deployment never changes, and the journal would decrypt it every time.
        self._known: dict[tuple[ServiceId, DeploymentId], Deployment] = {}

    async def run(self, connection: Connection | None = None) -> None:
        """Sample and tell until cancelled."""
        clock = asyncio.get_running_loop().time
        due = clock()
        try:
            self._resource = host_resource(await asyncio.to_thread(self._facts))
        except OSError as unread:
            log.warning("the host is told without its name", extra={"reason": str(unread)})
        while True:
            try:
                await self._tell(await self._sampler.sample(), connection)
            except AgentError as failed:
                log.error("cannot tell figures", extra={"reason": str(failed)})
            # At equal distances; a moment that was missed is not made up for.
            due = max(due + self._interval_secs, clock())
            await asyncio.sleep(due - clock())

    async def _tell(self, sample: Sample, connection: Connection | None) -> None:
        if self._process is None and self._hub is None:
            return
        known = await self._with_deployments(sample)
        if self._process is not None:
            await self._process.send("figures", message_fields(self._message(sample, known)))
        if self._hub is not None and connection is not None and connection.is_connected and connection.is_hub:
            for payload in self._hub.payloads(sample, [one.measured for one in known]):
                try:
                    async with asyncio.timeout(SEND_SECS):
                        await connection.stream("telemetry_batch", payload)
                except (PeerGone, TimeoutError) as lost:
                    log.debug("figures are not sent", extra={"reason": str(lost)})

    async def _with_deployments(self, sample: Sample) -> list[Known]:
        measured = [((one.replica.service_id, one.replica.deployment_id), one) for one in sample.containers.values()]
        # Deployments never change, so those of the last sample are not read again.
        missing = {key for key, _ in measured if key not in self._known}
        known = {**self._known, **(await self._deployments.deployments(missing) if missing else {})}
        self._known = {key: known[key] for key, _ in measured if key in known}
        return [Known(measured=one, deployment=known[key]) for key, one in measured if key in known]

    def _message(self, sample: Sample, known: Sequence[Known]) -> FiguresMessage:
        return FiguresMessage(
            time_ns=sample.time_ns,
            resource=self._resource,
            agent=self._agent,
            host=sample.host,
            containers=tuple(_container(one.measured, one.deployment) for one in known),
        )


def figures_telling(
    settings: Settings,
    *,
    agent_id: str,
    sampler: Sampler,
    deployments: Deployments,
    process: Process | None,
) -> FiguresTelling:
    """The telling that these settings ask for."""
    wanted = settings.telemetry.figures
    is_on = wanted.collect == "on"
    has_hub = is_on and settings.control_plane is not None
    return FiguresTelling(
        sampler,
        deployments,
        interval_secs=wanted.interval_secs,
        process=process if is_on else None,
        hub=HubFigures(agent_id=agent_id, data_dir=settings.data_dir) if has_hub else None,
        agent={"service.name": "syntra-agent", "service.instance.id": agent_id, "service.version": __version__},
        facts=lambda: facts(settings.data_dir),
    )


def host_resource(facts: HostFacts) -> dict[str, str]:
    """The attributes of the host and of its operating system in the semantic conventions."""
    return {
        "host.id": facts.machine_id,
        "host.name": facts.hostname,
        "host.arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(facts.arch, facts.arch),
        "os.type": "linux",
        "os.name": facts.os_name,
        "os.version": facts.os_version,
    }


def _container(measured: Measured, deployment: Deployment) -> ContainerFigures:
    replica = measured.replica
    return ContainerFigures(
        identity=identity(replica, deployment),
        name=replica.name,
        started_ns=(replica.started_ns if isinstance(replica, Container) else None) or replica.created_ns,
        restarts=replica.restart_count,
        cpus_used=None if measured.is_first else measured.figures.cpu_percent / 100,
        reading=measured.reading,
    )
