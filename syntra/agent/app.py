"""The composition root: settings in, a running agent out."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any

from syntra import __version__
from syntra.agent.alerts.disks import DiskWatch
from syntra.agent.alerts.engine_check import EngineCheck
from syntra.agent.alerts.ledger import AlertLedger
from syntra.agent.alerts.watch import AlertWatch
from syntra.agent.api.control_link import ControlLink
from syntra.agent.api.dialect_door import DialectDoor
from syntra.agent.api.local_socket import LocalSocket
from syntra.agent.api.queries import Identity, Queries, telemetry_is_off
from syntra.agent.api.router import Router
from syntra.agent.api.service_views import ServiceViews, url_scheme
from syntra.agent.changes import Changes
from syntra.agent.config.data_dir import make_private
from syntra.agent.config.identity import identify
from syntra.agent.config.load import Loaded, reload
from syntra.agent.config.settings import Settings, changed
from syntra.agent.figures.sampler import Sampler
from syntra.agent.health.check_override import HealthCheckOverride
from syntra.agent.hosts import BuildHost, Host, choose, connected
from syntra.agent.journal.database import Database
from syntra.agent.journal.dialects import RememberedDialects
from syntra.agent.journal.journal import Journal
from syntra.agent.journal.outbox import Outbox
from syntra.agent.messages import Reports
from syntra.agent.operations.canary import CanaryTools
from syntra.agent.operations.deployer import Deployer
from syntra.agent.operations.execution import Dependencies
from syntra.agent.operations.service_queues import ServiceQueues
from syntra.agent.reconciler.rebuild import rebuild_if_lost
from syntra.agent.telemetry.child import ChildProgram
from syntra.agent.telemetry.configuration import configuration
from syntra.agent.telemetry.figures import figures_telling
from syntra.agent.telemetry.forked import ForkedProcess
from syntra.agent.telemetry.logs import log_drain
from syntra.agent.telemetry.process import TelemetryProcess
from syntra.agent.telemetry.shipping import BatchShipping
from syntra.agent.update.self_update import SelfUpdate
from syntra.connection.messages import BINARY_TELEMETRY, TELEMETRY_ACK
from syntra.model.fields import Json
from syntra.networking.canary_requests import CanaryRequests
from syntra.utils.errors import AgentError
from syntra.utils.file_lock import FileLock
from syntra.utils.host_reading import HostReader
from syntra.utils.program_pages import return_memory
from syntra.utils.redact import Redactor
from syntra.utils.sd_notify import Notifier
from syntra.utils.structured_log import LogHandle

log = logging.getLogger(__name__)

# How long a running operation may continue after SIGTERM before it is parked for the next start.
DRAIN_SECS = 10.0
# How long the start waits for the engine to list the services of a lost journal.
REBUILD_SECS = 5.0
SETTLED_SECS = 30.0  # by then every part of the agent has listed the services


class AgentApp:
    """One agent process. `run` returns when a signal ended it."""

    def __init__(
        self, loaded: Loaded, *, log_handle: LogHandle, redactor: Redactor, telemetry: ForkedProcess | None = None
    ) -> None:
        self._loaded = loaded
        self._settings: Settings = loaded.settings
        self._log_handle = log_handle
        self._redactor = redactor
        self._stop = asyncio.Event()
        self.exit_code = 0
        self._warnings: dict[str, str] = {}
        self._notifier = Notifier.take()
        self._first_telemetry = telemetry
        self._telemetry: TelemetryProcess | None = None

    async def run(self) -> None:
        """Start everything, wait for the end, stop everything in order. Raises AgentError when it cannot start."""
        settings = self._settings
        # First of all: without a handler, a signal kills the process in the middle of its work.
        self._handle_signals()
        make_private(settings.data_dir)
        async with AsyncExitStack() as stack:
            stack.enter_context(FileLock.acquire(settings.data_dir / "agent.lock"))
            choice = await choose(self._loaded)
            self._warnings |= {f"runtime {number}": warning for number, warning in enumerate(choice.warnings)}
            ids = identify(settings)
            identity = Identity(
                agent_id=ids.agent_id,
                server_id=ids.server_id,
                data_dir=settings.data_dir,
                started_at=time.time(),
                runtime_reason=choice.reason,
            )
            database = Database(settings.data_dir)
            await database.open()
            stack.push_async_callback(database.close)
            if database.was_rebuilt:
                self._warnings["journal"] = f"the journal was broken and is rebuilt from labels: {database.was_rebuilt}"
            build = await stack.enter_async_context(connected(self._loaded, choice))
            await self._serve(identity, ids.owner, database, build)

    async def _serve(self, identity: Identity, owner: str, database: Database, build: BuildHost) -> None:
        settings = self._settings
        journal = Journal(database, Outbox(database, is_used=settings.control_plane is not None))
        reports = Reports(identity.server_id)
        ledger = AlertLedger(journal, reports)
        await ledger.load()
        changes = Changes()
        telemetry = self._telemetry = self._telemetry_process(identity)
        async with asyncio.TaskGroup() as group:
            queues = ServiceQueues(group, lambda job: deployer.carry_out(job), on_idle=changes.announce)
            host = build(
                settings,
                owner=owner,
                journal=journal,
                changes=changes,
                queues=queues,
                group=group,
                drain_log=log_drain(telemetry, settings.telemetry.logs),
            )
            runtime, readiness = host.runtime, host.readiness

            async def rebuild_journal() -> None:
                if services := await rebuild_if_lost(database, journal, runtime):
                    missing = f"the journal was missing; {services} services are rebuilt from their containers' labels"
                    self._warnings.setdefault("journal", missing)

            engine_check = EngineCheck(runtime, journal, reports, name=lambda: runtime.name, on_answer=rebuild_journal)
            # A cluster's routes are not counted at the agent's own proxy.
            counter = CanaryRequests(settings.networking.metrics_url) if host.prober is not None else None
            dependencies = Dependencies(
                runtime=runtime,
                journal=journal,
                changes=changes,
                canary=CanaryTools(readiness=readiness, counter=counter),
            )
            deployer = Deployer(dependencies, queues, reports, ledger, redactor=self._redactor)
            alerts = AlertWatch(
                ledger,
                journal,
                runtime,
                readiness,
                changes,
                is_busy=queues.is_busy,
                clean=self._redactor.clean,
                restore_failures=lambda: host.restore_failures,
            )
            disks = DiskWatch(ledger, runtime, settings.data_dir, filled=database.filled)
            sampler = Sampler(runtime, HostReader())
            views = ServiceViews(
                journal, runtime, readiness, time.monotonic, url_scheme(settings), host.prober, alerts.crash_loop
            )
            shipping = BatchShipping(telemetry, group) if telemetry is not None else None
            figures = figures_telling(
                settings,
                agent_id=identity.agent_id,
                sampler=sampler,
                deployments=journal,
                process=telemetry,
            )
            update = await SelfUpdate.open(
                settings.update,
                self._loaded.path if self._loaded.found else None,
                time.time(),
                journal=journal,
                reports=reports,
                operations=queues,
                ping=runtime.ping,
                is_connected=lambda: link is not None and link.is_connected,
                end=self._end_for,
            )
            link = self._link(
                identity, journal, host, views, sampler, RememberedDialects(database), shipping, update.updates.last
            )
            queries = Queries(
                identity=identity,
                journal=journal,
                runtime=runtime,
                views=views,
                sampler=sampler,
                control_plane=link.status if link else _standalone_status,
                alerts=ledger.shown,
                warnings=lambda: self._current_warnings(engine_check, host, journal, telemetry, update),
                names=deployer.names,
                telemetry=telemetry_is_off if telemetry is None else lambda: telemetry.ask("status"),
                update=update.updates.shown,
            )
            router = Router(
                deployer=deployer,
                journal=journal,
                runtime=runtime,
                changes=changes,
                queries=queries,
                check_override=HealthCheckOverride(journal, changes, is_possible=host.prober is not None),
                reports=reports,
                group=group,
                proxy=host.proxy,
                certificates=host.certificates,
                telemetry=telemetry,
                updates=update.updates,
                standby=lambda: host.standby,
            )
            socket = LocalSocket(settings.socket, router, reports)
            await socket.open()
            from_start = [("engine events", runtime.watch(changes.announce)), *host.standby_tasks()]
            background = [group.create_task(work, name=name) for name, work in from_start]
            if not await self._has_turn(host):
                router.cancel_requests()
                await socket.close()
                for task in background:
                    task.cancel()
                await host.close()
                return
            # While the engine does not answer, the engine check tries again.
            with suppress(TimeoutError):
                async with asyncio.timeout(REBUILD_SECS):
                    await rebuild_journal()
            before_resume = [
                ("engine check", engine_check.run()),
                *host.before_operations(),
                ("alerts", alerts.run()),
                ("disks", disks.run()),
            ]
            if telemetry is not None:
                before_resume.append(("telemetry", telemetry.run()))
                before_resume += host.telemetry_tasks(telemetry, started_at=identity.started_at)
            background += [group.create_task(work, name=name) for name, work in before_resume]
            resumed = await deployer.resume()
            later = [*host.after_operations(), *update.tasks()]
            background += [group.create_task(work, name=name) for name, work in later]
            if link is not None:
                link.route_to(router)
                if shipping is not None:
                    background.append(group.create_task(shipping.run(link), name="telemetry shipping"))
                background.append(group.create_task(link.run(ledger), name="control plane"))
            background.append(group.create_task(figures.run(link), name="figures"))
            log.info(
                "agent started",
                extra={"version": __version__, "pid": os.getpid(), "socket": str(settings.socket), "resumed": resumed},
            )
            journal.events.note("agent", f"agent {__version__} started; {resumed} operations resume")
            self._notifier.ready("running")
            return_memory()
            # Every part of the agent lists the services first, and decrypting their deployments takes memory.
            asyncio.get_running_loop().call_later(SETTLED_SECS, return_memory)
            await self._until_stopped()
            log.info("agent is stopping")
            self._notifier.stopping("finishing operations")
            socket.stop_accepting()
            await queues.drain(DRAIN_SECS)
            update.updates.abort()
            router.cancel_requests()
            await socket.close()
            if telemetry is not None:
                # Before the connection closes: the last batches leave over it.
                await telemetry.stop()
            if link is not None:
                await link.stop()
            for task in background:
                task.cancel()
            await host.close()
        log.info("agent stopped")

    def _link(
        self,
        identity: Identity,
        journal: Journal,
        host: Host,
        views: ServiceViews,
        sampler: Sampler,
        remembered: RememberedDialects,
        shipping: BatchShipping | None,
        about_update: Callable[[], Mapping[str, Json]],
    ) -> ControlLink | None:
        control_plane = self._settings.control_plane
        if control_plane is None:
            return None
        return ControlLink(
            self._settings,
            identity,
            runtime=host.runtime,
            views=views,
            sampler=sampler,
            outbox=journal.outbox,
            door=DialectDoor(control_plane.dialect, control_plane.endpoint, remembered),
            log_handle=self._log_handle,
            health_results=host.readiness.drain_results,
            about_update=about_update,
            note=journal.events.note,
            **_telemetry_hooks(shipping),
        )

    async def _has_turn(self, host: Host) -> bool:
        """Wait until this agent may act; False when a signal ends it before."""
        self._notifier.ready("waiting for its turn")
        async with asyncio.TaskGroup() as group:
            turn = group.create_task(host.turn(), name="turn")
            stopped = group.create_task(self._until_stopped(), name="stop")
            await asyncio.wait({turn, stopped}, return_when=asyncio.FIRST_COMPLETED)
            has_turn = turn.done() and not self._stop.is_set()
            turn.cancel()
            stopped.cancel()
        return has_turn

    async def _until_stopped(self) -> None:
        interval = self._notifier.watchdog_secs
        while not self._stop.is_set():
            # The watchdog reports that the event loop runs, not that the engine or control plane is reachable.
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

    def _end_for(self, reason: str, exit_code: int) -> None:
        """End because of an update; the service manager starts the agent again."""
        log.info("agent ends for an update", extra={"reason": reason, "exit_code": exit_code})
        self.exit_code = exit_code
        self._stop.set()

    def _reload(self) -> None:
        """Apply the settings that are reloadable; log the others that changed."""
        try:
            fresh = reload(self._loaded, environ=os.environ)
            self._log_handle.set_level(fresh.settings.logging.level)
            self._log_handle.reopen()
            if self._telemetry is not None:
                self._telemetry.reopen_log()
        except AgentError as refused:
            log.error("configuration was not reloaded", extra={"reason": str(refused)})
            return
        fixed = [key.dotted for key in changed(self._loaded.settings, fresh.settings) if not key.reloadable]
        log.info("configuration reloaded", extra={"needs_restart": ", ".join(fixed) or "nothing"})

    def _telemetry_process(self, identity: Identity) -> TelemetryProcess | None:
        if self._settings.telemetry.receivers == "off":
            return None
        told = configuration(self._settings, agent_id=identity.agent_id, server_id=identity.server_id)
        return TelemetryProcess(ChildProgram(self._first_telemetry), told)

    def _current_warnings(
        self,
        engine: EngineCheck,
        host: Host,
        journal: Journal,
        telemetry: TelemetryProcess | None,
        update: SelfUpdate,
    ) -> list[str]:
        problem = telemetry.problem if telemetry is not None else None
        now = [warning for warning in (engine.warning, journal.warning, problem, update.updates.warning) if warning]
        return [*self._loaded.warnings, *self._warnings.values(), *now, *host.warnings]


def run(loaded: Loaded, *, log_handle: LogHandle, redactor: Redactor, telemetry: ForkedProcess | None = None) -> int:
    """Run the agent until a signal ends it. Returns the exit code. `telemetry` is the first telemetry process."""
    app = AgentApp(loaded, log_handle=log_handle, redactor=redactor, telemetry=telemetry)
    try:
        asyncio.run(app.run())
    except* AgentError as failed:
        raise failed.exceptions[0] from None
    return app.exit_code


def _telemetry_hooks(shipping: BatchShipping | None) -> dict[str, Any]:
    """What the control plane's connection does for the telemetry process, if there is one."""
    if shipping is None:
        return {}
    return {
        "extensions": (BINARY_TELEMETRY, TELEMETRY_ACK),
        "on_telemetry_ack": shipping.acknowledged,
        "on_change": shipping.announce,
    }


def _standalone_status() -> Mapping[str, Json]:
    return {"endpoint": None, "state": "alone", "detail": "no control plane is configured"}
