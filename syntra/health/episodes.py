"""Turns conditions into alerts: one when an episode begins, one when it ends. Pure: time is an argument.

    health_check_failed  begins when a replica becomes unhealthy; ends after HOLD_SECS healthy
    container_crash      begins when a container exits unexpectedly; ends after CALM_SECS up without another exit. Of a
                         whole service: begins when a replica cannot be restored, ends when all run
    resource_critical    begins at 85 % (warning), raises a second alert at 95 % (critical); ends below 83 %
                         Of a certificate: begins 14 days before its end (warning), again in the last three (critical)
    deployment_failed    one per failed deployment; ends when a deployment, or a restart of it, succeeds

A condition that returns before its episode ends belongs to that episode and raises no alert. So a flapping replica or a
crash loop is one alert and one recovery. The caller chooses the keys: a replica, a mount, a service. It must call
`forget` for everything that it stops watching, or the alert stays open for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from enum import Enum

from syntra.health.result import bounded
from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.status import Health
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

HOLD_SECS = 30.0
CALM_SECS = 600.0
MOST_OPEN = 1000
MOST_LINES = 20
_LINE_CHARS = 500
_TITLE_CHARS = 120

MetadataValue = str | int | float | bool | tuple[str, ...]


class AlertKind(Enum):
    """The contract's alert types."""

    HEALTH_CHECK_FAILED = "health_check_failed"
    CONTAINER_CRASH = "container_crash"
    RESOURCE_CRITICAL = "resource_critical"
    DEPLOYMENT_FAILED = "deployment_failed"


class Severity(Enum):
    """The contract's severities."""

    WARNING = "warning"
    CRITICAL = "critical"


@frozen
class AlertEvent:
    """An alert or, with `recovered`, its end; then `severity` is the one that was announced last."""

    kind: AlertKind
    severity: Severity
    title: str
    message: str
    """At most 512 bytes."""
    recovered: bool
    metadata: Mapping[str, MetadataValue]
    service_id: ServiceId | None = None
    """None for an alert about the host."""


@frozen
class Subject:
    """The object of an episode. `name` is for people."""

    key: str
    name: str
    service_id: ServiceId | None = None


@frozen
class Crash:
    """An unexpected exit of a container."""

    exit_code: int | None
    oom_killed: bool
    last_lines: tuple[str, ...] = field(default=(), repr=False)
    error: str = ""
    """The engine's own error."""
    signal: str = ""
    """The signal that something outside the agent stopped it with; empty when it exited by itself."""


@frozen
class Levels:
    """Thresholds of a resource, in percent. An episode ends only `gap` below the warning, so that it does not flap."""

    warning: float = 85.0
    critical: float = 95.0
    gap: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.gap < self.warning <= self.critical:
            raise AgentError(
                f"cannot watch a resource with levels {self.warning}, {self.critical} and gap {self.gap}:"
                " they must rise and the gap be smaller; correct the settings"
            )


DISK = Levels()


@frozen
class Episode:
    """An open episode; it can be stored and passed to the next `Episodes`. Times are on the caller's clock."""

    kind: AlertKind
    subject: Subject
    severity: Severity
    """The highest severity that was announced."""
    began: float
    times: int
    """How often the condition began."""
    good_since: float | None
    """Since when the condition is gone; None while it holds."""
    metadata: Mapping[str, MetadataValue]


