"""Docker's engine: implements `runtime.containers.engine.ContainerEngine` with Engine API calls.

It translates the client's errors to the two kinds that the executor knows: engine unavailable, or call refused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager

from syntra.model.container import Container
from syntra.model.fields import Json
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.network import ProjectNetwork
from syntra.model.spec import Deployment, RegistryAuth, ServiceSpec
from syntra.model.status import ContainerExits, Figures, LogLine, Replica
from syntra.model.volume import Mounts
from syntra.runtime.containers.engine import PullProgress
from syntra.runtime.docker import body, records, stats
from syntra.runtime.docker.cgroup import CgroupReader, QuickFigures
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.commands import Commands
from syntra.runtime.docker.containers import Containers
from syntra.runtime.docker.errors import EngineError, NotFound, translated
from syntra.runtime.docker.exits import ExitTracker
from syntra.runtime.docker.explanations import taken_port
from syntra.runtime.docker.images import Images
from syntra.runtime.docker.logs import Logs, as_timestamp, log_lines
from syntra.runtime.docker.naming import ContainerDnsOf, Naming, engine_only
from syntra.runtime.docker.networks import Networks
from syntra.runtime.docker.obstacles import obstacles
from syntra.runtime.docker.pins import Pins
from syntra.runtime.docker.port_holders import FindProcess, PortHolders
from syntra.runtime.docker.releases import Releases
from syntra.runtime.docker.removal import remove_replica
from syntra.runtime.docker.replicas import deployment_of, replica_of
from syntra.runtime.docker.resume import LogResume
from syntra.runtime.docker.system import System
from syntra.runtime.docker.volumes import Volumes
from syntra.runtime.docker.watch import ContainerWatch
from syntra.runtime.errors import StepFailed
from syntra.runtime.runtime import LogRange, RuntimeInfo, Surveyed
from syntra.utils.keyed_lock import KeyedLock

log = logging.getLogger(__name__)

# The engine answers a ping at once: one that hangs counts as unavailable.
PING_SECS = 5.0
STATS_PAUSE_SECS = 1.0
INSPECTS_AT_ONCE = 4


# From a process id (0: none) and a port; None when unknown. Blocks for milliseconds.
CountConnections = Callable[[int, int], int | None]


class DockerEngine:
    """One Docker engine. Run `watch` beside it; without it every observation queries the engine."""

    name = "docker"

    def __init__(
        self,
        client: EngineClient,
        *,
        owner: str,
        otlp_http_port: int,
        route_labels: Callable[[ServiceSpec], Mapping[str, str]] = lambda _: {},
        container_dns: ContainerDnsOf = engine_only,
        with_aliases: bool = True,
        count_connections: CountConnections = lambda _pid, _port: None,
        find_process: FindProcess = lambda _: "",
    ) -> None:
        """`container_dns` returns the DNS settings of a project's containers; where it returns None, `with_aliases`
        decides whether the engine resolves names. `count_connections` counts those open at a port of a process,
        `find_process` names the process that listens at a port of the host."""
        self._client = client
        self._count_connections = count_connections
        self._route_labels = route_labels
        self._owner = owner
        self._ours: Mapping[str, str | None] = {body.MANAGED: "true", body.OWNER: owner}
        self._otlp_http_port = otlp_http_port
        self._containers = Containers(client)
        self._images = Images(client)
        self._pins = Pins(self._images, owner=owner)
        self.image_volumes = self._pins.image_volumes
        self._releases = Releases(self._containers, owner=owner)
        self._port_holders = PortHolders(self._containers, find_process)
        self._networks = Networks(client)
        self._naming = Naming(self._containers, self._networks, container_dns, with_aliases=with_aliases)
        volumes = Volumes(client)
        self.find_volumes, self.ensure_volume = volumes.find, volumes.ensure_for
        commands = Commands(client)
        self.execute, self.attach = commands.execute, commands.attach
        self._logs = Logs(client)
        self._system = System(client)
        self._exits = ExitTracker(owner)
        self._watch = ContainerWatch(client, owner=owner, exits=self._exits)
        # After one event several loops list all containers; they share one list.
        self._list_lock = asyncio.Lock()
        self._figures = QuickFigures(CgroupReader())
        self._logging_driver: str | None = None
        # Per project, the number of containers being created in its network: such a network is not removed.
        self._creating: Counter[str] = Counter()
        self._releasing = KeyedLock()

    async def watch(self, on_change: Callable[[], None]) -> None:
        await self._watch.run(on_change)

    def drain_exits(self) -> ContainerExits:
        return self._exits.drain()

    async def info(self) -> RuntimeInfo:
        with translated("ENGINE_ERROR"):
            await self._client.negotiate()
            info = await self._system.info()
        self._logging_driver = info.logging_driver
        major, minor = self._client.api_version
        return RuntimeInfo(
            name="docker", version=info.server_version, api_version=f"{major}.{minor}", root_dir=info.root_dir
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

    async def inspect(self, container_id: ContainerId) -> Container | None:
        with translated("ENGINE_ERROR"):
            try:
                return replica_of(await self._containers.inspect(container_id))
            except NotFound:
                return None

    async def has_image(self, deployment: Deployment) -> bool:
        with translated("ENGINE_ERROR"):
            return await self._images.inspect(self._pins.of(deployment)) is not None

    async def obtain_image(self, deployment: Deployment, auth: RegistryAuth | None, progress: PullProgress) -> str:
        with translated("PULL_FAILED"):
            return await self._pins.obtain(deployment, auth, progress)

    async def ensure_network(self, project: str) -> None:
        with translated("NETWORK_FAILED"):
            await self._network(project)

    async def _network(self, project: str) -> records.NetworkDetails:
        return await self._networks.ensure(body.network_name(project), {body.MANAGED: "true", body.PROJECT: project})

    async def release_network(self, project: str) -> None:
        with translated("NETWORK_FAILED"):
            async with self._releasing.holding(project):
                # By labels, not endpoints: a stopped container has no endpoint but will need the network again.
                labels = {body.MANAGED: "true", body.PROJECT: project}
                if self._creating[project] or await self._containers.list(labels=labels):
                    return
                network = await self._networks.inspect(body.network_name(project))
                if network is not None and network.labels.get(body.MANAGED) == "true":
                    await self._networks.remove(network.id)

    async def networks(self, projects: frozenset[str]) -> list[ProjectNetwork]:
        with translated("NETWORK_FAILED"):
            return await self._naming.networks(projects)

    async def create(self, deployment: Deployment, index: int, mounts: Mounts = None) -> tuple[ContainerId, str]:
        spec = deployment.spec
        async with self._creating_in(spec.project_name):
            with translated("CREATE_FAILED"):
                wanted = body.create_body(deployment, index, await self._context(deployment, mounts))
                name = body.container_name(spec.service_id, deployment.deployment_id, index)
                return await self._containers.create_free(name, wanted)

    @asynccontextmanager
    async def _creating_in(self, project: str) -> AsyncIterator[None]:
        """The project's network stays."""
        async with self._releasing.holding(project):
            self._creating[project] += 1
        try:
            yield
        finally:
            self._creating[project] -= 1
            self._watch.touched()

    async def run_release(self, deployment: Deployment, limit_secs: float, mounts: Mounts = None) -> None:
        async def wanted() -> dict[str, Json]:
            return body.release_body(deployment, await self._context(deployment, mounts))

        async with self._creating_in(deployment.spec.project_name):
            with translated("RELEASE_FAILED"):
                await self._releases.run(deployment, wanted, limit_secs)

    async def remove_releases(self, service_id: ServiceId, grace_secs: float) -> None:
        with translated("REMOVE_FAILED"):
            await self._releases.remove(service_id, grace_secs)

    async def _context(self, deployment: Deployment, mounts: Mounts) -> body.ContainerContext:
        spec = deployment.spec
        network = await self._network(spec.project_name)
        image = await self._images.inspect(self._pins.of(deployment))
        if image is None:
            raise StepFailed("IMAGE_NOT_FOUND", f"cannot create a replica: image {spec.image} is gone; deploy again")
        dns, with_aliases = await self._naming.of(deployment, network)
        return body.ContainerContext(
            owner=self._owner,
            image=self._pins.of(deployment),
            stop_signal=image.stop_signal or None,
            network=network.name,
            otlp_endpoint=f"http://{network.gateway}:{self._otlp_http_port}",
            logging_driver=await self._driver(),
            route_labels=self._route_labels(spec),
            dns=dns,
            with_aliases=with_aliases,
            mounts=mounts,
        )

    async def start(self, container_id: ContainerId) -> None:
        with self._touching(container_id), translated("START_FAILED", container_id):
            details = await self._containers.inspect(container_id)
            if details.restart_policy != "always":
                await self._containers.update(container_id, {"RestartPolicy": {"Name": "always"}})
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
            await self._containers.update(container_id, {"RestartPolicy": {"Name": "no"}})
        except EngineError as refused:
            if isinstance(refused, NotFound):
                raise
            # The engine's disk is probably full; the engine can still stop the container.
            log.warning("cannot set the restart policy", extra={"container_id": container_id, "reason": str(refused)})

    async def restart(self, container_id: ContainerId, grace_secs: float) -> None:
        self._exits.expected(container_id, time.time_ns())
        with self._touching(container_id), translated("RESTART_FAILED", container_id):
            await self._containers.update(container_id, {"RestartPolicy": {"Name": "always"}})
            await self._containers.restart(container_id, grace_secs)

    async def remove(self, container_id: ContainerId) -> None:
        self._exits.expected(container_id, time.time_ns())
        with self._touching(container_id), translated("REMOVE_FAILED", container_id):
            await remove_replica(self._containers, container_id)
        self._figures.forget(container_id)

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

    async def figures(self, container_id: ContainerId) -> Figures | None:
        with translated("METRICS_FAILED", container_id):
            details = await self._containers.inspect(container_id)
            before = await self._containers.stats(container_id)
            await asyncio.sleep(STATS_PAUSE_SECS)
            found = stats.container_figures(before, await self._containers.stats(container_id))
        return None if found is None else stats.figures_of(container_id, details.name, found)

    async def open_connections(self, container: Container, port: int) -> int | None:
        return await asyncio.to_thread(self._count_connections, container.pid, port)

    def quick_figures(self, replica: Replica) -> tuple[float, int] | None:
        if not isinstance(replica, Container) or not replica.is_running:
            return None
        return self._figures.read(replica.container_id, replica.pid)

    async def collect_garbage(
        self, keep: Mapping[ServiceId, frozenset[DeploymentId]], known: frozenset[ServiceId]
    ) -> int:
        with translated("GARBAGE_FAILED"):
            return await self._pins.collect(keep, known) + await self._releases.collect(known)

    async def _details(self, service_id: ServiceId | None, *, fresh: bool) -> list[records.ContainerDetails]:
        labels = self._ours if service_id is None else {**self._ours, body.SERVICE: service_id}
        with translated("ENGINE_ERROR"):
            listed = await self._containers.list(labels=labels)
            self._watch.keep_only({item.id for item in listed} if service_id is None else None)
            limit = asyncio.Semaphore(INSPECTS_AT_ONCE)

            async def one(container_id: str) -> records.ContainerDetails | None:
                known = None if fresh else self._watch.remembered(container_id)
                if known is not None:
                    return known
                async with limit:
                    token = self._watch.token()
                    try:
                        details = await self._containers.inspect(container_id)
                    except NotFound:
                        return None
                    self._watch.remember(details, token)
                    return details

            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one(item.id), name=f"inspect {item.id[:12]}") for item in listed]
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
        return [details for task in tasks if (details := task.result()) is not None]

    async def _driver(self) -> str:
        if self._logging_driver is None:
            self._logging_driver = (await self._system.info()).logging_driver
        return self._logging_driver
