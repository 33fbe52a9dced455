"""The agent's inside on a fake engine: journal, deployer, router, two peers. It can be stopped, killed, started."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syntra.agent.alerts.ledger import AlertLedger
from syntra.agent.api.proxy_requests import ProxyControls
from syntra.agent.api.queries import Identity, Queries
from syntra.agent.api.router import Router, TelemetryTails
from syntra.agent.api.service_views import ServiceViews
from syntra.agent.changes import Changes
from syntra.agent.figures.sampler import Sampler
from syntra.agent.health.check_override import HealthCheckOverride
from syntra.agent.health.gate import HealthGate
from syntra.agent.health.watch import HealthWatch
from syntra.agent.journal.journal import Journal
from syntra.agent.journal.rows import ServiceRow
from syntra.agent.messages import CONTROL_PLANE, LOCAL, PeerGone, Reports, envelope
from syntra.agent.operations.canary import CanaryTools
from syntra.agent.operations.deployer import Deployer
from syntra.agent.operations.execution import Dependencies
from syntra.agent.operations.service_queues import ServiceQueues
from syntra.agent.traffic.port import NoTraffic, Traffic
from syntra.model.fields import Json
from syntra.model.ids import RequestId, ServiceId
from syntra.runtime.containers.runtime import ContainerRuntime
from syntra.runtime.runtime import Runtime
from syntra.utils.host_reading import HostReader
from syntra.utils.redact import Redactor
from tests.agent.fake_engine import FakeEngine, Hold
from tests.agent.journal.opened import after_a_kill, opened
from tests.agent.samples import deploy_payload

TERMINAL = ("running", "failed", "rolled_back")
Message = tuple[str, dict[str, Any]]


@dataclass(eq=False)
class ControlPeer:
    """The control plane: answers are durable, streams are not."""

    journal: Journal
    origin: str = CONTROL_PLANE
    share: str = CONTROL_PLANE
    streamed: list[Message] = field(default_factory=list)
    gone: bool = False

    async def respond(self, payload: Mapping[str, Json]) -> None:
        await self.journal.outbox.add(envelope("command_response", payload))

    async def stream(self, kind: str, payload: Mapping[str, Json]) -> None:
        if self.gone:
            raise PeerGone("the connection is lost")
        self.streamed.append((kind, dict(payload)))


@dataclass(eq=False)
class LocalPeer:
    """A client of the local socket: hears what is told of its requests."""

    reports: Reports
    origin: str = LOCAL
    share: str = "uid 0"
    heard: list[Message] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def listen(self, request_id: str) -> None:
        self.reports.listen(RequestId(request_id), self._hear)

    async def respond(self, payload: Mapping[str, Json]) -> None:
        self._hear("command_response", payload)

    async def stream(self, kind: str, payload: Mapping[str, Json]) -> None:
        self._hear(kind, payload)

    def _hear(self, kind: str, payload: Mapping[str, Json]) -> None:
        self.heard.append((kind, dict(payload)))
        self.news.set()

    def responses(self) -> list[dict[str, Any]]:
        return [payload for kind, payload in self.heard if kind == "command_response"]


class Agent:
    """A running agent without sockets."""

    def __init__(
        self,
        directory: Path,
        journal: Journal,
        engine: FakeEngine,
        group: asyncio.TaskGroup,
        *,
        proxy: ProxyControls | None = None,
        traffic: Traffic | None = None,
        canary: CanaryTools | None = None,
        runtime: Runtime | None = None,
        telemetry: TelemetryTails | None = None,
    ) -> None:
        """`runtime` is another than the engine's."""
        self.directory = directory
        self.journal = journal
        self.engine = engine
        self.reports = Reports("srv_1")
        self.redactor = Redactor()
        clock = asyncio.get_running_loop().time
        self.changes = Changes()
        self.gate = HealthGate(engine, min_healthy_secs=1.5, clock=clock)
        self.traffic = traffic or NoTraffic()
        self.runtime: Runtime = runtime or ContainerRuntime(engine, self.traffic, self.gate)
        self.ledger = AlertLedger(journal, self.reports, clock)
        queues = ServiceQueues(group, lambda job: self.deployer.carry_out(job), on_idle=self.changes.announce)
        dependencies = Dependencies(
            runtime=self.runtime, journal=journal, changes=self.changes, canary=canary or CanaryTools()
        )
        self.deployer = Deployer(dependencies, queues, self.reports, self.ledger, redactor=self.redactor)
        # Never run here: its probes are for real peers and real time.
        self.watch = HealthWatch(journal, engine, self.changes, min_healthy_secs=1.5)
        prober = self.gate if runtime is None else None
        self.sampler = Sampler(self.runtime, HostReader(), clock=clock)
        self.views = ServiceViews(journal, self.runtime, self.watch, clock, prober=prober)
        self.queries = Queries(
            identity=Identity(agent_id="agt_1", server_id="srv_1", data_dir=directory, started_at=0.0),
            journal=journal,
            runtime=self.runtime,
            views=self.views,
            sampler=self.sampler,
            control_plane=lambda: {"state": "alone"},
            alerts=self.ledger.shown,
            warnings=lambda: ["a warning"],
            names=self.deployer.names,
        )
        self.router = Router(
            deployer=self.deployer,
            journal=journal,
            runtime=self.runtime,
            changes=self.changes,
            queries=self.queries,
            check_override=HealthCheckOverride(journal, self.changes),
            reports=self.reports,
            group=group,
            proxy=proxy,
            telemetry=telemetry,
        )
        self.events = group.create_task(self.runtime.watch(self.changes.announce), name="engine events")
        self.control = ControlPeer(journal)
        self.local = LocalPeer(self.reports)

    async def send(self, kind: str, request_id: str, **payload: Json) -> None:
        """From the control plane."""
        await self.router.handle(kind, f"envelope-{request_id}", {"request_id": request_id, **payload}, self.control)

    async def ask(self, kind: str, request_id: str, **payload: Json) -> None:
        """From the local socket."""
        self.local.listen(request_id)
        await self.router.handle(kind, f"envelope-{request_id}", {"request_id": request_id, **payload}, self.local)

    async def carry_out(self, kind: str, request_id: str, **payload: Json) -> None:
        """Send, and return when nothing of the service is under way."""
        await self.send(kind, request_id, **{"service_id": "web", **payload})
        await self.done(str(payload.get("service_id", "web")))

    async def deploy(self, request_id: str, deployment_id: str, service_id: str = "web", **changes: Any) -> None:
        await self.send("deploy", request_id, **deploy_payload(deployment_id, service_id, **changes))

    async def deploy_to_end(
        self, request_id: str, deployment_id: str, service_id: str = "web", **changes: Any
    ) -> dict[str, Any]:
        """Deploy, and return the one terminal report."""
        await self.deploy(request_id, deployment_id, service_id, **changes)
        await self.done(service_id)
        return await self.end_of(request_id)

    async def reach(self, method: str, command: Awaitable[object]) -> Hold:
        """Hold a method of the engine, and return when the work of `command` has come to it."""
        hold = self.engine.hold(method)
        await command
        await hold.arrived.wait()
        return hold

    @asynccontextmanager
    async def held_at(self, method: str, command: Awaitable[object]) -> AsyncIterator[None]:
        """The block runs while the work of `command` is held at a method of the engine; then all work is finished."""
        hold = await self.reach(method, command)
        yield
        hold.release.set()
        await self.done()

    async def deployed(self, deployment_id: str, service_id: str = "web", **changes: Any) -> None:
        """Deploy and see that it succeeds."""
        request_id = f"setup-{service_id}-{deployment_id}"
        assert (await self.deploy_to_end(request_id, deployment_id, service_id, **changes))["status"] == "running"

    async def killed_or_done(self) -> bool:
        """Return when the engine has called the end, or nothing is under way any more; whether it was the former."""
        while not self.engine.killed.is_set() and self.deployer.queues.is_busy(ServiceId("web")):
            await asyncio.sleep(0.05)
        return self.engine.killed.is_set()

    async def done(self, *services: str) -> None:
        """Return when nothing of the services (`web` when none is named) is under way."""
        while any(self.deployer.queues.is_busy(ServiceId(service)) for service in services or ("web",)):
            await asyncio.sleep(0.05)

    async def said(self, request_id: str) -> list[Message]:
        """Everything that was ever said to the control plane about a request, in order."""
        items = await self.journal.outbox.pending(10_000)
        messages = [json.loads(item.text) for item in items]
        return [(m["type"], m["payload"]) for m in messages if _request_of(m["payload"]) == request_id]

    async def responses(self, request_id: str) -> list[dict[str, Any]]:
        return [payload for kind, payload in await self.said(request_id) if kind == "command_response"]

    async def answer(self, request_id: str) -> dict[str, Any]:
        """The one response."""
        [answer] = await self.responses(request_id)
        return answer

    async def service(self) -> ServiceRow:
        """What the journal tells of `web`."""
        row = await self.journal.service(ServiceId("web"))
        assert row is not None
        return row

    async def ends(self, request_id: str) -> list[dict[str, Any]]:
        """The terminal reports of a deploy, rollback or scale."""
        statuses = [payload for kind, payload in await self.said(request_id) if kind == "deploy_status"]
        return [payload for payload in statuses if payload["status"] in TERMINAL]

    async def end_of(self, request_id: str) -> dict[str, Any]:
        """The one terminal report, which comes after all other statuses."""
        statuses = [payload for kind, payload in await self.said(request_id) if kind == "deploy_status"]
        [end] = [payload for payload in statuses if payload["status"] in TERMINAL]
        assert statuses[-1] is end
        return end

    async def failed(self, request_id: str, status: str, code: str, *words: str) -> None:
        """See that the one terminal report tells this failure, in a message with these words."""
        end = await self.end_of(request_id)
        assert (end["status"], end["error"]["code"]) == (status, code), end
        assert all(word in end["message"] for word in words), end["message"]

    async def outcome(self, request_id: str) -> str:
        """`running`, or the error code of the one terminal report."""
        end = await self.end_of(request_id)
        return str(end["error"]["code"] if "error" in end else end["status"])


