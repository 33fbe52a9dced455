"""Alerts about services: health changes and container exits.

The subject of an alert is a replica by its index, which outlives the container. The ledger stores and sends the alerts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Protocol

from syntra.agent.alerts.ledger import AlertLedger
from syntra.agent.changes import Changes
from syntra.agent.health.readiness import Readiness
from syntra.agent.journal.journal import Journal
from syntra.agent.journal.rows import ServiceRow
from syntra.health.crash_loops import CrashLoop, CrashLoops
from syntra.health.episodes import AlertEvent, AlertKind, Crash, Episodes, Subject
from syntra.health.restore_failures import RestoreFailure
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import ServiceSpec
from syntra.model.status import ContainerExit, Health, Replica
from syntra.runtime.errors import RuntimeFailure, RuntimeUnavailable
from syntra.runtime.runtime import Availability, Exits, Logs, Replicas
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

log = logging.getLogger(__name__)

RECHECK_SECS = 30.0
TAIL_LINES = 20
TAIL_SECS = 5.0
# Longer than the shown part of a line, so that a secret is redacted before the line is cut.
LINE_CHARS = 2000
# Exits that wait for the engine to answer before they are reported; the oldest are dropped first.
MOST_WAITING = 1000

_REPLICAS = (AlertKind.HEALTH_CHECK_FAILED, AlertKind.CONTAINER_CRASH)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _restore_key(service_id: ServiceId) -> str:
    """The subject of the alert that replicas of a service cannot be restored."""
    return f"{service_id}/restore"


class AlertSource(Replicas, Exits, Logs, Availability, Protocol):
    """The runtime's capabilities that alerts need."""


@frozen
class _View:
    """Desired state and running replicas."""

    rows: Mapping[ServiceId, ServiceRow]
    specs: Mapping[ServiceId, ServiceSpec]
    replicas: Sequence[Replica] = field(default=())
    """Of the current deployments only."""

    def is_wanted(self, service_id: ServiceId, deployment_id: str) -> bool:
        row = self.rows.get(service_id)
        return row is not None and not row.stopped and row.deployment_id == deployment_id and service_id in self.specs

    def subject(self, service_id: ServiceId, index: int) -> Subject:
        name = f"{self.specs[service_id].service_name} replica {index}"
        return Subject(key=f"{service_id}/{index}", name=name, service_id=service_id)


