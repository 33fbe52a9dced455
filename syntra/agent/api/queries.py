"""Answers read-only queries: status, services, metrics, plans."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from syntra import __version__
from syntra.agent.api.describe import describe, is_about_routes
from syntra.agent.api.failed_deployments import FailedDeployments
from syntra.agent.api.history import History, shown_end
from syntra.agent.api.plans import Plans
from syntra.agent.api.secret_requests import list_secrets
from syntra.agent.api.service_views import ServiceViews, listed
from syntra.agent.api.top import Top
from syntra.agent.figures.sampler import Sampler
from syntra.agent.journal.journal import Journal
from syntra.agent.operations.name_claims import NameClaims
from syntra.model.command import Query, QueryKind
from syntra.model.errors import RequestError
from syntra.model.fields import Json
from syntra.model.ids import ServiceId
from syntra.model.status import Figures
from syntra.runtime.errors import RuntimeUnavailable
from syntra.runtime.runtime import Runtime, RuntimeInfo
from syntra.utils.frozen import frozen
from syntra.utils.host import HostMeter

MIB = 1024 * 1024
# `status` must answer while the engine hangs, without the engine's part.
ENGINE_SECS = 5.0


@frozen
class Identity:
    """The agent's ids, data directory and start time, and why it uses its runtime."""

    agent_id: str
    server_id: str
    data_dir: Path
    started_at: float
    runtime_reason: str = ""


async def telemetry_is_off() -> Mapping[str, Json]:
    """The answer of an agent without a telemetry process. Raises RequestError."""
    raise RequestError("TELEMETRY_UNAVAILABLE", "cannot ask for telemetry: it is off; set telemetry.receivers to on")


