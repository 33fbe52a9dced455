"""A container runtime in memory, for faults and time. `tests.runtime.containers.engine_contract` keeps it honest.

Programs are told by the environment, as in `tests.engine`: FAIL=exit, crash, unhealthy, slow, deaf. Time is the loop's,
so a virtual loop makes back-offs and deadlines free.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import re
import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from syntra.model.command import ExecStreams
from syntra.model.container import DEFAULT_STOP_GRACE_SECS, Container, ContainerState
from syntra.model.figures import ContainerReading
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.image import ResolvedImage
from syntra.model.network import ProjectNetwork
from syntra.model.spec import Deployment, ImageVolumes, RegistryAuth
from syntra.model.spec_payload import fingerprint
from syntra.model.status import ContainerExit, ContainerExits, ExecResult, Health, LogLine, Replica
from syntra.model.volume import Mount, Mounts, Volume, VolumeUser
from syntra.runtime.containers.engine import PullProgress
from syntra.runtime.containers.volumes import as_written, is_anonymous
from syntra.runtime.errors import ExecTimedOut, RuntimeUnavailable, StepFailed
from syntra.runtime.runtime import LogRange, RuntimeInfo, Surveyed
from syntra.runtime.tar_copies import TarCopies
from syntra.utils.timestamps import format_ns
from tests.agent.fake_session import FakeSession
from tests.agent.tiny_shell import Ended, run

EXIT_CODES = {"exit": 3, "crash": 4}
RUN_SECS = {"exit": 0.0, "crash": 1.0}


class Hold:
    """Stops the next callers of a method: `arrived` says that one waits, `release` lets all go on."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()


@dataclass
class FakeContainer:
    """One container. `ends_at` is when the present run or the present back-off ends, on the loop's clock."""

    container_id: ContainerId
    name: str
    deployment: Deployment
    index: int
    created_ns: int
    state: ContainerState = ContainerState.CREATED
    started_ns: int | None = None
    began: float = 0.0
    ends_at: float | None = None
    restart_count: int = 0
    exit_code: int | None = 0
    always: bool = True
    mounts: tuple[Mount, ...] = ()
    lines: list[LogLine] = field(default_factory=list)

    @property
    def env(self) -> Mapping[str, str]:
        return self.deployment.spec.env

    @property
    def is_up(self) -> bool:
        return self.state in (ContainerState.RUNNING, ContainerState.RESTARTING)

    def say(self, message: str, stream: str = "stdout") -> None:
        self.lines.append(LogLine(timestamp=format_ns(time.time_ns()), stream=stream, message=message))


