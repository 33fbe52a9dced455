"""Publishes replicas in the proxy's routes and in DNS, withdraws them, and drains them.

The order of the steps hides a change from clients. A new replica counts as published once the proxy has applied the
routes with it. An old replica first leaves DNS and the routes; after the proxy has applied that, the switch waits until
clients have forgotten its address and its open requests have ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from syntra.agent.changes import Changes
from syntra.agent.health.readiness import Readiness
from syntra.agent.journal.journal import Journal
from syntra.agent.traffic import endpoint_file, endpoints
from syntra.agent.traffic.change_batcher import ChangeBatcher, PendingChange
from syntra.agent.traffic.drain import DrainSource, drained
from syntra.agent.traffic.endpoints import EndpointTable, ReplicaEndpoint, ServiceEndpoints
from syntra.agent.traffic.port import NoNames, NoRoutes, RoutePublisher, ServiceNames, check_shares
from syntra.agent.traffic.route_ownership import RouteOwnership
from syntra.agent.traffic.unreachable import unreachable
from syntra.model.container import Container
from syntra.model.errors import RequestError
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import Deployment, ServiceSpec
from syntra.model.status import Health
from syntra.networking.routes import RouteTable
from syntra.runtime.errors import RuntimeFailure, StepFailed
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

log = logging.getLogger(__name__)

RECONCILE_SECS = 30.0
# No event says that a replica without a health check has stayed up for long enough: poll.
STAYING_UP_SECS = 0.5
# A client that connects by name may keep its connection forever, as database pools do; the proxy does not.
NAMED_DRAIN_SECS = 5.0


@frozen
class TrafficSettings:
    """`drain_secs` is the longest drain of a withdrawn replica; `state_dir` holds the file of published containers."""

    drain_secs: float
    state_dir: Path


class TrafficSwitch:
    """Implements `agent.traffic.port.Traffic`. One instance, on the event loop only. Proxy and names are optional."""

    def __init__(
        self,
        settings: TrafficSettings,
        *,
        engine: DrainSource,
        changes: Changes,
        journal: Journal,
        is_busy: Callable[[ServiceId], bool],
        readiness: Readiness,
        proxy: RoutePublisher | None = None,
        names: ServiceNames | None = None,
        is_held: Callable[[ServiceId], bool] = lambda _: False,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._changes = changes
        self._journal = journal
        self._is_busy = is_busy
        self._is_held = is_held
        self._readiness = readiness
        self._proxy = proxy or NoRoutes()
        self._names = names or NoNames()
        self._endpoints: EndpointTable = {}
        self._lock = asyncio.Lock()
        self._batcher: ChangeBatcher[EndpointTable] = ChangeBatcher(self._lock, self._make)
        self._ownership = RouteOwnership(journal, is_busy)
        self._table: RouteTable | None = None
        # The open connections of each container that is being drained, as counted last.
        self._draining: dict[ContainerId, int | None] = {}
        self._is_loaded = False
        # False until the proxy is observed to use the written routes.
        self._is_applied = True
        self._checked_at = float("-inf")
        # Whether the last reconcile found a replica that only has to stay up to be ready.
        self._is_staying_up = False

    @property
    def problems(self) -> list[str]:
        """Problems for `status`, one sentence each."""
        return [*filter(None, [self._proxy.problem]), *self._names.problems]

    @property
    def proxy(self) -> RoutePublisher:
        return self._proxy

    async def table(self) -> RouteTable:
        """The published routes. Raises RuntimeUnavailable until the engine has listed their containers."""
        await self._until_loaded()
        return endpoints.route_table(self._endpoints)

    async def write_again(self) -> None:
        """Write the published routes to the proxy's file, whatever it holds. Does not wait for the proxy."""
        async with self._lock:
            await self._load()
            await self._proxy.write(endpoints.route_table(self._endpoints))

    def routes(self, spec: ServiceSpec) -> bool:
        if self._names.answers:
            return True
        known = self._endpoints.get(spec.service_id)
        return bool(spec.domains or (known is not None and known.spec.domains))

    def is_serving(self, container_id: ContainerId) -> bool:
        return endpoints.is_reached(self._endpoints, container_id)

    async def check(self, deployment: Deployment, *, reserve: bool = True) -> None:
        check_shares(deployment, why_not=self._proxy.why_no_shares)
        spec = deployment.spec
        if not spec.domains or not self._proxy.routes:
            return
        if spec.port is None:
            raise RequestError("INVALID_PAYLOAD", "config.port: is missing; domains need the port that requests go to")
        await self._until_loaded()
        claimed = await self._ownership.take(
            spec, [service.spec for service in self._endpoints.values()], reserve=reserve
        )
        if claimed is not None:
            raise RequestError("ROUTE_CONFLICT", f"networking.domains: {claimed}; remove it there first")

    async def prepare(self, spec: ServiceSpec) -> None:
        await self._names.prepare(spec.project_name)

    async def publish(self, spec: ServiceSpec, containers: Sequence[ContainerId], *, share: int | None = None) -> None:
        async def change(table: EndpointTable) -> EndpointTable:
            # Inspect inside the lock. A container that exits before the lock is free would stay published, as the
            # reconcile for its exit has already run.
            found = {container_id: await self._reached(container_id, spec) for container_id in containers}
            return endpoints.published(table, spec, found, share=share)

        await self._batcher.make(change, insist=True)

    async def withdraw(self, service_id: ServiceId, containers: Sequence[ContainerId]) -> None:
        spec: ServiceSpec | None = None
        gone: dict[ContainerId, ReplicaEndpoint] = {}

        async def change(table: EndpointTable) -> EndpointTable:
            nonlocal spec
            if (service := table.get(service_id)) is not None:
                spec = service.spec
                # This runs again after a cancelled batch, when the containers may have left the table.
                gone.update({c: service.reached[c] for c in containers if c in service.reached})
            return endpoints.withdrawn(table, service_id, containers)

        await self._batcher.make(change, insist=True)
        await self._drain(spec, containers, gone)

    def open_connections(self, containers: Sequence[ContainerId]) -> int | None:
        known = [count for container_id in containers if (count := self._draining.get(container_id)) is not None]
        return sum(known) if known else None

    async def give_back(self, spec: ServiceSpec, *, is_first: bool) -> None:
        async def change(table: EndpointTable) -> EndpointTable:
            return endpoints.forgotten(table, spec.service_id)

        self._ownership.release(spec)
        if is_first:
            await self._batcher.make(change, insist=False)

    async def forget(self, service_id: ServiceId) -> None:
        async def change(table: EndpointTable) -> EndpointTable:
            return endpoints.forgotten(table, service_id)

        await self._batcher.make(change, insist=False)
        self._ownership.forget(service_id)

    async def start(self) -> None:
        """Load the published containers and write the routes again. A failing proxy is not an error here."""
        async with self._lock:
            await self._load()
            with suppress(StepFailed):
                await self._change(self._endpoints, again=True)

    async def run(self) -> None:
        """Reconcile with the engine until cancelled: after every change, and at least every RECONCILE_SECS."""
        changes = self._changes.follow()
        while True:
            try:
                if not self._is_loaded:
                    await self.start()
                await self.reconcile()
                await self._check_files_and_networks()
            except RuntimeFailure as later:
                log.info("routes are unchanged for now", extra={"reason": str(later)})
            except AgentError as failed:
                log.error("cannot check the routes", extra={"reason": str(failed)})
            if self._is_staying_up:
                await changes.wait(STAYING_UP_SECS)
            else:
                await changes.recheck(RECONCILE_SECS)

    async def reconcile(self) -> None:
        """Drop replicas that no longer run, update changed addresses, publish ready replicas of idle services.

        While a canary is held, which may take hours, the replicas of the previous deployment are reconciled too.
        """
        async with self._lock:
            # An operation may commit during this pass. It published before the pass, as that takes the lock. So skip
            # each service that is busy now, even if it is idle by the end.
            busy = {service_id for service_id in self._endpoints if self._is_busy(service_id)}
            services = await self._journal.current_all()
            rows = {service.row.service_id for service in services}
            observed = await self._observed()
            busy |= {service_id for service_id in {*self._endpoints, *rows} if self._is_busy(service_id)}
            self._names.see(observed)
            wanted = endpoints.with_observed(self._endpoints, observed)
            self._is_staying_up = False
            for service_id in [*wanted]:
                if service_id not in rows and service_id not in busy:
                    wanted = endpoints.forgotten(wanted, service_id)
            for service in services:
                if service.deployment is None:
                    continue
                row, spec = service.row, service.deployment.spec
                service_id = row.service_id
                is_held = self._is_held(service_id)
                if (service_id in busy and not is_held) or not self.routes(spec):
                    continue
                current = [r for r in observed if r.service_id == service_id and r.deployment_id == row.deployment_id]
                current = [] if row.stopped else current
                change = endpoints.reconciled_during_canary if is_held else endpoints.reconciled
                wanted = change(wanted, spec, current, self._readiness.readiness)
                self._is_staying_up |= spec.health is None and any(
                    self._readiness.readiness(replica, spec) is Health.UNKNOWN
                    and not self._readiness.has_check(replica, spec)
                    for replica in current
                    if not endpoints.is_reached(wanted, replica.container_id)
                )
            await self._change(wanted)

    async def _observed(self) -> list[Container]:
        """All replicas. One that would be dropped is inspected again: the list may be older than its start."""
        observed = {replica.container_id: replica for replica in await self._engine.observe()}
        for container_id in [c for service in self._endpoints.values() for c in service.reached]:
            known = observed.get(container_id)
            if known is None or endpoints.address_of(known) is None:
                inspected = await self._engine.inspect(container_id)
                if inspected is not None:
                    observed[container_id] = inspected
        return [*observed.values()]

    async def _make(self, asked: Sequence[PendingChange[EndpointTable]]) -> None:
        await self._load()
        wanted, shared = self._endpoints, list[PendingChange[EndpointTable]]()
        for one in asked:
            try:
                changed = await one.change(wanted)
                # An invalid route must not block the other changes.
                endpoints.route_table(changed)
            except AgentError as failed:
                one.is_done, one.error = True, failed
                continue
            if changed == wanted and not one.insist:
                one.is_done = True
                continue
            wanted = changed
            shared.append(one)
        error: StepFailed | None = None
        try:
            await self._change(wanted, insist=bool(shared))
        except StepFailed as failed:
            error = failed
        for one in shared:
            one.is_done, one.error = True, error

    async def _change(self, wanted: EndpointTable, *, insist: bool = False, again: bool = False) -> None:
        """Publish `wanted`. Raises StepFailed when it cannot be written; then nothing has changed.

        An unchanged table is written again with `again`. With `insist`, this waits until the proxy has applied it.
        """
        if wanted == self._endpoints and not again and (self._is_applied or not insist):
            return
        table = endpoints.route_table(wanted)
        # Services without domains do not concern the proxy.
        concerns_proxy = self._proxy.routes and (table != self._table or not self._is_applied or again)
        try:
            is_new = concerns_proxy and await self._proxy.write(table)
        except StepFailed as unwritten:
            if not endpoints.only_ends_services(self._endpoints, wanted):
                raise
            # A service can be stopped while the disk is full. `_check_files_and_networks` writes the file later.
            log.error("routes to stopped services stay in the file", extra={"reason": str(unwritten)})
            self._endpoints = wanted
            self._names.show(endpoints.named(wanted))
            return
        self._endpoints, self._table = wanted, table
        self._names.show(endpoints.named(wanted))
        await asyncio.to_thread(endpoint_file.write, self._settings.state_dir, wanted)
        if concerns_proxy:
            self._is_applied = False
            await self._proxy.until_applied(table, is_new=is_new)
            self._is_applied = True

    async def _until_loaded(self) -> None:
        # Do not take the lock once loaded: its holder may be waiting for the proxy.
        if not self._is_loaded:
            async with self._lock:
                await self._load()

    async def _load(self) -> None:
        """Load what an earlier run published. Must precede any write, which would drop those routes."""
        if self._is_loaded:
            return
        before = await asyncio.to_thread(endpoint_file.read, self._settings.state_dir)
        by_service: dict[ServiceId, list[Container]] = {}
        for replica in await self._engine.observe():
            by_service.setdefault(replica.service_id, []).append(replica)
        table = dict(self._endpoints)
        for service in await self._journal.current_all():
            row, current = service.row, service.deployment
            if current is None or not self.routes(current.spec):
                continue
            kept = before.get(row.service_id)
            reached: dict[ContainerId, ReplicaEndpoint] = {}
            for replica in by_service.get(row.service_id, []):
                is_kept = replica.container_id in kept.reached if kept else replica.deployment_id == row.deployment_id
                address = endpoints.address_of(replica)
                if is_kept and address is not None:
                    # An older replica listens on the port of its own deployment.
                    port = (await self._spec_of(replica, current.spec)).port
                    reached[replica.container_id] = ReplicaEndpoint(index=replica.index, address=address, port=port)
            known = ServiceEndpoints(spec=current.spec, reached=reached)
            if kept is not None:
                canary = frozenset(container_id for container_id in kept.canary if container_id in reached)
                known = replace(known, canary=canary, share=kept.share)
            table[row.service_id] = known
        self._endpoints = table
        self._is_loaded = True
        # Update the names here: a change that changes nothing does not.
        self._names.show(endpoints.named(table))

    async def _spec_of(self, replica: Container | None, otherwise: ServiceSpec) -> ServiceSpec:
        found = await self._journal.deployment(replica.service_id, replica.deployment_id) if replica else None
        return found.spec if found is not None else otherwise

    async def _reached(self, container_id: ContainerId, spec: ServiceSpec) -> ReplicaEndpoint:
        replica = await self._engine.inspect(container_id)
        address = endpoints.address_of(replica) if replica else None
        if replica is None or address is None:
            raise unreachable(container_id, replica)
        return ReplicaEndpoint(index=replica.index, address=address, port=spec.port)

    async def _drain(
        self, spec: ServiceSpec | None, containers: Sequence[ContainerId], gone: Mapping[ContainerId, ReplicaEndpoint]
    ) -> None:
        if spec is None:
            return
        await self._names.until_forgotten(one.address for one in gone.values())
        # Use each container's own spec: the next deployment may have another port or no domain.
        own = {c: await self._spec_of(await self._engine.inspect(c), spec) for c in containers}
        through_proxy = self._proxy.routes and any(one.domains for one in (spec, *own.values()))
        limit = self._settings.drain_secs if through_proxy else min(self._settings.drain_secs, NAMED_DRAIN_SECS)
        deadline = asyncio.get_running_loop().time() + limit
        for container_id in containers:
            port = gone[container_id].port if container_id in gone else own[container_id].port
            if port is not None:
                seen = partial(self._draining.__setitem__, container_id)
                try:
                    await drained(self._engine, container_id, port, deadline, seen=seen)
                finally:
                    self._draining.pop(container_id, None)

    async def _check_files_and_networks(self) -> None:
        """Every RECONCILE_SECS, check for changes without events, such as an edited file or a new network."""
        now = asyncio.get_running_loop().time()
        if now - self._checked_at < RECONCILE_SECS - 1:
            return
        self._checked_at = now
        await self._names.refresh(frozenset(service.spec.project_name for service in self._endpoints.values()))
        async with self._lock:
            table = endpoints.route_table(self._endpoints)
            if await self._proxy.write(table):
                log.warning("the routes file was changed outside the agent and is written again")
            await self._proxy.look(table)
