"""The composition root: settings in, a running agent out."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from syntra import __version__
from syntra.agent.alerts.disks import DiskWatch
from syntra.agent.alerts.engine_check import EngineCheck
from syntra.agent.alerts.ledger import AlertLedger
from syntra.agent.alerts.watch import AlertWatch
from syntra.agent.api.control_link import ControlLink
from syntra.agent.api.local_socket import LocalSocket
from syntra.agent.api.queries import Identity, Queries
from syntra.agent.api.router import Router
from syntra.agent.api.service_views import ServiceViews
from syntra.agent.config.errors import ConfigurationError
from syntra.agent.config.identity import identify
from syntra.agent.config.load import Loaded, reload
from syntra.agent.config.settings import Settings, changed
from syntra.agent.discovery.name_service import NameService, name_service
from syntra.agent.health.check_override import HealthCheckOverride
from syntra.agent.health.gate import HealthGate
from syntra.agent.health.watch import HealthWatch
from syntra.agent.journal.database import Database
from syntra.agent.journal.journal import Journal
from syntra.agent.journal.outbox import Outbox
from syntra.agent.messages import Reports
from syntra.agent.operations.canary import CanaryTools
from syntra.agent.operations.deployer import Deployer
from syntra.agent.operations.step_runner import Tools
from syntra.agent.proxy.verbs import ProxyVerbs
from syntra.agent.proxy.wiring import route_labels, traffic_of
from syntra.agent.reconciler.garbage_collection import GarbageCollector
from syntra.agent.reconciler.rebuild import desired_from
from syntra.agent.reconciler.reconciler import Reconciler
from syntra.agent.traffic.port import NoTraffic
from syntra.agent.traffic.switch import TrafficSwitch
from syntra.model.errors import RequestError
from syntra.model.fields import Json
from syntra.model.ids import ContainerId
from syntra.model.network import ContainerDns
from syntra.networking.canary_requests import CanaryRequests
from syntra.runtime.detect import Evidence, RuntimeKind, detect
from syntra.runtime.docker.adapter import DockerAdapter
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.endpoint import DEFAULT_SOCKET, find_endpoint
from syntra.runtime.docker.proxy_containers import ProxyContainers
from syntra.runtime.errors import RuntimeUnavailable, StepFailed
from syntra.utils.errors import AgentError
from syntra.utils.file_lock import FileLock
from syntra.utils.redact import Redactor
from syntra.utils.sd_notify import Notifier
from syntra.utils.structured_log import LogHandle

log = logging.getLogger(__name__)

# How long a running operation may go on after SIGTERM before it is parked for the next start.
DRAIN_SECS = 10.0


class AgentApp:
    """One agent process. `run` returns when a signal ended it."""

    def __init__(self, loaded: Loaded, *, log_handle: LogHandle, redactor: Redactor) -> None:
        self._loaded = loaded
        self._settings: Settings = loaded.settings
        self._log_handle = log_handle
        self._redactor = redactor
        self._stop = asyncio.Event()
        self._warnings: dict[str, str] = {}
        self._notifier = Notifier.take()
        self._names: NameService | None = None

    async def run(self) -> None:
        """Start everything, wait for the end, stop everything in order. Raises AgentError when it cannot start."""
        settings = self._settings
        _require_docker(self._loaded)
        # Before anything is begun: until then a signal ends the process in the middle of whatever it does.
        self._handle_signals()
        _private_directory(settings.data_dir)
        async with AsyncExitStack() as stack:
            stack.enter_context(FileLock.acquire(settings.data_dir / "agent.lock"))
            names = identify(settings)
            identity = Identity(
                agent_id=names.agent_id, server_id=names.server_id, data_dir=settings.data_dir, started_at=time.time()
            )
            database = Database(settings.data_dir)
            await database.open()
            stack.push_async_callback(database.close)
            if database.was_rebuilt:
                self._warnings["journal"] = f"the journal was broken and is rebuilt from labels: {database.was_rebuilt}"
            journal = Journal(database, Outbox(database, is_used=settings.control_plane is not None))
            endpoint = find_endpoint(os.environ, settings.runtime.docker_socket or None)
            client = await stack.enter_async_context(EngineClient(endpoint))
            adapter = DockerAdapter(
                client,
                owner=names.owner,
                otlp_http_port=settings.telemetry.otlp_http_port,
                route_labels=route_labels(settings),
                container_dns=self._container_dns,
                with_aliases=settings.networking.dns.mode != "off",
            )
            containers = ProxyContainers(client, owner=names.owner)
            await self._serve(identity, database, journal, adapter, containers)

    async def _serve(
        self,
        identity: Identity,
        database: Database,
        journal: Journal,
        adapter: DockerAdapter,
        proxy_containers: ProxyContainers,
    ) -> None:
        settings = self._settings
        reports = Reports(identity.server_id)
        ledger = AlertLedger(journal, reports)
        await ledger.load()
        gate = HealthGate(adapter, min_healthy_secs=settings.runtime.min_healthy_secs, clock=time.monotonic)

        def turned(_: ContainerId) -> None:
            if traffic is not None:
                traffic.nudge()
            reconciler.nudge()
            alerts.nudge()

        def idle() -> None:
            # What turned, or went, while the operation decided for itself.
            if traffic is not None:
                traffic.nudge()

        watch = HealthWatch(journal, adapter, min_healthy_secs=settings.runtime.min_healthy_secs, on_turn=turned)
        views = ServiceViews(journal, adapter, gate, watch, time.monotonic)
        link = (
            ControlLink(
                settings,
                identity,
                adapter=adapter,
                views=views,
                outbox=journal.outbox,
                log_handle=self._log_handle,
                health_results=watch.drain_results,
            )
            if settings.control_plane is not None
            else None
        )
        async with asyncio.TaskGroup() as group:
            if not database.is_surveyed:
                await self._rebuild(journal, adapter)

            async def surveyed() -> None:
                if not database.is_surveyed:
                    await self._rebuild(journal, adapter)

            engine = EngineCheck(adapter, journal, reports, on_answer=surveyed)
            if settings.networking.dns.mode == "agent":
                self._names = name_service(settings.networking.dns, adapter, group)
            traffic = traffic_of(
                settings,
                adapter=adapter,
                journal=journal,
                is_busy=lambda service_id: deployer.queues.is_busy(service_id),
                is_held=lambda service_id: deployer.queues.is_held(service_id),
                readiness=watch.readiness,
                names=self._names,
            )
            canary = CanaryTools(judge=watch, counter=CanaryRequests(settings.networking.metrics_url))
            tools = Tools(adapter=adapter, journal=journal, gate=gate, traffic=traffic or NoTraffic(), canary=canary)
            deployer = Deployer(tools, reports, ledger, group, redactor=self._redactor, on_idle=idle)
            proxy = ProxyVerbs.of(settings, proxy_containers, traffic)
            garbage_collector = GarbageCollector(journal, adapter, deployer.queues)
            reconciler = Reconciler(
                tools,
                deployer.queues,
                readiness=watch.readiness,
                drain_secs=settings.networking.drain_seconds,
                clock=time.monotonic,
            )
            alerts = AlertWatch(
                ledger, journal, adapter, watch, is_busy=deployer.queues.is_busy, clean=self._redactor.clean
            )
            disks = DiskWatch(ledger, adapter, settings.data_dir)
            queries = Queries(
                identity=identity,
                journal=journal,
                adapter=adapter,
                views=views,
                control_plane=link.status if link else _alone,
                alerts=ledger.shown,
                warnings=lambda: [*self._current_warnings(engine, garbage_collector, traffic), *proxy.watch.warnings],
            )
            router = Router(
                deployer=deployer,
                journal=journal,
                adapter=adapter,
                queries=queries,
                check_override=HealthCheckOverride(journal, watch.refresh),
                reports=reports,
                group=group,
                proxy=proxy,
            )
            socket = LocalSocket(settings.socket, router, reports)
            await socket.open()
            background = [
                group.create_task(adapter.watch(), name="engine events"),
                group.create_task(engine.run(), name="engine check"),
                group.create_task(garbage_collector.run(), name="sweep"),
                group.create_task(watch.run(), name="health"),
                group.create_task(alerts.run(), name="alerts"),
                group.create_task(disks.run(), name="disks"),
            ]
            resumed = await deployer.resume()
            if traffic is not None:
                # Before that a service looks idle that an operation goes on with: its canary would lose its share.
                background.append(group.create_task(traffic.run(), name="routes"))
                background.append(group.create_task(proxy.watch.run(), name="proxy"))
            background.append(group.create_task(reconciler.run(), name="keeper"))
            if link is not None:
                link.route_to(router)
                background.append(group.create_task(link.run(), name="control plane"))
            log.info(
                "agent started",
                extra={"version": __version__, "pid": os.getpid(), "socket": str(settings.socket), "resumed": resumed},
            )
            self._notifier.ready("running")
            await self._until_stopped()
            log.info("agent is stopping")
            self._notifier.stopping("finishing operations")
            socket.stop_accepting()
            await deployer.queues.drain(DRAIN_SECS)
            router.end_errands()
            await socket.close()
            if link is not None:
                await link.stop()
            for task in background:
                task.cancel()
            if self._names is not None:
                self._names.close()
        log.info("agent stopped")

    def _container_dns(self, project: str, gateway: str) -> ContainerDns | None:
        return self._names.container_dns(project, gateway) if self._names is not None else None

    async def _rebuild(self, journal: Journal, adapter: DockerAdapter) -> None:
        try:
            deployments, services = desired_from(await adapter.survey())
        except (RuntimeUnavailable, StepFailed) as away:
            # Without an engine there are no containers that could be touched either; it is asked when it is back.
            log.warning("cannot look for earlier services", extra={"reason": str(away)})
            return
        await journal.rebuild(deployments, services)
        if services:
            log.warning("desired state was rebuilt from labels", extra={"services": len(services)})
            missing = f"the journal was missing; {len(services)} services are rebuilt from their containers' labels"
            self._warnings.setdefault("journal", missing)

    async def _until_stopped(self) -> None:
        interval = self._notifier.watchdog_secs
        while not self._stop.is_set():
            # The watchdog tells that this loop turns, never that somebody can be reached.
            self._notifier.watchdog()
            try:
                async with asyncio.timeout(interval / 3 if interval else None):
                    await self._stop.wait()
            except TimeoutError:
                continue

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _end(self, number: int) -> None:
        log.info("signal received", extra={"signal": signal.Signals(number).name})
        self._stop.set()

    def _reload(self) -> None:
        """Take what can change while running; say what cannot."""
        try:
            fresh = reload(self._loaded, environ=os.environ)
            self._log_handle.set_level(fresh.settings.logging.level)
            self._log_handle.reopen()
        except AgentError as refused:
            log.error("configuration was not reloaded", extra={"reason": str(refused)})
            return
        fixed = [key.dotted for key in changed(self._loaded.settings, fresh.settings) if not key.reloadable]
        log.info("configuration reloaded", extra={"needs_restart": ", ".join(fixed) or "nothing"})

    def _current_warnings(
        self, engine: EngineCheck, garbage_collector: GarbageCollector, traffic: TrafficSwitch | None
    ) -> list[str]:
        strays = [
            f"container {name} carries our labels but belongs to no current deployment"
            for name in garbage_collector.stray
        ]
        routes = traffic.problems if traffic is not None else []
        away = [engine.warning] if engine.warning else []
        return [*self._loaded.warnings, *self._warnings.values(), *away, *routes, *strays]


def run(loaded: Loaded, *, log_handle: LogHandle, redactor: Redactor) -> int:
    """Run the agent until a signal ends it; the exit code."""
    app = AgentApp(loaded, log_handle=log_handle, redactor=redactor)
    try:
        asyncio.run(app.run())
    except* AgentError as failed:
        raise failed.exceptions[0] from None
    return 0


def _alone() -> Mapping[str, Json]:
    return {"endpoint": None, "state": "alone", "detail": "no control plane is configured"}


def _require_docker(loaded: Loaded) -> None:
    settings = loaded.settings
    evidence = Evidence(
        engine_named=bool(settings.runtime.docker_socket or os.environ.get("DOCKER_HOST")),
        engine_socket=Path(DEFAULT_SOCKET).exists(),
        in_cluster="KUBERNETES_SERVICE_HOST" in os.environ,
        cluster_named=settings.runtime.kubernetes_config is not None,
    )
    if detect(settings.runtime.runtime_type, evidence) is RuntimeKind.KUBERNETES:
        raise ConfigurationError(
            str(loaded.path), "runtime.runtime_type: kubernetes is not part of this version; set it to docker"
        )


def _private_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as refused:
        sentence = f"cannot use data_dir {path}: {refused.strerror}; choose another or fix its owner"
        if isinstance(refused, PermissionError):
            raise RequestError("PERMISSION_DENIED", sentence) from refused
        raise AgentError(sentence) from refused
