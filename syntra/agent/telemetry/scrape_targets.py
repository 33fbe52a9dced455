"""Tells the telemetry process which replicas to scrape: those of services with a Prometheus endpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from syntra.agent.changes import Changes
from syntra.agent.telemetry.deployments import Deployments, with_deployments
from syntra.agent.telemetry.senders import RECHECK_SECS, Addressed, identity
from syntra.model.fields import Json
from syntra.model.metrics_payload import endpoint_of
from syntra.model.spec import Deployment
from syntra.runtime.errors import RuntimeFailure
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)


class Engine(Protocol):
    """What of the engine is needed; see `runtime.containers.engine`."""

    async def observe(self) -> Sequence[Addressed]: ...


class Process(Protocol):
    """The telemetry process; see `process.TelemetryProcess`."""

    async def tell(self, kind: str, fields: Mapping[str, Json]) -> None: ...


class ScrapeTargets:
    """Follows the agent's containers; `run` it beside the telemetry process."""

    def __init__(self, engine: Engine, deployments: Deployments, changes: Changes, process: Process) -> None:
        self._engine = engine
        self._deployments = deployments
        self._changes = changes.follow()
        self._process = process

    async def run(self) -> None:
        """Tell every change until cancelled."""
        while True:
            try:
                await self._refresh()
            except RuntimeFailure as later:
                log.debug("targets of scrapes are unchanged for now", extra={"reason": str(later)})
            except AgentError as failed:
                log.error("cannot list the targets of scrapes", extra={"reason": str(failed)})
            await self._changes.recheck(RECHECK_SECS)

    async def _refresh(self) -> None:
        running = [one for one in await self._engine.observe() if one.is_running]
        replicas = [(one, of) for one, of in await with_deployments(running, self._deployments) if of is not None]
        await self._process.tell("scrape_targets", {"targets": scrape_targets(replicas)})


def scrape_targets(replicas: Sequence[tuple[Addressed, Deployment]]) -> list[Json]:
    """The endpoint of each replica whose deployment has one. Pure."""
    found: list[Json] = []
    for container, deployment in replicas:
        spec = deployment.spec
        endpoint, address = endpoint_of(spec), container.address
        if endpoint is None or address is None:
            continue
        host = f"[{address}]" if ":" in address else address
        found.append(
            {
                "url": f"http://{host}:{endpoint.port or spec.port}{endpoint.path}",
                "interval_secs": endpoint.interval_secs,
                "metric_names": list(endpoint.metric_names),
                "native_histograms": endpoint.native_histograms,
                "identity": {**identity(container, deployment)},
            }
        )
    return found