def _request_of(payload: Mapping[str, Any]) -> object:
    return payload.get("request_id") or payload.get("metadata", {}).get("request_id")


@asynccontextmanager
async def running(
    directory: Path, adapter: FakeEngine, *, drain_secs: float = 1.0, **parts: Any
) -> AsyncIterator[Agent]:
    """Start an agent over a journal, resume what it finds, and stop it in order at the end. `parts` are the agent's."""
    directory.mkdir(exist_ok=True)
    async with opened(directory) as journal, asyncio.TaskGroup() as group:
        agent = Agent(directory, journal.journal, adapter, group, **parts)
        await agent.ledger.load()
        await agent.deployer.resume()
        yield agent
        await agent.deployer.queues.drain(drain_secs)
        agent.router.cancel_requests()
        agent.events.cancel()


@dataclass
class Machine:
    """A data directory and an engine, which outlive the agents on them. No agent finds a hold of an earlier one."""

    directory: Path
    engine: FakeEngine = field(default_factory=FakeEngine)

    def running(self, **parts: Any) -> AbstractAsyncContextManager[Agent]:
        self.engine.holds.clear()
        return running(self.directory, self.engine, **parts)

    def until_killed(self, **parts: Any) -> AbstractAsyncContextManager[Agent]:
        return until_killed(self.directory, self.engine, **parts)


class Killed(Exception):
    """Ends `until_killed`; nobody else sees it."""


@asynccontextmanager
async def until_killed(directory: Path, adapter: FakeEngine, **parts: Any) -> AsyncIterator[Agent]:
    """An agent that is cut off at the end of the block; `directory` becomes what a kill at that moment leaves."""
    directory.mkdir(exist_ok=True)
    left = directory
    try:
        async with opened(directory) as journal, asyncio.TaskGroup() as group:
            agent = Agent(directory, journal.journal, adapter, group, **parts)
            await agent.ledger.load()
            await agent.deployer.resume()
            yield agent
            left = after_a_kill(directory)
            raise Killed
    except* Killed:
        shutil.rmtree(directory)
        left.rename(directory)
