"""Routes through Traefik's file provider: which replicas receive requests, and that the proxy is seen to follow.

What is published is state of its own: a replica that runs is not yet one that receives requests, and one that is on
its way out runs on while it drains. It is kept beside the configuration file, so that an agent that starts again goes
on from what the proxy does, and not from what it would like.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from syntra.agent.journal.journal import Journal
from syntra.model.errors import RequestError
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import Deployment, ServiceSpec
from syntra.model.status import ContainerState, Health, Replica
from syntra.networking import traefik
from syntra.networking.connections import open_connections
from syntra.networking.errors import ProxyUnreachable
from syntra.networking.file_writer import FileWriter
from syntra.networking.proxy import ProxyObserver
from syntra.networking.routes import Endpoint, Group, RouteTable, ServiceRoute, conflict
from syntra.runtime.adapter import Adapter
from syntra.runtime.errors import RuntimeUnavailable, StepFailed
from syntra.utils import atomic_file
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

APPLY_SECS = 10.0
DRAIN_LOOK_SECS = 0.1
RECONCILE_SECS = 30.0
STATE_FILE = "published.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSettings:
    """How the proxy is told and how long the old is drained. `state_dir` keeps what is published.

    `unobserved_secs` is waited when nobody can be asked: the proxy's own throttle between two configurations is two
    seconds (providersThrottleDuration), and one more is for its file watcher.
    """

    proxy: traefik.ProxySettings
    drain_secs: float
    state_dir: Path
    unobserved_secs: float = 3.0


class FileTraffic:
    """`agent.traffic_port.Traffic` over one machine-written file. One instance; everything on the event loop."""

    def __init__(
        self,
        settings: TrafficSettings,
        *,
        writer: FileWriter,
        observer: ProxyObserver,
        adapter: Adapter,
        journal: Journal,
        is_busy: Callable[[ServiceId], bool],
        readiness: Callable[[Replica, ServiceSpec], Health],
    ) -> None:
        self._settings = settings
        self._writer = writer
        self._observer = observer
        self._adapter = adapter
        self._journal = journal
        self._is_busy = is_busy
        self._readiness = readiness
        self._specs: dict[ServiceId, ServiceSpec] = {}
        self._published: dict[ServiceId, dict[ContainerId, Endpoint]] = {}
        self._lock = asyncio.Lock()
        self._nudge = asyncio.Event()
        self._is_loaded = False
        self.problem = ""

    def routes(self, spec: ServiceSpec) -> bool:
        return bool(spec.domains)

    def is_serving(self, container_id: ContainerId) -> bool:
        return any(container_id in published for published in self._published.values())

    async def check(self, deployment: Deployment) -> None:
        spec = deployment.spec
        if not spec.domains:
            return
        if spec.port is None:
            raise RequestError("INVALID_PAYLOAD", "config.port: is missing; domains need the port that requests go to")
        async with self._lock:
            await self._load()
        others = RouteTable(tuple(self._route(s) for i, s in self._specs.items() if i != spec.service_id))
        claimed = conflict(others, self._route(spec))
        if claimed is not None:
            raise RequestError("ROUTE_CONFLICT", f"networking.domains: {claimed}; remove it there first")

    async def prepare(self, spec: ServiceSpec) -> None:
        return

    async def publish(self, spec: ServiceSpec, containers: Sequence[ContainerId], *, share: int | None = None) -> None:
        found = {container_id: await self._endpoint(container_id, spec) for container_id in containers}
        async with self._lock:
            await self._load()
            self._specs[spec.service_id] = spec
            self._published.setdefault(spec.service_id, {}).update(found)
            await self._apply()

    async def withdraw(self, service_id: ServiceId, containers: Sequence[ContainerId]) -> None:
        async with self._lock:
            await self._load()
            published = self._published.get(service_id, {})
            gone = [published.pop(container_id) for container_id in containers if container_id in published]
            if gone:
                await self._apply()
        await self._drain(containers)

    async def forget(self, service_id: ServiceId) -> None:
        """The service was removed: its routes go."""
        async with self._lock:
            await self._load()
            self._specs.pop(service_id, None)
            if self._published.pop(service_id, None) is not None:
                await self._apply()

    async def start(self) -> None:
        """Take up what is published and write it again; never fails for the proxy's sake."""
        async with self._lock:
            await self._load()
            with suppress(StepFailed):
                await self._apply()

    async def _load(self) -> None:
        # Before anything is written: a table without the services of before would take their routes away. Raises
        # RuntimeUnavailable while the engine is away; the next caller tries again.
        if self._is_loaded:
            return
        before = await asyncio.to_thread(_read_state, self._settings.state_dir / STATE_FILE)
        by_service: dict[ServiceId, list[Replica]] = {}
        for replica in await self._adapter.observe():
            by_service.setdefault(replica.service_id, []).append(replica)
        for row in await self._journal.services():
            deployment = await self._journal.deployment(row.service_id, row.deployment_id)
            if row.stopped or deployment is None or not self.routes(deployment.spec):
                continue
            spec = deployment.spec
            self._specs[row.service_id] = spec
            replicas = by_service.get(row.service_id, [])
            kept = before.get(row.service_id)
            self._published[row.service_id] = {
                r.container_id: endpoint
                for r in replicas
                if (r.container_id in kept if kept is not None else r.deployment_id == row.deployment_id)
                and (endpoint := _endpoint_of(r, spec)) is not None
            }
        self._is_loaded = True

    async def run(self) -> None:
        """Keep the routes true to the engine until cancelled: after its events, and every RECONCILE_SECS anyway."""
        while True:
            async with asyncio.TaskGroup() as group:
                # Listening begins before looking, so that nothing falls between the two.
                change = group.create_task(self._adapter.wait_for_change(), name="routes change")
                await asyncio.sleep(0)
                try:
                    if not self._is_loaded:
                        await self.start()
                    await self.reconcile()
                except (RuntimeUnavailable, StepFailed) as later:
                    log.info("routes stay as they are for now", extra={"reason": str(later)})
                except AgentError as failed:
                    log.error("routes could not be looked at", extra={"reason": str(failed)})
                nudged = group.create_task(self._nudge.wait(), name="routes nudge")
                await asyncio.wait({change, nudged}, timeout=RECONCILE_SECS, return_when=asyncio.FIRST_COMPLETED)
                self._nudge.clear()
                change.cancel()
                nudged.cancel()

    def nudge(self) -> None:
        """Something outside the engine's events changed, such as a replica's health."""
        self._nudge.set()

    async def reconcile(self) -> None:
        """Drop what runs no more, follow changed addresses, take up replicas of idle services that are ready."""
        observed = await self._adapter.observe()
        rows = {row.service_id: row for row in await self._journal.services()}
        async with self._lock:
            wanted = {service_id: dict(published) for service_id, published in self._published.items()}
            for service_id, published in wanted.items():
                spec = self._specs[service_id]
                here = {r.container_id: _endpoint_of(r, spec) for r in observed if r.service_id == service_id}
                for container_id in list(published):
                    endpoint = here.get(container_id)
                    if endpoint is None:
                        del published[container_id]
                    else:
                        published[container_id] = endpoint
            for replica in observed:
                row, spec_or_none = rows.get(replica.service_id), self._specs.get(replica.service_id)
                if row is None or spec_or_none is None or row.stopped or self._is_busy(replica.service_id):
                    continue
                endpoint = _endpoint_of(replica, spec_or_none)
                current = replica.deployment_id == row.deployment_id
                published = wanted.setdefault(replica.service_id, {})
                if endpoint is None or not current:
                    continue
                readiness = self._readiness(replica, spec_or_none)
                if readiness is Health.HEALTHY:
                    published[replica.container_id] = endpoint
                elif readiness is Health.UNHEALTHY and len(published) > 1:
                    # The last one stays: an answer that may be wrong is better than none.
                    published.pop(replica.container_id, None)
            if wanted != self._published:
                self._published = wanted
                await self._apply()

    async def _apply(self) -> None:
        table = self._table()
        try:
            changed = await asyncio.to_thread(self._writer.write, traefik.render(table, self._settings.proxy))
            state = {str(service_id): sorted(published) for service_id, published in self._published.items()}
            await asyncio.to_thread(_write_state, self._settings.state_dir / STATE_FILE, state)
        except AgentError as failed:
            raise StepFailed("ROUTE_FAILED", str(failed)) from failed
        try:
            # Asked once before it is waited for: a proxy that is not there is not worth the whole of APPLY_SECS.
            applied = await self._observer.applied(table) or await self._observer.wait_applied(table, APPLY_SECS)
        except ProxyUnreachable as unseen:
            self._say(f"the proxy cannot be observed, so a fixed time is waited for it: {unseen}")
            if changed:
                await asyncio.sleep(self._settings.unobserved_secs)
            return
        self._say("" if applied else f"the proxy has not applied its routes within {APPLY_SECS:g} s; see its log")
        if not applied:
            raise StepFailed("ROUTE_FAILED", f"cannot route: {self.problem}")

    async def _drain(self, containers: Iterable[ContainerId]) -> None:
        deadline = asyncio.get_running_loop().time() + self._settings.drain_secs
        for container_id in containers:
            replica = await self._adapter.inspect(container_id)
            spec = self._specs.get(replica.service_id) if replica else None
            if replica is None or spec is None or spec.port is None or replica.state is not ContainerState.RUNNING:
                continue
            # A count that cannot be had (0 is one that can) is no reason to cut anybody off: the whole time is waited.
            while (count := await asyncio.to_thread(open_connections, replica.pid, spec.port)) != 0:
                if asyncio.get_running_loop().time() >= deadline:
                    log.info("drain time is over", extra={"container": replica.name, "open": count})
                    break
                await asyncio.sleep(DRAIN_LOOK_SECS)
                if count is None and await self._adapter.inspect(container_id) is None:
                    break

    async def _endpoint(self, container_id: ContainerId, spec: ServiceSpec) -> Endpoint:
        replica = await self._adapter.inspect(container_id)
        endpoint = _endpoint_of(replica, spec) if replica else None
        if endpoint is None:
            raise StepFailed(
                "ROUTE_FAILED",
                f"cannot publish {container_id[:12]}: it has no address on its network",
                container_id=container_id,
            )
        return endpoint

    def _table(self) -> RouteTable:
        return RouteTable(tuple(self._route(spec) for spec in self._specs.values()))

    def _route(self, spec: ServiceSpec) -> ServiceRoute:
        endpoints = self._published.get(spec.service_id, {})
        ordered = tuple(endpoints[container_id] for container_id in sorted(endpoints))
        return ServiceRoute(
            service_id=spec.service_id,
            domains=spec.domains,
            routing=spec.routing,
            groups=(Group(name="stable", weight=100, endpoints=ordered),),
        )

    def _say(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.warning("proxy", extra={"reason": problem})
        self.problem = problem


def _endpoint_of(replica: Replica, spec: ServiceSpec) -> Endpoint | None:
    address = next((address for address in replica.addresses.values() if address), None)
    if replica.state is not ContainerState.RUNNING or address is None or spec.port is None:
        return None
    return Endpoint(container_id=replica.container_id, address=address, port=spec.port)


def _write_state(path: Path, state: Mapping[str, list[ContainerId]]) -> None:
    atomic_file.write(path, json.dumps(state, indent=1, sort_keys=True).encode())


def _read_state(path: Path) -> dict[ServiceId, set[ContainerId]]:
    try:
        kept = json.loads(path.read_text())
        return {ServiceId(s): {ContainerId(c) for c in containers} for s, containers in kept.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