class Queries:
    """Answers queries; never writes. `control_plane` returns the connection's status, `alerts` the open alerts,
    `telemetry` the state of the telemetry process."""

    def __init__(
        self,
        *,
        identity: Identity,
        journal: Journal,
        runtime: Runtime,
        views: ServiceViews,
        sampler: Sampler,
        control_plane: Callable[[], Mapping[str, Json]],
        alerts: Callable[[], Sequence[Mapping[str, Json]]],
        warnings: Callable[[], list[str]],
        names: NameClaims,
        telemetry: Callable[[], Awaitable[Mapping[str, Json]]] = telemetry_is_off,
        update: Callable[[], Mapping[str, Json]] = dict,
    ) -> None:
        self._identity = identity
        self._journal = journal
        self._runtime = runtime
        self._views = views
        self._sampler = sampler
        self._control_plane = control_plane
        self._alerts = alerts
        self._warnings = warnings
        self._history = History(journal)
        self._plans = Plans(journal, runtime, names)
        self._telemetry = telemetry
        self._update = update
        self._top = Top(views, sampler, telemetry, HostMeter(identity.data_dir))
        self._failed = FailedDeployments(journal, runtime, alerts)

    async def answer(self, query: Query) -> dict[str, Json]:
        """Returns the data of the response. Raises RequestError, StepFailed or RuntimeUnavailable."""
        match query.kind:
            case QueryKind.STATUS:
                return await self._status()
            case QueryKind.LIST_SERVICES:
                return {"services": [*await self._services()]}
            case QueryKind.METRICS:
                return await self._metrics(query.service_id)
            case QueryKind.DESCRIBE:
                assert query.service_id is not None, "cannot happen because the parser asks for it"
                return await self._describe(query.service_id)
            case QueryKind.LIST_DEPLOYMENTS:
                assert query.service_id is not None, "cannot happen because the parser asks for it"
                return await self._history.deployments(query.service_id)
            case QueryKind.LIST_EVENTS:
                return await self._history.events(query)
            case QueryKind.TOP:
                return await self._top.answer()
            case QueryKind.TELEMETRY:
                return {**await self._telemetry()}
            case QueryKind.LIST_SECRETS:
                return await list_secrets(self._journal)
            case QueryKind.PLAN:
                assert query.deployment is not None, "cannot happen because the parser asks for it"
                return await self._plans.plan(
                    query.deployment, is_forced=query.is_forced, with_manifests=query.with_manifests
                )

    async def _status(self) -> dict[str, Json]:
        runtime: dict[str, Json]
        services: list[Json]
        detail = ""
        try:
            info, services = await self._engine_status()
            runtime = {
                "name": info.name,
                "version": info.version,
                "api_version": info.api_version,
                "reachable": True,
                "reason": self._identity.runtime_reason,
                "detail": "",
            }
        except RuntimeUnavailable as away:
            runtime = {
                "name": self._runtime.name,
                "version": None,
                "api_version": None,
                "reachable": False,
                "reason": self._identity.runtime_reason,
                "detail": str(away),
            }
            services = []
            detail = str(away)
        # After the engine was asked, which may have found something to warn of.
        warnings = self._warnings()
        # The engine check has usually added this warning already.
        if detail and detail not in warnings:
            warnings = [*warnings, detail]
        return {
            "agent": {
                "agent_id": self._identity.agent_id,
                "server_id": self._identity.server_id,
                "version": __version__,
                "pid": os.getpid(),
                "uptime_seconds": round(time.time() - self._identity.started_at, 1),
                "data_dir": str(self._identity.data_dir),
            },
            "control_plane": dict(self._control_plane()),
            "update": dict(self._update()),
            "runtime": runtime,
            "journal": {"outbox": await self._journal.outbox.size(), "dropped": self._journal.outbox.dropped},
            "services": services,
            "alerts": [*self._alerts()],
            "warnings": warnings,
        }

    async def _engine_status(self) -> tuple[RuntimeInfo, list[Json]]:
        try:
            async with asyncio.timeout(ENGINE_SECS):
                return await self._runtime.info(), [*await self._services()]
        except TimeoutError:
            raise RuntimeUnavailable(
                f"cannot ask the engine: no answer within {ENGINE_SECS:g} s; check whether it hangs"
            ) from None

    async def _describe(self, service_id: ServiceId) -> dict[str, Json]:
        service = next((one for one in await self._services() if one["service_id"] == service_id), None)
        if service is None:
            raise RequestError("SERVICE_NOT_FOUND", f"cannot show {service_id}: there is no such service")
        view = next((view for view in await self._views.all() if view.service_id == service_id), None)
        described = {} if view is None else describe(view, self._views.last_answer)
        ended = await self._journal.events.ended(service_id)
        problems = [warning for warning in self._warnings() if is_about_routes(warning)]
        if view is not None and view.deployment is not None and view.deployment.spec.domains:
            problems = [*await self._plans.route_problems(view.deployment), *problems]
        return {
            "service": service,
            **described,
            "routes_problems": problems if described.get("routes") else [],
            "last_deployment": shown_end(ended[0]) if ended else None,
            "alerts": [alert for alert in self._alerts() if alert.get("service_id") == service_id],
        }

    async def _services(self) -> list[dict[str, Json]]:
        failed = await self._failed.all()
        services: list[dict[str, Json]] = []
        # The last one: the list must not wait for a measurement.
        sample = self._sampler.last
        for view in await self._views.all():
            one = failed.pop(view.service_id, None)
            services.append({**listed(view, sample), "failed": one.shown() if one else None})
        return [*services, *(one.listed() for _, one in sorted(failed.items()))]

    async def _metrics(self, service_id: ServiceId | None) -> dict[str, Json]:
        replicas = sorted(
            await self._runtime.observe(service_id),
            key=lambda replica: (replica.service_id, replica.index, replica.created_ns),
        )
        if not replicas and service_id is not None:
            raise RequestError("SERVICE_NOT_FOUND", f"cannot measure {service_id}: it has no container")
        sample = await self._sampler.with_rates()
        found = [figures for replica in replicas if (figures := sample.figures(replica.container_id)) is not None]
        return {"service_id": service_id, "containers": [figures_payload(figures) for figures in found]}


def figures_payload(figures: Figures) -> dict[str, Json]:
    """The figures of one container, as `metrics` shows them."""
    limit = figures.memory_limit_bytes
    return {
        "container_id": figures.container_id,
        "container_name": figures.name,
        "cpu_percent": round(figures.cpu_percent, 2),
        "memory_used_mb": round(figures.memory_bytes / MIB, 2),
        "memory_limit_mb": round(limit / MIB, 2) if limit else None,
        "memory_percent": round(100 * figures.memory_bytes / limit, 2) if limit else None,
        "network_rx_bytes": figures.network_rx_bytes,
        "network_tx_bytes": figures.network_tx_bytes,
        "block_read_bytes": figures.block_read_bytes,
        "block_write_bytes": figures.block_write_bytes,
        "pids": figures.pids,
    }