class Episodes:
    """The open episodes. Every method takes the time and returns the alerts to send now, usually none.

    `now` is in seconds on a monotonic clock. If episodes are stored across restarts, the clock must continue, too.
    """

    def __init__(self, opened: Iterable[Episode] = (), *, most_open: int = MOST_OPEN) -> None:
        """`opened` are the episodes of an earlier run: they are not announced again, but their end is."""
        if most_open < 1:
            raise AgentError(f"cannot keep {most_open} open alerts: it must be 1 or more; correct the setting")
        self._open: dict[tuple[AlertKind, str], Episode] = {}
        self._most_open = most_open
        self._dropped = 0
        for episode in (*opened,)[:most_open]:
            self._keep(episode)

    @property
    def opened(self) -> tuple[Episode, ...]:
        """The open episodes, oldest first."""
        return tuple(self._open.values())

    @property
    def dropped(self) -> int:
        """How many conditions were not announced because too many episodes are open."""
        return self._dropped

    @property
    def next_at(self) -> float | None:
        """When `tick` is next due, if nothing else happens before; None when it is not."""
        ends = [end for episode in self._open.values() if (end := _over_at(episode)) is not None]
        return min(ends, default=None)

    def tick(self, now: float) -> list[AlertEvent]:
        """End the episodes whose condition has been gone for long enough."""
        over = [episode for episode in self._open.values() if (end := _over_at(episode)) is not None and end <= now]
        return [self._end(episode, now, *self._recovery(episode)) for episode in over]

    def health(
        self, now: float, subject: Subject, health: Health, reason: str, *, serving: int | None = None
    ) -> list[AlertEvent]:
        """Report a replica's health. With `serving` (the service's running replicas) 0, the alert is critical.

        May be called repeatedly; an unknown health raises no alert.
        """
        kind = AlertKind.HEALTH_CHECK_FAILED
        if health is Health.HEALTHY:
            self._cleared(now, kind, subject)
            return self.tick(now)
        if health is Health.UNKNOWN:
            return self.tick(now)
        severity = Severity.CRITICAL if serving == 0 else Severity.WARNING
        left = {} if serving is None else {"serving": serving}
        title = f"{subject.name} is unhealthy"
        return self._holds(now, kind, subject, severity, title, reason, {"reason": bounded(reason), **left})

    def crash(self, now: float, subject: Subject, crash: Crash) -> list[AlertEvent]:
        """A container exited. Call it once per exit; `subject.key` must stay the same if the container is replaced."""
        lines = tuple(line[:_LINE_CHARS] for line in crash.last_lines[-MOST_LINES:])
        metadata: dict[str, MetadataValue] = {"oom_killed": crash.oom_killed, "last_lines": lines}
        if crash.exit_code is not None:
            metadata["exit_code"] = crash.exit_code
        if crash.signal:
            metadata["signal"] = crash.signal
        clean = crash.exit_code == 0 and not crash.oom_killed and not crash.error
        severity = Severity.WARNING if clean or crash.signal else Severity.CRITICAL
        how = "crashed" if not crash.signal else "was stopped outside the agent"
        title = f"{subject.name} {'ran out of memory' if crash.oom_killed else how}"
        return self._holds(
            now, AlertKind.CONTAINER_CRASH, subject, severity, title, _describe(crash), metadata, again=True
        )

    def up(self, now: float, subject: Subject) -> list[AlertEvent]:
        """A container runs again after its last exit. A crash loop does that too: only time ends the episode."""
        self._cleared(now, AlertKind.CONTAINER_CRASH, subject)
        return self.tick(now)

    def not_restored(self, now: float, subject: Subject, reason: str, *, replica: int) -> list[AlertEvent]:
        """A replica of the service `subject` is down and cannot be started or created. May be called repeatedly."""
        metadata: dict[str, MetadataValue] = {"reason": bounded(reason), "replica": replica}
        title = f"{subject.name} cannot be restored"
        return self._holds(now, AlertKind.CONTAINER_CRASH, subject, Severity.CRITICAL, title, reason, metadata)

    def restored(self, now: float, subject: Subject) -> list[AlertEvent]:
        """All replicas of the service run again."""
        episode = self._open.get((AlertKind.CONTAINER_CRASH, subject.key))
        ended = [] if episode is None else [self._end(episode, now, "all its replicas run again", "is restored")]
        return [*ended, *self.tick(now)]

    def resource(self, now: float, subject: Subject, percent: float, *, levels: Levels = DISK) -> list[AlertEvent]:
        """Report how much of a resource is used, 0 to 100."""
        kind = AlertKind.RESOURCE_CRITICAL
        if percent < levels.warning:
            episode = self._open.get((kind, subject.key))
            if episode is None or percent >= levels.warning - levels.gap:
                return self.tick(now)
            return [self._end(episode, now, f"{percent:.1f} % are used", "has room again"), *self.tick(now)]
        critical = percent >= levels.critical
        severity = Severity.CRITICAL if critical else Severity.WARNING
        reached = levels.critical if critical else levels.warning
        metadata: dict[str, MetadataValue] = {"resource": subject.key, "used_percent": round(percent, 1)}
        title = f"{subject.name} is almost full" if critical else f"{subject.name} is filling up"
        message = f"{percent:.1f} % of {subject.name} are used, the alert is at {reached:g} %; free some space"
        return self._holds(now, kind, subject, severity, title, message, metadata, louder=True)

    def certificate(self, now: float, subject: Subject, days_left: float, alert_days: float) -> list[AlertEvent]:
        """Report how long a certificate is still valid; the alert begins `alert_days` before the end.

        It is critical in the last fifth of that time. The contract has no type of its own for it.
        """
        kind = AlertKind.RESOURCE_CRITICAL
        if days_left > alert_days:
            episode = self._open.get((kind, subject.key))
            ended = [] if episode is None else [self._end(episode, now, "a new one is in use", "is renewed")]
            return [*ended, *self.tick(now)]
        severity = Severity.CRITICAL if days_left <= alert_days / 5 else Severity.WARNING
        over = days_left <= 0
        metadata: dict[str, MetadataValue] = {"resource": subject.key, "days_left": round(max(0.0, days_left), 1)}
        title = f"{subject.name} {'has expired' if over else 'expires soon'}"
        left = "it has expired" if over else f"{days_left:.1f} days are left"
        message = f"{subject.name} is not renewed: {left}; see `syntra-agent status` for the reason"
        return self._holds(now, kind, subject, severity, title, message, metadata, louder=True)

    def deployment_failed(
        self,
        now: float,
        subject: Subject,
        deployment_id: DeploymentId,
        message: str,
        *,
        code: str = "",
        what: str = "deployment",
    ) -> list[AlertEvent]:
        """A deployment, or another operation (`what`), failed. Each deployment is announced once."""
        key = (AlertKind.DEPLOYMENT_FAILED, subject.key)
        known = self._open.get(key)
        metadata: dict[str, MetadataValue] = {"deployment_id": deployment_id, **({"code": code} if code else {})}
        if known is not None and known.metadata.get("deployment_id") == deployment_id:
            return self.tick(now)
        self._open.pop(key, None)
        title = f"{what} of {subject.name} failed"
        return self._holds(now, AlertKind.DEPLOYMENT_FAILED, subject, Severity.WARNING, title, message, metadata)

    def deployed(self, now: float, subject: Subject) -> list[AlertEvent]:
        """A deployment of the service succeeded."""
        episode = self._open.get((AlertKind.DEPLOYMENT_FAILED, subject.key))
        ended = [] if episode is None else [self._end(episode, now, "a later deployment succeeded", "is deployed")]
        return [*ended, *self.tick(now)]

    def restarted(self, now: float, subject: Subject, deployment_id: DeploymentId) -> list[AlertEvent]:
        """The service was restarted: this ends the episode if the same deployment had failed."""
        episode = self._open.get((AlertKind.DEPLOYMENT_FAILED, subject.key))
        if episode is None or episode.metadata.get("deployment_id") != deployment_id:
            return self.tick(now)
        return [self._end(episode, now, "a later restart succeeded", "is restarted"), *self.tick(now)]

    def forget(
        self, now: float, key: str, reason: str, kinds: Sequence[AlertKind] = tuple(AlertKind)
    ) -> list[AlertEvent]:
        """The object of `key` is gone or no longer watched: end its episodes, with that reason."""
        known = [episode for kind in kinds if (episode := self._open.get((kind, key))) is not None]
        return [*(self._end(episode, now, reason, "is no longer watched") for episode in known), *self.tick(now)]

    @staticmethod
    def _recovery(episode: Episode) -> tuple[str, str]:
        """Message and title of an episode that time has ended."""
        if episode.kind is AlertKind.CONTAINER_CRASH:
            return f"it stays up, after {_times(episode.times)}", "runs again"
        return f"its health check has passed for {HOLD_SECS:g} s", "is healthy again"

    def _holds(
        self,
        now: float,
        kind: AlertKind,
        subject: Subject,
        severity: Severity,
        title: str,
        message: str,
        metadata: Mapping[str, MetadataValue],
        *,
        again: bool = False,
        louder: bool = False,
    ) -> list[AlertEvent]:
        """The condition holds. `again`: every call counts; `louder`: also announce a higher severity."""
        others = self.tick(now)
        known = self._open.get((kind, subject.key))
        if known is not None:
            more = again or known.good_since is not None
            rises = louder and severity is Severity.CRITICAL and known.severity is Severity.WARNING
            self._open[kind, subject.key] = replace(
                known,
                times=known.times + more,
                good_since=None,
                severity=severity if rises else known.severity,
            )
            if not rises:
                return others
        elif len(self._open) >= self._most_open:
            # Dropping another episode for it would announce that one again at the next check, endlessly.
            self._dropped += 1
            return others
        else:
            self._keep(
                Episode(
                    kind=kind,
                    subject=subject,
                    severity=severity,
                    began=now,
                    times=1,
                    good_since=None,
                    metadata=metadata,
                )
            )
        return [*others, _event(kind, subject, severity, title, message, metadata, recovered=False)]

    def _cleared(self, now: float, kind: AlertKind, subject: Subject) -> None:
        """The condition is gone; after some time this ends the episode."""
        known = self._open.get((kind, subject.key))
        if known is not None and known.good_since is None:
            self._open[kind, subject.key] = replace(known, good_since=now)

    def _keep(self, episode: Episode) -> None:
        self._open[episode.kind, episode.subject.key] = episode

    def _end(self, episode: Episode, now: float, message: str, title: str) -> AlertEvent:
        del self._open[episode.kind, episode.subject.key]
        ended = now if episode.good_since is None else episode.good_since
        lasted = round(max(0.0, ended - episode.began), 1)
        metadata = {**episode.metadata, "times": episode.times, "lasted_secs": lasted}
        title = f"{episode.subject.name} {title}"
        return _event(episode.kind, episode.subject, episode.severity, title, message, metadata, recovered=True)