class AlertWatch:
    """Finds the alerts of services. Nothing else may call the runtime's `drain_exits`."""

    def __init__(
        self,
        ledger: AlertLedger,
        journal: Journal,
        runtime: AlertSource,
        readiness: Readiness,
        changes: Changes,
        *,
        is_busy: Callable[[ServiceId], bool],
        clean: Callable[[str], str],
        restore_failures: Callable[[], Sequence[RestoreFailure]] = lambda: (),
    ) -> None:
        """`clean` redacts known secrets in a text; `restore_failures` are the replicas that cannot be restored."""
        self._ledger = ledger
        self._journal = journal
        self._runtime = runtime
        self._readiness = readiness
        self._changes = changes
        self._is_busy = is_busy
        self._clean = clean
        self._restore_failures = restore_failures
        self._waiting: list[ContainerExit] = []
        self._is_gap = False
        # The replicas that were up at the last check, with their restart counts.
        self._before: dict[ContainerId, int] = {}
        self._loops = CrashLoops()

    async def run(self) -> None:
        """Check until cancelled."""
        changes = self._changes.follow()
        while True:
            try:
                await self.check()
            except RuntimeFailure as later:
                log.debug("alerts wait for the engine", extra={"reason": str(later)})
            except AgentError as failed:
                log.error("cannot check for alerts", extra={"reason": str(failed)})
            soon = self._ledger.secs_to_next()
            if soon is None or soon > RECHECK_SECS:
                await changes.recheck(RECHECK_SECS)
            else:
                await changes.wait(soon + 0.01)

    def crash_loop(self, container_id: ContainerId) -> CrashLoop | None:
        """The crash loop that a container is in; None when it is in none."""
        return self._loops.of(_now(), container_id)

    async def check(self) -> None:
        """Report changes since the last check. Raises errors of engine and journal; the next check then reports all."""
        ends = self._runtime.drain_exits()
        self._waiting = [*self._waiting, *ends.ended][-MOST_WAITING:]
        self._is_gap = self._is_gap or not ends.complete
        if any(end.signal for end in self._waiting):
            await self._drop_what_the_engine_stops()
        view = await self._view()
        reported = [end for end in self._waiting if view.is_wanted(end.service_id, end.deployment_id)]
        without_event = self._exits_without_event(view, reported) if self._is_gap else []
        crashes = [(end, await self._crash(view, end)) for end in [*reported, *without_event]]
        await self._ledger.record(lambda episodes, now: self._events(episodes, now, view, crashes))
        for end in [*reported, *without_event]:
            if not end.signal:
                self._loops.exited(_now(), end.container_id, end.exit_code)
        self._loops.keep({replica.container_id for replica in view.replicas})
        for end, crash in crashes:
            self._journal.events.note("exit", _exit_text(end, crash), service_id=end.service_id, is_bad=True)
        for replica in view.replicas:
            if replica.is_up and replica.restart_count > self._before.get(replica.container_id, replica.restart_count):
                text = f"replica {replica.index} was started again ({replica.restart_count} restarts)"
                self._journal.events.note("restart", text, service_id=replica.service_id)
        await self._journal.events.flush()
        self._waiting.clear()
        self._is_gap = False
        self._before = {r.container_id: r.restart_count for r in view.replicas if r.is_up}

    async def _drop_what_the_engine_stops(self) -> None:
        # An engine that shuts down stops every container as `docker stop` does, and refuses new connections meanwhile.
        try:
            await self._runtime.ping()
        except RuntimeUnavailable:
            self._waiting = [end for end in self._waiting if not end.signal]
            raise

    async def _view(self) -> _View:
        services = await self._journal.current_all()
        rows = {service.row.service_id: service.row for service in services}
        specs = {
            service.row.service_id: self._readiness.effective_spec(service.deployment.spec)
            for service in services
            if service.deployment is not None
        }
        view = _View(rows=rows, specs=specs)
        observed = await self._runtime.observe()
        current = [r for r in observed if view.is_wanted(r.service_id, r.deployment_id)]
        return _View(rows=rows, specs=specs, replicas=current)

    def _exits_without_event(self, view: _View, reported: Sequence[ContainerExit]) -> list[ContainerExit]:
        """Exits without an event: the engine has restarted a container since, or one that was up is down."""
        known = {end.container_id for end in reported}
        return [
            ContainerExit(
                container_id=replica.container_id,
                service_id=replica.service_id,
                deployment_id=replica.deployment_id,
                index=replica.index,
                exit_code=replica.exit_code,
                oom_killed=replica.oom_killed,
            )
            for replica in view.replicas
            if replica.container_id in self._before
            and replica.container_id not in known
            and not self._is_busy(replica.service_id)
            and (not replica.is_up or replica.restart_count > self._before[replica.container_id])
        ]

    async def _crash(self, view: _View, end: ContainerExit) -> Crash:
        replica = next((r for r in view.replicas if r.container_id == end.container_id), None)
        oom_killed = end.oom_killed or (replica is not None and not end.signal and replica.oom_killed)
        lines: tuple[str, ...] = ()
        # An open episode sends no further message, so it needs no log lines.
        if not self._ledger.is_open(AlertKind.CONTAINER_CRASH, view.subject(end.service_id, end.index).key):
            lines = await self._last_lines(end.container_id)
        return Crash(exit_code=end.exit_code, oom_killed=oom_killed, last_lines=lines, signal=end.signal)

    async def _last_lines(self, container_id: ContainerId) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(TAIL_SECS):
                lines = await self._runtime.tail(container_id, TAIL_LINES)
        except (RuntimeFailure, TimeoutError) as lost:
            log.debug("no last lines", extra={"reason": str(lost)})
            return ()
        # Redact: an alert has more readers than a log.
        return tuple(self._clean(line.message[:LINE_CHARS]) for line in lines)

    def _events(
        self, episodes: Episodes, now: float, view: _View, crashes: Sequence[tuple[ContainerExit, Crash]]
    ) -> list[AlertEvent]:
        events: list[AlertEvent] = []
        for end, crash in crashes:
            events += episodes.crash(now, view.subject(end.service_id, end.index), crash)
        healths = {r.container_id: self._readiness.readiness(r, view.specs[r.service_id]) for r in view.replicas}
        for replica in view.replicas:
            if not replica.is_running:
                continue
            subject = view.subject(replica.service_id, replica.index)
            events += episodes.up(now, subject)
            if self._readiness.has_check(replica, view.specs[replica.service_id]):
                serving = sum(
                    healths[other.container_id] is Health.HEALTHY
                    for other in view.replicas
                    if other.service_id == replica.service_id
                )
                events += episodes.health(
                    now,
                    subject,
                    healths[replica.container_id],
                    self._clean(self._readiness.detail(replica)),
                    serving=serving,
                )
        events += self._not_restored(episodes, now, view)
        return [*events, *self._obsolete_alerts(episodes, now, view), *episodes.tick(now)]

    def _not_restored(self, episodes: Episodes, now: float, view: _View) -> list[AlertEvent]:
        events: list[AlertEvent] = []
        failing: dict[ServiceId, RestoreFailure] = {}
        for failure in self._restore_failures():
            failing.setdefault(failure.spec.service_id, failure)
        for service_id, failure in failing.items():
            if failure.is_alert(time.time()) and service_id in view.specs:
                subject = Subject(key=_restore_key(service_id), name=failure.spec.service_name, service_id=service_id)
                events += episodes.not_restored(now, subject, self._clean(failure.problem), replica=failure.index)
        for episode in episodes.opened:
            about = episode.subject.service_id
            row = view.rows.get(about) if about is not None else None
            if row is None or episode.subject.key != _restore_key(row.service_id) or row.service_id in failing:
                continue
            # After a restart of the agent no failure is known yet: what runs decides.
            running = sum(r.is_running for r in view.replicas if r.service_id == row.service_id)
            if running >= row.replicas and not row.stopped:
                events += episodes.restored(now, episode.subject)
        return events

    def _obsolete_alerts(self, episodes: Episodes, now: float, view: _View) -> list[AlertEvent]:
        events: list[AlertEvent] = []
        for episode in episodes.opened:
            service_id = episode.subject.service_id
            if episode.kind not in _REPLICAS or service_id is None:
                continue
            if (reason := self._why_obsolete(view, service_id, episode.kind, episode.subject.key)) is not None:
                events += episodes.forget(now, episode.subject.key, reason, (episode.kind,))
        return events

    def _why_obsolete(self, view: _View, service_id: ServiceId, kind: AlertKind, key: str) -> str | None:
        row, spec = view.rows.get(service_id), view.specs.get(service_id)
        if row is None or spec is None:
            return "the service was removed"
        if row.stopped:
            return "the service was stopped"
        replicas = [replica for replica in view.replicas if replica.service_id == service_id]
        is_checked = spec.health is not None or any(self._readiness.has_check(replica, spec) for replica in replicas)
        if kind is AlertKind.HEALTH_CHECK_FAILED and not is_checked:
            return "the service has no health check any more"
        if key == _restore_key(service_id):
            return None
        indexes = {f"{service_id}/{replica.index}" for replica in replicas}
        if key not in indexes and len(indexes) >= row.replicas and not self._is_busy(service_id):
            return "the service has no such replica any more"
        return None


def _exit_text(end: ContainerExit, crash: Crash) -> str:
    if crash.oom_killed:
        return f"replica {end.index} was killed: out of memory"
    if crash.signal:
        return f"replica {end.index} was ended from outside the agent with {crash.signal}"
    code = "" if crash.exit_code is None else f" with code {crash.exit_code}"
    return f"replica {end.index} exited{code}"
