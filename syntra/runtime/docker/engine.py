"""Docker's engine: implements `runtime.containers.engine.ContainerEngine` with Engine API calls.

It translates the client's errors to the two kinds that the executor knows: engine unavailable, or call refused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager

from syntra.model.container import Container
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.image import ResolvedImage
from syntra.model.log_source import LogSource
from syntra.model.network import ProjectNetwork
from syntra.model.spec import Deployment, RegistryAuth
from syntra.model.status import ContainerExits, LogLine
from syntra.model.volume import Mounts
from syntra.runtime.containers.engine import PullProgress
from syntra.runtime.docker import records
from syntra.runtime.docker.archives import Archives
from syntra.runtime.docker.cgroup import CgroupReader
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.commands import Commands
from syntra.runtime.docker.containers import Containers
from syntra.runtime.docker.creation import AgentSettings, Creation, RouteLabels
from syntra.runtime.docker.errors import EngineError, NotFound, translated
from syntra.runtime.docker.exits import ExitTracker
from syntra.runtime.docker.explanations import taken_port
from syntra.runtime.docker.failed import failed_name, is_failed
from syntra.runtime.docker.garbage import with_failed
from syntra.runtime.docker.identity import Identity, Stray
from syntra.runtime.docker.images import Images
from syntra.runtime.docker.log_sources import LogSources
from syntra.runtime.docker.logs import Logs, as_timestamp, log_lines
from syntra.runtime.docker.looks import Looks
from syntra.runtime.docker.naming import ContainerDnsOf, Naming, engine_only
from syntra.runtime.docker.networks import Networks
from syntra.runtime.docker.obstacles import obstacles
from syntra.runtime.docker.pins import Pins
from syntra.runtime.docker.port_holders import FindProcess, PortHolders
from syntra.runtime.docker.readings import Readings
from syntra.runtime.docker.releases import Releases
from syntra.runtime.docker.removal import remove_replica
from syntra.runtime.docker.replicas import deployment_of, failed_of, replica_of
from syntra.runtime.docker.resume import LogResume
from syntra.runtime.docker.system import System
from syntra.runtime.docker.telemetry_env import OtlpPorts
from syntra.runtime.docker.volumes import Volumes
from syntra.runtime.docker.watch import ContainerWatch
from syntra.runtime.runtime import LogRange, RuntimeInfo, Surveyed

log = logging.getLogger(__name__)

# The engine answers a ping at once: one that hangs counts as unavailable.
PING_SECS = 5.0
TELEMETRY_LINE_BYTES = 1024 * 1024 + 64 * 1024
"""More than the telemetry process keeps of a line, so that it sees which one was cut."""

DrainLog = Callable[[ContainerId], Awaitable[None]]
# From a process id (0: none) and a port; None when unknown. Blocks for milliseconds.
CountConnections = Callable[[int, int], int | None]


class DockerEngine:
    """One Docker engine. Run `watch` beside it; without it every observation queries the engine."""

    def __init__(
        self,
        client: EngineClient,
        *,
        owner: str,
        otlp_ports: OtlpPorts | None = None,
        route_labels: RouteLabels = lambda _spec, _image_labels: {},
        container_dns: ContainerDnsOf = engine_only,
        with_aliases: bool = True,
        count_connections: CountConnections = lambda _pid, _port: None,
        find_process: FindProcess = lambda _: "",
        drain_log: DrainLog | None = None,
    ) -> None:
        """`container_dns` returns the DNS settings of a project's containers; where it returns None, `with_aliases`
        decides whether the engine resolves names. `count_connections` counts those open at a port of a process,
        `find_process` names the process that listens at a port of the host. `drain_log` waits until a container's log
        is read."""
        self._client = client
        self._drain_log = drain_log
        self._count_connections = count_connections
        self._containers = Containers(client)
        self._images = Images(client)
        self._pins = Pins(self._images, owner=owner)
        self.image_volumes = self._pins.image_volumes
        self._identity = Identity(self._images)
        self._port_holders = PortHolders(self._containers, self._identity, find_process)
        self._networks = Networks(client)
        self._naming = Naming(
            self._containers, self._networks, self._identity, container_dns, with_aliases=with_aliases
        )
        volumes = Volumes(client, self._identity)
        self.find_volumes, self.ensure_volume = volumes.find, volumes.ensure_for
        commands = Commands(client)
        self.execute, self.attach = commands.execute, commands.attach
        self.copy = Archives(client).copy
        self._logs = Logs(client)
        self._system = System(client)
        self._exits = ExitTracker(owner, is_ours=self._identity.verdict)
        self._watch = ContainerWatch(client, owner=owner, exits=self._exits)
        self._looks = Looks(self._containers, self._watch, self._identity, owner=owner)
        self._creation = Creation(
            AgentSettings(owner=owner, otlp_ports=otlp_ports, route_labels=route_labels),
            containers=self._containers,
            networks=self._networks,
            pins=self._pins,
            naming=self._naming,
            looks=self._looks,
            identity=self._identity,
            system=self._system,
        )
        self._log_sources = LogSources(self._containers, self._looks)
        self._releases = Releases(self._containers, self._identity, owner=owner)
        # After one event several loops list all containers; they share one list.
        self._list_lock = asyncio.Lock()
        self.readings = Readings(self._containers, CgroupReader()).read

    @property
    def name(self) -> str:
        """The product that answered last; Docker before the first answer."""
        return self._client.last_product.value

    @property
    def strays(self) -> Sequence[Stray]:
        """Containers that have the agent's labels but are not the agent's, as of the last list of all containers."""
        return self._looks.strays

    async def watch(self, on_change: Callable[[], None]) -> None:
        await self._watch.run(on_change)

    def follow_others(self, on_change: Callable[[], None]) -> None:
        """While `watch` runs, call this after a container that is none of the agent's has changed."""
        self._watch.on_other = on_change

    def drain_exits(self) -> ContainerExits:
        return self._exits.drain()

    async def info(self) -> RuntimeInfo:
        with translated("ENGINE_ERROR"):
            await self._client.negotiate()
            info = await self._system.info()
        self._creation.logging_driver = info.logging_driver
        major, minor = self._client.api_version
        return RuntimeInfo(
            name=self.name, version=info.server_version, api_version=f"{major}.{minor}", root_dir=info.root_dir
        )

    async def ping(self) -> None:
        # On a new connection: an engine that shuts down still answers on open ones, but accepts no new ones.
        with translated("ENGINE_ERROR"):
            async with self._client.stream("GET", "/_ping", connect_deadline=PING_SECS):
                pass

    async def observe(self, service_id: ServiceId | None = None) -> list[Container]:
        # An operation needs the current state; other callers may use what the events have kept fresh.
        if service_id is not None:
            details = await self._details(service_id, fresh=True)
            return [replica for item in details if (replica := replica_of(item)) is not None]
        async with self._list_lock:
            known = self._watch.remembered_all()
            if known is not None:
                return known
            token = self._watch.token()
            details = await self._details(None, fresh=False)
            found = [replica for item in details if (replica := replica_of(item)) is not None]
            self._watch.remember_all(found, token)
            return found

    async def survey(self) -> list[Surveyed]:
        details = await self._details(None, fresh=True)
        return [
            Surveyed(replica=replica, deployment=deployment_of(item))
            for item in details
            if (replica := replica_of(item)) is not None
        ]

    async def failed(self, service_id: ServiceId | None = None) -> list[Surveyed]:
        details = await self._details(service_id, fresh=True)
        return [
            Surveyed(replica=container, deployment=deployment_of(item))
            for item in details
            if (container := failed_of(item)) is not None
        ]

    async def inspect(self, container_id: ContainerId) -> Container | None:
        with translated("ENGINE_ERROR"):
            details = await self._looks.inspect(container_id)
            return None if details is None else replica_of(details)

    async def has_image(self, deployment: Deployment) -> bool:
        with translated("ENGINE_ERROR"):
            return await self._pins.held(deployment) is not None

    async def resolved_image(self, deployment: Deployment) -> ResolvedImage | None:
        with translated("ENGINE_ERROR"):
            return await self._pins.resolved(deployment)

    async def obtain_image(
        self,
        deployment: Deployment,
        auth: RegistryAuth | None,
        progress: PullProgress,
        *,
        resolve: bool = True,
        deadline: float | None = None,
    ) -> str:
        with translated("PULL_FAILED"):
            if deployment.resolved is None and resolve:
                return await self._pins.obtain(deployment, auth, progress, deadline)
            known = deployment.resolved or await self._looks.image_of(deployment)
            await self._pins.restore(deployment, known, auth, progress, deadline)
            return ""

    async def ensure_network(self, project: str) -> None:
        with translated("NETWORK_FAILED"):
            await self._creation.ensure_network(project)

    async def release_network(self, project: str) -> None:
        with translated("NETWORK_FAILED"):
            await self._creation.release_network(project)

    async def networks(self, projects: frozenset[str]) -> list[ProjectNetwork]:
        with translated("NETWORK_FAILED"):
            return await self._naming.networks(projects)

    async def create(self, deployment: Deployment, index: int, mounts: Mounts = None) -> tuple[ContainerId, str]:
        async with self._creating_in(deployment.spec.project_name):
            with translated("CREATE_FAILED"):
                return await self._creation.create(deployment, index, mounts)

    async def run_release(self, deployment: Deployment, limit_secs: float, mounts: Mounts = None) -> None:
        async def create() -> ContainerId:
            return await self._creation.create_release(deployment, mounts)

        async with self._creating_in(deployment.spec.project_name):
            with translated("RELEASE_FAILED"):
                await self._releases.run(deployment, create, limit_secs)

    async def remove_releases(self, service_id: ServiceId, grace_secs: float) -> None:
        with translated("REMOVE_FAILED"):
            await self._releases.remove(service_id, grace_secs)

    @asynccontextmanager
    async def _creating_in(self, project: str) -> AsyncIterator[None]:
        try:
            async with self._creation.in_project(project):
                yield
        finally:
            self._watch.touched()

    async def start(self, container_id: ContainerId) -> None:
        with self._touching(container_id), translated("START_FAILED", container_id):
            details = await self._containers.inspect(container_id)
            if details.restart_policy != "always":
                await self._containers.set_restarts(container_id, "always")
            try:
                await self._containers.start(container_id)
            except EngineError as error:
                if (port := taken_port(error.message)) is None:
                    raise
                raise await self._port_holders.refusal(port, error, container_id) from error

    async def obstacles(self, deployment: Deployment) -> list[str]:
        return await obstacles(deployment, self._port_holders)

    async def stop(self, container_id: ContainerId, grace_secs: float) -> None:
        self._exits.expected(container_id, time.time_ns())
        with self._touching(container_id), translated("STOP_FAILED", container_id):
            try:
                await self._without_restart(container_id)
                await self._containers.stop(container_id, grace_secs)
            except NotFound:
                return

    async def _without_restart(self, container_id: ContainerId) -> None:
        """Set the restart policy to `no`, which the engine keeps when it restarts."""
        try:
            await self._containers.set_restarts(container_id, "no")
        except EngineError as refused:
            if isinstance(refused, NotFound):
                raise
            # The engine's disk is probably full; the engine can still stop the container.
            log.warning("cannot set the restart policy", extra={"container_id": container_id, "reason": str(refused)})

    async def restart(self, container_id: ContainerId, grace_secs: float) -> None:
        self._exits.expected(container_id, time.time_ns())
        with self._touching(container_id), translated("RESTART_FAILED", container_id):
            await self._containers.set_restarts(container_id, "always")
            await self._containers.restart(container_id, grace_secs)

    async def keep_failed(self, container_id: ContainerId) -> None:
        self._exits.expected(container_id, time.time_ns())
        with self._touching(container_id), translated("RENAME_FAILED", container_id):
            try:
                details = await self._containers.inspect(container_id)
                if is_failed(details.name, details.labels):
                    return
                # The engine refuses to update a container that is just being restarted.
                await self._containers.stop(container_id, 0)
                await self._containers.set_restarts(container_id, "no")
                await self._containers.rename_free(container_id, failed_name(details.labels))
            except NotFound:
                return

    async def remove(self, container_id: ContainerId) -> None:
        self._exits.expected(container_id, time.time_ns())
        if self._drain_log is not None:
            await self._drain_log(container_id)
        with self._touching(container_id), translated("REMOVE_FAILED", container_id):
            await remove_replica(self._containers, container_id)

    @contextmanager
    def _touching(self, container_id: ContainerId) -> Iterator[None]:
        # Whatever the result of the call, the cached state may be outdated.
        try:
            yield
        finally:
            self._watch.touched(container_id)

    async def tail(self, container_id: ContainerId, lines: int) -> list[LogLine]:
        async with self.logs(container_id, LogRange(tail=lines, follow=False)) as records_:
            return [line async for line in records_]

    @asynccontextmanager
    async def logs(self, container_id: ContainerId, wanted: LogRange) -> AsyncIterator[AsyncIterator[LogLine]]:
        tail = wanted.tail if wanted.tail >= 0 else None
        if wanted.follow:
            resume = LogResume(as_timestamp(wanted.since)) if wanted.since else None
            source = self._logs.follow_restarts(container_id, tail=tail, resume=resume)
        else:
            source = self._logs.follow(
                container_id,
                tail=tail,
                since=as_timestamp(wanted.since),
                until=as_timestamp(wanted.until),
                follow=False,
            )
        with translated("LOGS_FAILED", container_id):
            async with aclosing(source) as records_:
                yield log_lines(records_)

    async def log_sources(self, *, everything: bool) -> list[LogSource]:
        with translated("ENGINE_ERROR"):
            return await self._log_sources.find(everything=everything)

    @asynccontextmanager
    async def log_stream(self, container_id: ContainerId, since: str | None) -> AsyncIterator[AsyncIterator[LogLine]]:
        source = self._logs.follow(container_id, since=since, line_bytes=TELEMETRY_LINE_BYTES)
        with translated("LOGS_FAILED", container_id):
            async with aclosing(source) as records_:
                yield log_lines(records_)

    async def open_connections(self, container: Container, port: int) -> int | None:
        return await asyncio.to_thread(self._count_connections, container.pid, port)

    async def collect_garbage(
        self, keep: Mapping[ServiceId, frozenset[DeploymentId]], known: frozenset[ServiceId]
    ) -> int:
        with translated("GARBAGE_FAILED"):
            # Without its image a container cannot be told from a copy of a replica.
            keep = with_failed(keep, [item.replica for item in await self.failed()])
            return await self._pins.collect(keep, known) + await self._releases.collect(known)

    async def _details(self, service_id: ServiceId | None, *, fresh: bool) -> list[records.ContainerDetails]:
        with translated("ENGINE_ERROR"):
            return await self._looks.details(service_id, fresh=fresh)
