"""Leads requests and names to replicas, and away from them: the proxy's routes, the names, the drain.

The order is what makes a change unnoticed. Something new is written, seen to be applied, and only then counts as
published. Something old leaves the names and the routes, is seen to have left, and then has the time that clients may
remember its address, and that its open requests need.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
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
# Nobody tells that a replica without a health check has stayed up for long enough.
STAYING_UP_SECS = 0.5
# A client that asks by name may keep its connection for ever, as pools of database clients do; the proxy does not.
NAMED_DRAIN_SECS = 5.0


@frozen
class TrafficSettings:
    """How long the old is drained at most; `state_dir` keeps what is published."""

    drain_secs: float
    state_dir: Path


class TrafficSwitch:
    """`agent.traffic.port.Traffic`. One instance; everything on the event loop. Without proxy or names: not those."""

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
        self._is_loaded = False
        # False while the proxy has not been seen to work with what is written.
        self._is_applied = True
        self._looked_at = float("-inf")
        # Whether the last look found a replica that only has to stay up to be ready.
        self._is_staying_up = False

    @property
    def problems(self) -> list[str]:
        """Sentences for the status."""
        return [*filter(None, [self._proxy.problem]), *self._names.problems]

    @property
    def proxy(self) -> RoutePublisher:
        return self._proxy

    async def table(self) -> RouteTable:
        """What is routed now. Raises RuntimeUnavailable until an engine has told what of it is here."""
        await self._until_loaded()
        return endpoints.route_table(self._endpoints)

    async def write_again(self) -> None:
        """Have the proxy's file say what is routed, whatever happened to it; waits for no proxy."""
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
            # Looked at inside the lock: one that ends while the lock is waited for would be published for good, as the
            # look that its end calls for is over by then.
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
                # Made again when whoever made it was cut off: they may be gone from the table by then.
                gone.update({c: service.reached[c] for c in containers if c in service.reached})
            return endpoints.withdrawn(table, service_id, containers)

        await self._batcher.make(change, insist=True)
        await self._drain(spec, containers, gone)

    async def forget(self, service_id: ServiceId) -> None:
        async def change(table: EndpointTable) -> EndpointTable:
            return endpoints.forgotten(table, service_id)

        await self._batcher.make(change, insist=False)
        self._ownership.forget(service_id)

    async def start(self) -> None:
        """Take up what is published and write it again; never fails for the proxy's sake."""
        async with self._lock:
            await self._load()
            with suppress(StepFailed):
                await self._change(self._endpoints, again=True)

    async def run(self) -> None:
        """Keep all of it true to the engine until cancelled: after every change, and every RECONCILE_SECS anyway."""
        changes = self._changes.follow()
        while True:
            try:
                if not self._is_loaded:
                    await self.start()
                await self.reconcile()
                await self._look_again()
            except RuntimeFailure as later:
                log.info("routes are unchanged for now", extra={"reason": str(later)})
            except AgentError as failed:
                log.error("cannot check the routes", extra={"reason": str(failed)})
            await changes.wait(STAYING_UP_SECS if self._is_staying_up else RECONCILE_SECS)

    async def reconcile(self) -> None:
        """Drop what runs no more, follow changed addresses, take up replicas of idle services that are ready.

        While a canary is held, which may be for hours, what served before it is looked after too.
        """
        async with self._lock:
            # An operation may commit during this look. What it published it published before the look began, as that
            # takes the lock: so whatever is busy now is left alone, although it may be idle by the end.
            busy = {service_id for service_id in self._endpoints if self._is_busy(service_id)}
            services = await self._journal.current_all()
            rows = {service.row.service_id for service in services}
            observed = await self._observed()
            busy |= {service_id for service_id in {*self._endpoints, *rows} if self._is_busy(service_id)}
            self._names.see(observed)
            wanted = endpoints.followed(self._endpoints, observed)
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
                change = endpoints.tended if is_held else endpoints.settled
                wanted = change(wanted, spec, current, self._readiness.readiness)
                self._is_staying_up |= spec.health is None and any(
                    self._readiness.readiness(replica, spec) is Health.UNKNOWN
                    for replica in current
                    if not endpoints.is_reached(wanted, replica.container_id)
                )
            await self._change(wanted)

    async def _observed(self) -> list[Container]:
        """Every replica. Whatever would be dropped is asked for once more: the list may be older than its start."""
        observed = {replica.container_id: replica for replica in await self._engine.observe()}
        for container_id in [c for service in self._endpoints.values() for c in service.reached]:
            known = observed.get(container_id)
            if known is None or endpoints.address_of(known) is None:
                fresh = await self._engine.inspect(container_id)
                if fresh is not None:
                    observed[container_id] = fresh
        return [*observed.values()]

    async def _make(self, asked: Sequence[PendingChange[EndpointTable]]) -> None:
        await self._load()
        wanted, shared = self._endpoints, list[PendingChange[EndpointTable]]()
        for one in asked:
            try:
                changed = await one.change(wanted)
                # What cannot be a route must not keep the others from theirs.
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
        """Make `wanted` what is reached. Raises StepFailed when it could not be written: then nothing has changed.

        What is so already is written `again`, or with `insist` waited for again when the proxy had not taken it.
        """
        if wanted == self._endpoints and not again and (self._is_applied or not insist):
            return
        table = endpoints.route_table(wanted)
        # Services without domains come and go without the proxy.
        concerns_proxy = self._proxy.routes and (table != self._table or not self._is_applied or again)
        try:
            is_new = concerns_proxy and await self._proxy.write(table)
        except StepFailed as unwritten:
            if not endpoints.only_ends_services(self._endpoints, wanted):
                raise
            # A service can be stopped while the disk is full. The file is written again later, see `_look_again`.
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
        # Not for a moment longer: whoever has the lock may be waiting for the proxy.
        if not self._is_loaded:
            async with self._lock:
                await self._load()

    async def _load(self) -> None:
        """Take up what an earlier run has published. Before any write: a table without it would drop its routes."""
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
                    # An older replica listens where its own deployment said.
                    port = (await self._made_from(replica, current.spec)).port
                    reached[replica.container_id] = ReplicaEndpoint(index=replica.index, address=address, port=port)
            known = ServiceEndpoints(spec=current.spec, reached=reached)
            if kept is not None:
                canary = frozenset(container_id for container_id in kept.canary if container_id in reached)
                known = replace(known, canary=canary, share=kept.share)
            table[row.service_id] = known
        self._endpoints = table
        self._is_loaded = True
        # Whoever loads it, names know it: a change that changes nothing would never tell them.
        self._names.show(endpoints.named(table))

    async def _made_from(self, replica: Container | None, otherwise: ServiceSpec) -> ServiceSpec:
        found = await self._journal.deployment(replica.service_id, replica.deployment_id) if replica else None
        return found.spec if found is not None else otherwise

    async def _reached(self, container_id: ContainerId, spec: ServiceSpec) -> ReplicaEndpoint:
        replica = await self._engine.inspect(container_id)
        address = endpoints.address_of(replica) if replica else None
        if replica is None or address is None:
            raise StepFailed(
                "ROUTE_FAILED",
                f"cannot publish {container_id[:12]}: it has no address on its network",
                container_id=container_id,
            )
        return ReplicaEndpoint(index=replica.index, address=address, port=spec.port)

    async def _drain(
        self, spec: ServiceSpec | None, containers: Sequence[ContainerId], gone: Mapping[ContainerId, ReplicaEndpoint]
    ) -> None:
        if spec is None:
            return
        await self._names.until_forgotten(one.address for one in gone.values())
        # By what each was deployed with: the next deployment may have another port, or no domain any more.
        own = {c: await self._made_from(await self._engine.inspect(c), spec) for c in containers}
        through_proxy = self._proxy.routes and any(one.domains for one in (spec, *own.values()))
        limit = self._settings.drain_secs if through_proxy else min(self._settings.drain_secs, NAMED_DRAIN_SECS)
        deadline = asyncio.get_running_loop().time() + limit
        for container_id in containers:
            port = gone[container_id].port if container_id in gone else own[container_id].port
            if port is not None:
                await drained(self._engine, container_id, port, deadline)

    async def _look_again(self) -> None:
        """Once in RECONCILE_SECS: what no event tells of, such as a file that was edited or a network that is new."""
        now = asyncio.get_running_loop().time()
        if now - self._looked_at < RECONCILE_SECS:
            return
        self._looked_at = now
        await self._names.refresh(frozenset(service.spec.project_name for service in self._endpoints.values()))
        async with self._lock:
            table = endpoints.route_table(self._endpoints)
            if await self._proxy.write(table):
                log.warning("the routes file was changed outside the agent and is written again")
            await self._proxy.look(table)