def _over_at(episode: Episode) -> float | None:
    """When time ends an episode; None while the condition holds."""
    if episode.good_since is None:
        return None
    match episode.kind:
        case AlertKind.HEALTH_CHECK_FAILED:
            return episode.good_since + HOLD_SECS
        case AlertKind.CONTAINER_CRASH:
            return episode.good_since + CALM_SECS
    return None


def _event(
    kind: AlertKind,
    subject: Subject,
    severity: Severity,
    title: str,
    message: str,
    metadata: Mapping[str, MetadataValue],
    *,
    recovered: bool,
) -> AlertEvent:
    return AlertEvent(
        kind=kind,
        severity=severity,
        title=bounded(title)[:_TITLE_CHARS],
        message=bounded(message),
        recovered=recovered,
        metadata=metadata,
        service_id=subject.service_id,
    )


def _describe(crash: Crash) -> str:
    words = ["it ran out of memory and was killed"] if crash.oom_killed else []
    if crash.exit_code is not None:
        words.append(f"it exited with code {crash.exit_code}{f' after {crash.signal}' if crash.signal else ''}")
    sentence = ", ".join(words) or "it ended"
    return f"{sentence}: {crash.error}" if crash.error else sentence


def _times(count: int) -> str:
    return "one crash" if count == 1 else f"{count} crashes"