class FakeEngine:
    """Implements `runtime.containers.engine.ContainerEngine`.

    Faults: `away` (nothing answers), `away_from` (methods that find nobody), `away_at` (numbers of calls, from 1, that
    find nobody), `lost_at` (calls that have
    their effect and lose their answer), `refusals` (by method, used up in order), `bugs` and `holds` (by method),
    `kill_at` (the call at which the agent is killed, before or after its effect: it never returns, `killed` is set).
    """

    name = "fake"

    def __init__(self, *, registry: Sequence[str] = ("shop/web:1", "shop/web:2", "shop/web:3")) -> None:
        self.containers: dict[ContainerId, FakeContainer] = {}
        self.releases: dict[ContainerId, FakeContainer] = {}
        self.copy = TarCopies(self).copy
        # What failed deployments have left.
        self.kept: dict[ContainerId, FakeContainer] = {}
        self.released: list[DeploymentId] = []
        # Reference to whether it came from a registry.
        self.images: dict[str, bool] = {}
        self.registry = set(registry)
        self.registry_up = True
        self.pull_secs = 0.0
        self.password: str | None = None
        self.passwords_seen: list[str] = []
        self.pins: set[tuple[ServiceId, DeploymentId]] = set()
        self.networks_made: set[str] = set()
        # Volumes to the project in their labels; those in `unmanaged` were made by another hand.
        self.volumes: dict[str, str] = {}
        self.unmanaged: set[str] = set()
        # By image, the paths that it declares as volumes.
        self.declared: dict[str, frozenset[str]] = {}
        self.calls: list[str] = []
        self.sessions: list[FakeSession] = []
        self.away = False
        self.away_at: set[int] = set()
        self.away_from: set[str] = set()
        self.lost_at: set[int] = set()
        self.kill_at: int | None = None
        self.kill_after_effect = False
        self.killed = asyncio.Event()
        self.refusals: dict[str, list[StepFailed]] = {}
        self.bugs: dict[str, Exception] = {}
        self.holds: dict[str, Hold] = {}
        self.most_up = 0
        self.least_up: dict[ServiceId, int] = {}
        self._ids = itertools.count(1)
        self._changed = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._ended: list[ContainerExit] = []
        # Whether the engine tells of every end; the first question finds that it has not.
        self.tells_ends = False

    # What tests look at

    def of(self, service_id: str) -> list[FakeContainer]:
        """The containers of a service, in the order they were made."""
        self._catch_up()
        return [c for c in self.containers.values() if c.deployment.spec.service_id == service_id]

    def up(self, service_id: str) -> list[str]:
        """The deployment ids of what is up, in the order it was made."""
        return [c.deployment.deployment_id for c in self.of(service_id) if c.is_up]

    def ended_alone(
        self, container: FakeContainer, exit_code: int, *, signal: str = "", oom_killed: bool = False
    ) -> None:
        """A container ends without our asking; with `signal` another hand stopped it, and it stays down."""
        container.exit_code = exit_code
        if signal:
            container.state, container.ends_at = ContainerState.EXITED, None
        self._ended.append(
            ContainerExit(
                container_id=container.container_id,
                service_id=container.deployment.spec.service_id,
                deployment_id=container.deployment.deployment_id,
                index=container.index,
                exit_code=exit_code,
                oom_killed=oom_killed,
                signal=signal,
            )
        )
        self._announce()

    def forget_the_past(self) -> None:
        """Count calls and the least that was up from here on."""
        self.calls.clear()
        self.least_up.clear()

    def clone(self) -> FakeEngine:
        """Another engine in the same state, without the faults."""
        twin = FakeEngine(registry=sorted(self.registry))
        twin.containers = {i: replace(c, lines=list(c.lines)) for i, c in self.containers.items()}
        twin.releases, twin.released = dict(self.releases), list(self.released)
        twin.kept = dict(self.kept)
        twin.images, twin.pins = dict(self.images), set(self.pins)
        twin.networks_made, twin.volumes = set(self.networks_made), dict(self.volumes)
        twin.declared, twin.unmanaged = dict(self.declared), set(self.unmanaged)
        twin._ids = itertools.count(1 + max((int(i, 16) for i in self.containers), default=0))
        return twin

    def tell(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change from now on, as `watch` does."""
        self._listeners.append(listener)

    def hold(self, method: str) -> Hold:
        """Hold the callers of a method from now on."""
        self.holds[method] = Hold()
        return self.holds[method]

    def refuse(self, method: str, code: str, times: int = 1) -> None:
        """The next calls of a method are refused."""
        sentence = f"cannot {method}: the engine says no"
        self.refusals.setdefault(method, []).extend(StepFailed(code, sentence) for _ in range(times))

    # The interface

    async def info(self) -> RuntimeInfo:
        async with self._asked("info"):
            return RuntimeInfo(name="fake", version="1.2.3", api_version="1.41", root_dir="/")

    async def ping(self) -> None:
        async with self._asked("ping"):
            pass

    async def observe(self, service_id: ServiceId | None = None) -> list[Container]:
        async with self._asked("observe"):
            return [replica(c) for c in self.containers.values() if service_id in (None, c.deployment.spec.service_id)]

    async def survey(self) -> list[Surveyed]:
        async with self._asked("survey"):
            return [Surveyed(replica=replica(c), deployment=c.deployment) for c in self.containers.values()]

    async def failed(self, service_id: ServiceId | None = None) -> list[Surveyed]:
        async with self._asked("failed"):
            return [
                Surveyed(replica=replica(c), deployment=c.deployment)
                for c in self.kept.values()
                if service_id in (None, c.deployment.spec.service_id)
            ]

    async def inspect(self, container_id: ContainerId) -> Container | None:
        async with self._asked("inspect"):
            found = self.containers.get(container_id)
            return replica(found) if found else None

    async def has_image(self, deployment: Deployment) -> bool:
        async with self._asked("has_image"):
            return _pin(deployment) in self.pins

    async def resolved_image(self, deployment: Deployment) -> ResolvedImage | None:
        async with self._asked("resolved_image"):
            return ResolvedImage(image_id=str(deployment.spec.image)) if _pin(deployment) in self.pins else None

    async def obtain_image(
        self,
        deployment: Deployment,
        auth: RegistryAuth | None,
        progress: PullProgress,
        *,
        resolve: bool = True,
        deadline: float | None = None,
    ) -> str:
        async with self._asked("obtain_image"):
            reference = deployment.spec.image.pullable
            note = "" if deployment.spec.image.digest and reference in self.images else None
            if note is None:
                note = await self._pull(deployment, auth, progress)
            self.pins.add(_pin(deployment))
            return note

    async def _pull(self, deployment: Deployment, auth: RegistryAuth | None, progress: PullProgress) -> str:
        image = deployment.spec.image
        reference = image.pullable
        if auth is not None:
            self.passwords_seen.append(auth.password)
        for percent in range(0, 100, 10):
            progress(percent, f"{percent} of 100 MB")
            await asyncio.sleep(self.pull_secs / 10)
        denied = self.password is not None and (auth is None or auth.password != self.password)
        if not self.registry_up or reference not in self.registry or denied:
            stands_in = reference in self.images and (
                not self.images[reference] or (not self.registry_up and image.may_serve_from_cache)
            )
            if stands_in:
                return f"the registry did not provide {image}; the local image is used"
            raise StepFailed("PULL_FAILED", f"cannot pull {image}: the registry says no; check its name")
        progress(100, "100 of 100 MB")
        self.images[reference] = True
        return ""

    async def ensure_network(self, project: str) -> None:
        async with self._asked("ensure_network"):
            self.networks_made.add(project)

    async def release_network(self, project: str) -> None:
        async with self._asked("release_network"):
            if all(c.deployment.spec.project_name != project for c in self.containers.values()):
                self.networks_made.discard(project)

    async def networks(self, projects: frozenset[str]) -> list[ProjectNetwork]:
        async with self._asked("networks"):
            return [self.network(project) for project in sorted(projects & self.networks_made)]

    def network(self, project: str) -> ProjectNetwork:
        """What is seen of a project's network: on loopback, so that its gateway can be bound."""
        number = zlib.crc32(project.encode()) % 250 + 2
        return ProjectNetwork(
            project=project,
            name=f"syntra-{project}",
            subnets=(ipaddress.ip_network(f"127.77.{number}.0/24"),),
            gateways=(ipaddress.ip_address(f"127.77.{number}.1"),),
            bridge=f"br-{number:012x}",
        )

    async def image_volumes(self, deployment: Deployment) -> frozenset[str] | None:
        async with self._asked("image_volumes"):
            reference = deployment.spec.image.pullable
            if _pin(deployment) in self.pins or reference in self.images:
                return self.declared.get(reference, frozenset())
            return None

    async def find_volumes(self, names: frozenset[str]) -> list[Volume]:
        async with self._asked("find_volumes"):
            return [
                Volume(
                    name=name,
                    is_managed=name not in self.unmanaged,
                    project=self.volumes[name],
                    users=tuple(_uses(name, c) for c in self.containers.values() if name in _sources(c)),
                )
                for name in sorted(names & self.volumes.keys())
            ]

    async def ensure_volume(self, name: str, *, project: str = "", service_id: ServiceId | None = None) -> None:
        async with self._asked("ensure_volume"):
            owner = self.volumes.setdefault(name, project)
            if project and owner not in ("", project):
                raise StepFailed("VOLUME_FAILED", f"cannot use volume {name}: it was created for project {owner}")

    async def create(self, deployment: Deployment, index: int, mounts: Mounts = None) -> tuple[ContainerId, str]:
        async with self._asked("create"):
            if _pin(deployment) not in self.pins:
                image = deployment.spec.image
                raise StepFailed("IMAGE_NOT_FOUND", f"cannot create a replica: image {image} is gone; deploy again")
            self.networks_made.add(deployment.spec.project_name)
            number = next(self._ids)
            name = f"syn-{deployment.spec.service_id}-{deployment.deployment_id[:8]}"
            name += "" if index == 1 else f"-{index}"
            if any(c.name == name for c in self.containers.values()):
                name += f"-{number:04x}"
            container_id = ContainerId(f"{number:064x}")
            self.containers[container_id] = FakeContainer(
                container_id=container_id,
                name=name,
                deployment=deployment,
                index=index,
                created_ns=time.time_ns() + number,
                mounts=self._mounts(deployment, mounts),
            )
            self._announce()
            return container_id, name

    def _mounts(self, deployment: Deployment, mounts: Mounts) -> tuple[Mount, ...]:
        """What the engine mounts: missing volumes are created, and one for each path that the image declares."""
        made = [*(as_written(deployment.spec).mounts(1) if mounts is None else mounts)]
        declared = self.declared.get(deployment.spec.image.pullable, frozenset())
        for path in sorted(declared - {mount.target for mount in made}):
            made.append(Mount(source=f"{next(self._ids):064x}", target=path))
        for mount in made:
            if not mount.is_bind and mount.source not in self.volumes:
                self.volumes[mount.source] = ""
                self.unmanaged.add(mount.source)
        return tuple(made)

    async def obstacles(self, deployment: Deployment) -> list[str]:
        return []

    async def run_release(self, deployment: Deployment, limit_secs: float, mounts: Mounts = None) -> None:
        """A shell's script: `sleep N` makes it take so many seconds instead of one, `exit N` is its code."""
        async with self._asked("run_release"):
            mine = [c for c in self.releases.values() if _pin(c.deployment) == _pin(deployment)]
            if not mine:
                number = next(self._ids)
                made = FakeContainer(
                    container_id=ContainerId(f"{number:064x}"),
                    name=f"release-{deployment.deployment_id}",
                    deployment=deployment,
                    index=1,
                    created_ns=time.time_ns(),
                )
                made.say("releasing")
                script = deployment.spec.release_command[-1]
                exits, sleeps = re.search(r"exit (\d+)", script), re.search(r"sleep (\d+)", script)
                made.exit_code = int(exits[1]) if exits else 0
                made.ends_at = _now() + (float(sleeps[1]) if sleeps else 1.0)
                self.releases[made.container_id] = made
                self.released.append(deployment.deployment_id)
                mine = [made]
        [container] = mine
        left = max((container.ends_at or 0.0) - _now(), 0.0)
        await asyncio.sleep(min(left, limit_secs))
        if left > limit_secs or container.exit_code:
            sentence = "the release command failed"
            raise StepFailed("RELEASE_FAILED", sentence, container_id=container.container_id)

    async def remove_releases(self, service_id: ServiceId, grace_secs: float) -> None:
        async with self._asked("remove_releases"):
            gone = [i for i, c in self.releases.items() if c.deployment.spec.service_id == service_id]
            for container_id in gone:
                del self.releases[container_id]

    async def start(self, container_id: ContainerId) -> None:
        async with self._asked("start"):
            container = self._known(container_id)
            container.always = True
            if not container.is_up:
                self._check_port(container)
                container.restart_count = 0
                self._begin(container)

    async def stop(self, container_id: ContainerId, grace_secs: float) -> None:
        async with self._asked("stop"):
            container = self.containers.get(container_id)
            if container is None:
                return
            container.always = False
            if not container.is_up:
                return
            await self._end(container, grace_secs)

    async def restart(self, container_id: ContainerId, grace_secs: float) -> None:
        async with self._asked("restart"):
            container = self._known(container_id)
            container.always = True
            if container.is_up:
                await self._end(container, grace_secs)
            container.restart_count = 0
            self._begin(container)

    async def keep_failed(self, container_id: ContainerId) -> None:
        async with self._asked("keep_failed"):
            found = self.containers.pop(container_id, None) or self.releases.pop(container_id, None)
            if found is None:
                return
            found.always, found.ends_at = False, None
            found.state = ContainerState.CREATED if found.started_ns is None else ContainerState.EXITED
            found.name = f"syn-{found.deployment.spec.service_id}-{found.deployment.deployment_id[:8]}-failed"
            self.kept[container_id] = found
            self._announce()

    async def remove(self, container_id: ContainerId) -> None:
        async with self._asked("remove"):
            gone = self.containers.pop(container_id, None) or self.kept.pop(container_id, None)
            if gone is not None and (
                gone.state is ContainerState.CREATED or gone.deployment.spec.image_volumes is ImageVolumes.DISCARD
            ):
                for source in filter(is_anonymous, _sources(gone)):
                    self.volumes.pop(source, None)
            self._announce()

    async def tail(self, container_id: ContainerId, lines: int) -> list[LogLine]:
        async with self._asked("tail"):
            left = self.releases.get(container_id) or self.kept.get(container_id)
            return (left or self._known(container_id)).lines[-lines:]

    @asynccontextmanager
    async def logs(self, container_id: ContainerId, wanted: LogRange) -> AsyncIterator[AsyncIterator[LogLine]]:
        async with self._asked("logs"):
            left = self.kept.get(container_id)
            if left is None and container_id not in self.containers and wanted.follow:
                yield _nothing()
                return
            container = left or self._known(container_id)
        yield self._lines(container, wanted)

    async def _lines(self, container: FakeContainer, wanted: LogRange) -> AsyncIterator[LogLine]:
        held = [line for line in container.lines if wanted.since is None or line.timestamp >= wanted.since]
        if wanted.follow and wanted.since is not None:
            held = [line for line in held if line.timestamp > wanted.since]
        read = len(container.lines)
        for line in held[max(0, len(held) - wanted.tail) if wanted.tail >= 0 else 0 :] if wanted.tail else []:
            yield line
        while wanted.follow:
            self._catch_up()
            while read < len(container.lines):
                yield container.lines[read]
                read += 1
            if container.container_id not in self.containers and container.container_id not in self.kept:
                return
            await self._changed.wait()

    async def execute(
        self,
        container_id: ContainerId,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        working_dir: str | None,
        deadline_secs: float,
    ) -> ExecResult:
        async with self._asked("execute"):
            container = self._known(container_id)
            if container.state is not ContainerState.RUNNING:
                raise StepFailed("CONTAINER_NOT_RUNNING", f"cannot exec in {container.name}: it does not run")
            if argv[0] == "wget":
                return ExecResult(exit_code=0 if self._is_healthy(container) else 1, stdout=b"", stderr=b"")
            try:
                async with asyncio.timeout(deadline_secs):
                    ended: Ended = await run(argv, {**container.env, **env}, working_dir or "/")
            except TimeoutError:
                late = f"cannot finish the command: over {deadline_secs:g} s"
                raise ExecTimedOut(
                    late, container_id=container_id, stdout=b"before\n", stderr=b"", truncated=False
                ) from None
            return ExecResult(
                exit_code=ended.exit_code,
                stdout=ended.stdout.encode("latin-1"),
                stderr=ended.stderr.encode("latin-1"),
                truncated=ended.truncated,
            )

    @asynccontextmanager
    async def attach(
        self,
        container_id: ContainerId,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        working_dir: str | None,
        streams: ExecStreams,
    ) -> AsyncIterator[FakeSession]:
        async with self._asked("attach"):
            container = self._known(container_id)
            if container.state is not ContainerState.RUNNING:
                raise StepFailed("CONTAINER_NOT_RUNNING", f"cannot exec in {container.name}: it does not run")
        session = FakeSession(argv)
        self.sessions.append(session)
        try:
            yield session
        finally:
            session.has_ended = True

    async def readings(self, replicas: Sequence[Replica]) -> Mapping[ContainerId, ContainerReading]:
        """Each has used 1.25 % of a core since the loop's clock was 0. An engine that is away gives none."""
        if self.away:
            return {}
        async with self._asked("readings"):
            now_ns = int(asyncio.get_running_loop().time() * 1e9)
            return {
                one.container_id: ContainerReading(
                    at_ns=now_ns,
                    cpu_ns=now_ns // 80,
                    memory_bytes=4 * 1024 * 1024,
                    inactive_file_bytes=1024 * 1024,
                    memory_limit_bytes=known.deployment.spec.memory_bytes,
                    disks={"sda": (3, 4)},
                    networks={"eth0": (1, 2)},
                    pids=5,
                )
                for one in replicas
                if (known := self.containers.get(one.container_id)) and known.state is ContainerState.RUNNING
            }

    async def open_connections(self, container: Container, port: int) -> int | None:
        return None

    async def collect_garbage(
        self, keep: Mapping[ServiceId, frozenset[DeploymentId]], known: frozenset[ServiceId]
    ) -> int:
        async with self._asked("collect_garbage"):
            kept = {_pin(container.deployment) for container in self.kept.values()}
            stale = {(s, d) for s, d in self.pins - kept if s in known and d not in keep.get(s, frozenset())}
            self.pins -= stale
            return len(stale)

    def drain_exits(self) -> ContainerExits:
        taken = ContainerExits(ended=tuple(self._ended), complete=self.tells_ends)
        self._ended.clear()
        self.tells_ends = True
        return taken

    async def watch(self, on_change: Callable[[], None]) -> None:
        self._listeners.append(on_change)
        try:
            await asyncio.Event().wait()
        finally:
            self._listeners.remove(on_change)

    # How containers live

    @asynccontextmanager
    async def _asked(self, method: str) -> AsyncIterator[None]:
        self.calls.append(method)
        number = len(self.calls)
        await asyncio.sleep(0)
        if number == self.kill_at and not self.kill_after_effect:
            await self._kill()
        if (hold := self.holds.get(method)) is not None:
            hold.arrived.set()
            await hold.release.wait()
        if self.away or number in self.away_at or method in self.away_from:
            raise RuntimeUnavailable(f"cannot {method}: the engine does not answer; check that it runs")
        if method in self.bugs:
            raise self.bugs[method]
        if self.refusals.get(method):
            raise self.refusals[method].pop(0)
        self._catch_up()
        yield
        if number == self.kill_at:
            await self._kill()
        if number in self.lost_at:
            raise RuntimeUnavailable(f"cannot {method}: the connection broke; check that the engine runs")

    async def _kill(self) -> None:
        self.killed.set()
        await asyncio.Event().wait()

    def _known(self, container_id: ContainerId) -> FakeContainer:
        found = self.containers.get(container_id)
        if found is None:
            raise StepFailed(
                "CONTAINER_NOT_FOUND", f"no such container: {container_id[:12]}", container_id=container_id
            )
        return found

    def _check_port(self, container: FakeContainer) -> None:
        port = container.deployment.spec.host_port
        if port is not None and any(c.is_up and c.deployment.spec.host_port == port for c in self.containers.values()):
            raise StepFailed(
                "START_FAILED", f"host port {port} is already allocated", container_id=container.container_id
            )

    def _begin(self, container: FakeContainer) -> None:
        container.state, container.exit_code = ContainerState.RUNNING, None
        container.started_ns = max(time.time_ns(), (container.started_ns or 0) + 1)
        container.began = _now()
        container.say(f"starting {container.env.get('VERSION', '1')}")
        kind = container.env.get("FAIL", "")
        if kind == "exit":
            container.say("failing as told", "stderr")
        else:
            container.say(f"serving {container.env.get('VERSION', '1')} on 8080")
        container.ends_at = container.began + RUN_SECS[kind] if kind in RUN_SECS else None
        up = sum(1 for c in self.containers.values() if c.is_up)
        self.most_up = max(self.most_up, up)
        self._announce()

    async def _end(self, container: FakeContainer, grace_secs: float) -> None:
        deaf = container.env.get("FAIL") == "deaf"
        if container.state is ContainerState.RUNNING:
            if deaf:
                await asyncio.sleep(grace_secs)
            else:
                container.say(f"stopping {container.env.get('VERSION', '1')}")
            container.exit_code = 137 if deaf else 0
        container.state = ContainerState.EXITED
        container.ends_at = None
        service_id = container.deployment.spec.service_id
        left = sum(1 for c in self.containers.values() if c.is_up and c.deployment.spec.service_id == service_id)
        self.least_up[service_id] = min(left, self.least_up.get(service_id, left))
        self._announce()

    def _catch_up(self) -> None:
        """Let happen what time has brought: programs that end, back-offs that are over."""
        for container in self.containers.values():
            while container.ends_at is not None and container.ends_at <= _now():
                at = container.ends_at
                if container.state is ContainerState.RUNNING:
                    self.ended_alone(container, EXIT_CODES[container.env["FAIL"]])
                    # The engine's back-off: 100 ms, doubled with every restart, a minute at most.
                    pause = min(0.1 * 2**container.restart_count, 60.0)
                    container.state = ContainerState.RESTARTING if container.always else ContainerState.EXITED
                    container.ends_at = at + pause if container.always else None
                else:
                    container.restart_count += 1
                    self._begin(container)
                    container.began = at
                    container.ends_at = at + RUN_SECS[container.env["FAIL"]]
                self._announce()

    def _is_healthy(self, container: FakeContainer) -> bool:
        kind = container.env.get("FAIL", "")
        if kind == "slow":
            return _now() - container.began >= float(container.env.get("SLOW", "3"))
        return kind != "unhealthy"

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        for listener in self._listeners:
            listener()


def _image_health(container: FakeContainer) -> Health | None:
    """Of an image whose own check passes, or fails, so many seconds after the start: IMAGE_CHECK=healthy:3."""
    verdict, _, secs = container.env.get("IMAGE_CHECK", "").partition(":")
    if not verdict or container.deployment.spec.health is not None or container.started_ns is None:
        return None
    return Health(verdict) if _now() - container.began >= float(secs or 0) else Health.UNKNOWN


def replica(container: FakeContainer) -> Container:
    """What is seen of a container."""
    spec = container.deployment.spec
    return Container(
        container_id=container.container_id,
        name=container.name,
        service_id=spec.service_id,
        deployment_id=container.deployment.deployment_id,
        index=container.index,
        spec_hash=fingerprint(spec),
        state=container.state,
        created_ns=container.created_ns,
        started_ns=container.started_ns,
        restart_count=container.restart_count,
        exit_code=container.exit_code,
        pid=4711 if container.is_up else 0,
        addresses={f"syntra-{spec.project_name}": "127.0.0.1" if container.is_up else ""},
        host_ports=frozenset() if spec.host_port is None else frozenset({spec.host_port}),
        writable_mounts=frozenset(mount.source for mount in container.mounts if not mount.read_only),
        volumes={mount.target: mount.source for mount in container.mounts if not mount.is_bind},
        stop_grace_secs=DEFAULT_STOP_GRACE_SECS
        if spec.options.stop_grace_secs is None
        else spec.options.stop_grace_secs,
        image_health=_image_health(container),
        image_health_output=container.env.get("IMAGE_CHECK_SAYS", ""),
    )


def _sources(container: FakeContainer) -> set[str]:
    return {mount.source for mount in container.mounts if not mount.is_bind}


def _uses(name: str, container: FakeContainer) -> VolumeUser:
    spec = container.deployment.spec
    return VolumeUser(
        container_id=container.container_id,
        service_id=spec.service_id,
        service_name=spec.service_name,
        project=spec.project_name,
        is_writer=any(mount.source == name and not mount.read_only for mount in container.mounts),
    )


def _pin(deployment: Deployment) -> tuple[ServiceId, DeploymentId]:
    return deployment.spec.service_id, deployment.deployment_id


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _nothing() -> AsyncIterator[LogLine]:
    return
    yield
