"""Tells the telemetry process which containers' logs to read, where they are, and whose they are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from syntra.agent.changes import Changes
from syntra.agent.config.log_settings import LogSettings
from syntra.agent.journal.rows import CurrentService
from syntra.model.fields import Json
from syntra.model.log_options import LogOptions, LogRate
from syntra.model.log_source import LogSource
from syntra.model.spec_payload import fingerprint
from syntra.runtime.errors import RuntimeFailure
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

RECHECK_SECS = 30.0
_UNREADABLE = frozenset(("none", ""))
"""Drivers that keep nothing."""


class Engine(Protocol):
    """What of the engine is needed."""

    async def log_sources(self, *, everything: bool) -> list[LogSource]: ...

    def follow_others(self, on_change: Callable[[], None]) -> None: ...


class Services(Protocol):
    """What of the journal is needed."""

    async def current_all(self) -> list[CurrentService]: ...


class Process(Protocol):
    """The telemetry process; see `process.TelemetryProcess`."""

    async def tell(self, kind: str, fields: Mapping[str, Json]) -> None: ...


class LogTargets:
    """Follows the containers; `run` it beside the telemetry process."""

    def __init__(
        self,
        engine: Engine,
        services: Services,
        changes: Changes,
        process: Process,
        settings: LogSettings,
        *,
        since_ns: int,
    ) -> None:
        """Containers that were made from `since_ns` on, the agent's own start, are read from their beginning."""
        self._engine = engine
        self._services = services
        self._changes = changes.follow()
        self._process = process
        self._settings = settings
        self._since_ns = since_ns
        # What changes of the agent's, and of other containers too if their logs are read.
        self._news = Changes()
        self._newest = self._news.follow()
        if settings.containers == "all":
            engine.follow_others(self._news.announce)

    async def run(self) -> None:
        """Tell every change until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pass_on(), name="log target changes")
            while True:
                try:
                    await self._refresh()
                except RuntimeFailure as later:
                    log.debug("log targets are unchanged for now", extra={"reason": str(later)})
                except AgentError as failed:
                    log.error("cannot list the containers whose logs are read", extra={"reason": str(failed)})
                # `_pass_on` ends the wait, at the latest when it is time to look.
                await self._newest.wait(2 * RECHECK_SECS)

    async def _pass_on(self) -> None:
        while True:
            await self._changes.recheck(RECHECK_SECS)
            self._news.announce()

    async def _refresh(self) -> None:
        sources = await self._engine.log_sources(everything=self._settings.containers == "all")
        current = await self._services.current_all() if sources else []
        told = targets(sources, current, self._settings)
        await self._process.tell("log_targets", {"targets": told, "since_ns": self._since_ns})


def targets(sources: Sequence[LogSource], current: Sequence[CurrentService], settings: LogSettings) -> dict[str, Json]:
    """The targets by container id. Pure."""
    # How a log is read may change without a new container; then the newest deployment counts.
    newest = {
        service.row.service_id: (fingerprint(service.deployment.spec), service.deployment.spec.logs)
        for service in current
        if service.deployment is not None
    }
    default = LogRate(
        lines_per_sec=settings.max_lines_per_sec,
        bytes_per_sec=settings.max_kb_per_sec * 1024.0,
        burst_secs=settings.burst_secs,
    )
    found: dict[str, Json] = {}
    for source in sources:
        if source.driver in _UNREADABLE:
            continue
        options = LogOptions()
        if source.deployment is not None:
            spec = source.deployment.spec
            of_newest, logs = newest.get(spec.service_id, ("", options))
            options = logs if of_newest == fingerprint(spec) else spec.logs
        rate = options.rate_limit or default
        resource = _resource(source)
        found[source.container_id] = {
            "path": source.path,
            "created_ns": source.created_ns,
            "is_running": source.is_running,
            "resource": resource,
            "service": resource["syntra.service.id"] or source.container_id,
            "multiline": options.multiline,
            "parse": options.parse,
            "rate": [rate.lines_per_sec, rate.bytes_per_sec, rate.burst_secs],
        }
    return found


def _resource(source: LogSource) -> dict[str, str]:
    """The resource attributes; the same as the pipeline sets on what the container sends itself."""
    resource = {
        "service.name": source.labels.get("com.docker.compose.service") or source.name,
        "service.namespace": source.labels.get("com.docker.compose.project", ""),
        "service.instance.id": source.name,
        "container.id": source.container_id,
        "container.name": source.name,
        "container.image.name": source.image,
        "syntra.service.id": "",
    }
    deployment = source.deployment
    if deployment is not None:
        spec = deployment.spec
        resource |= {
            "service.name": spec.service_name,
            "service.namespace": spec.project_name,
            "container.image.name": str(spec.image),
            "syntra.service.id": spec.service_id,
            "syntra.deployment.id": deployment.deployment_id,
            "syntra.project": spec.project_name,
        }
    return resource
