"""Answers read-only queries: status, services, metrics, plans."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from syntra import __version__
from syntra.agent.api.failed_deployments import FailedDeployments
from syntra.agent.api.service_views import ServiceViews, listed
from syntra.agent.api.top import Top
from syntra.agent.figures.sampler import Sampler
from syntra.agent.journal.journal import Journal
from syntra.agent.messages import LOCAL
from syntra.agent.operations.context import PlanContext
from syntra.agent.operations.job import Job
from syntra.agent.operations.name_claims import NameClaims
from syntra.agent.operations.targets import check_unchanged
from syntra.model.command import Deploy, Query, QueryKind
from syntra.model.errors import RequestError
from syntra.model.fields import Json
from syntra.model.ids import RequestId, ServiceId
from syntra.model.spec import Deployment
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
        self._names = names
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
                return {"services": await self._services()}
            case QueryKind.METRICS:
                assert query.service_id is not None, "cannot happen because the parser asks for it"
                return await self._metrics(query.service_id)
            case QueryKind.TOP:
                return await self._top.answer()
            case QueryKind.TELEMETRY:
                return {**await self._telemetry()}
            case QueryKind.PLAN:
                assert query.deployment is not None, "cannot happen because the parser asks for it"
                return await self._plan(query.deployment)

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
                return await self._runtime.info(), await self._services()
        except TimeoutError:
            raise RuntimeUnavailable(
                f"cannot ask the engine: no answer within {ENGINE_SECS:g} s; check whether it hangs"
            ) from None

    async def _services(self) -> list[Json]:
        failed = await self._failed.all()
        services: list[Json] = []
        # The last one: the list must not wait for a measurement.
        sample = self._sampler.last
        for view in await self._views.all():
            one = failed.pop(view.service_id, None)
            services.append({**listed(view, sample), "failed": one.shown() if one else None})
        return [*services, *(one.listed() for _, one in sorted(failed.items()))]

    async def _metrics(self, service_id: ServiceId) -> dict[str, Json]:
        replicas = sorted(
            await self._runtime.observe(service_id), key=lambda replica: (replica.index, replica.created_ns)
        )
        if not replicas:
            raise RequestError("SERVICE_NOT_FOUND", f"cannot measure {service_id}: it has no container")
        sample = await self._sampler.with_rates()
        found = [figures for replica in replicas if (figures := sample.figures(replica.container_id)) is not None]
        return {"service_id": service_id, "containers": [figures_payload(figures) for figures in found]}

    async def _plan(self, deployment: Deployment) -> dict[str, Json]:
        spec = deployment.spec
        await check_unchanged(deployment, self._journal)
        await self._names.check(spec)
        await self._runtime.check(deployment, reserve=False)
        command = Deploy(request_id=RequestId("plan"), deployment=deployment, auth=None)
        job = Job(command=command, kind="plan", origin=LOCAL, deployment=deployment, replicas=spec.replicas)
        rollout = self._runtime.rollout(PlanContext(job, self._journal))
        observed = await rollout.observe()
        job.prior = rollout.prior(observed)
        planned = rollout.plan(observed)
        return {
            "service_id": spec.service_id,
            "deployment_id": deployment.deployment_id,
            "strategy": deployment.strategy.value,
            "steps": [{"phase": step.phase.value, "text": str(step)} for step in planned.steps],
            "notes": [*planned.notes, *await self._runtime.obstacles(deployment)],
        }


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
