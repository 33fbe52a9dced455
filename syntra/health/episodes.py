"""From conditions that turn to alerts: one when an episode begins, one when it is over. Pure: time is an argument.

    health_check_failed  begins when a replica turns unhealthy; over after HOLD_SECS healthy
    container_crash      begins with an end nobody asked for; over after CALM_SECS up without another
    resource_critical    begins at 85 % (warning), speaks once more at 95 % (critical); over below 83 %
    deployment_failed    one per failed deployment; over when a deployment succeeds, or its restart

A condition that comes back before its episode is over belongs to that episode and says nothing, so a flapping replica
or a crash loop is one alert and one recovery. Keys are the caller's: a replica, a mount, a service. Whatever is no
longer watched must be told by `forget`, so that no alert stays open for ever.
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
    """An alert, or with `recovered` the end of one: then the severity is that which was announced last."""

    kind: AlertKind
    severity: Severity
    title: str
    message: str
    """At most 512 bytes."""
    recovered: bool
    metadata: Mapping[str, MetadataValue]
    service_id: ServiceId | None = None
    """None when it is about the host."""


@frozen
class Subject:
    """What an episode is about. `name` is for people."""

    key: str
    name: str
    service_id: ServiceId | None = None


@frozen
class Crash:
    """How a container ended without being asked to."""

    exit_code: int | None
    oom_killed: bool
    last_lines: tuple[str, ...] = field(default=(), repr=False)
    error: str = ""
    """The engine's own."""
    signal: str = ""
    """What another hand stopped it with; empty when it ended by itself."""


@frozen
class Levels:
    """Of a resource, in percent. An episode is over only `gap` below the warning, so that it does not flap."""

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
    """One that is open, as it may be stored and given to the next `Episodes`. Times are the clock's of the caller."""

    kind: AlertKind
    subject: Subject
    severity: Severity
    """The highest that was announced."""
    began: float
    times: int
    """How often the condition was seen to begin."""
    good_since: float | None
    """Since when it looks over; None while it does not."""
    metadata: Mapping[str, MetadataValue]


class Episodes:
    """Open episodes. Every method takes the time and returns what is to be announced now, mostly nothing.

    `now` is seconds on any clock that does not go back; one that is stored across restarts must outlive them.
    """

    def __init__(self, opened: Iterable[Episode] = (), *, most_open: int = MOST_OPEN) -> None:
        """`opened` are those of an earlier run: what is still wrong is not announced again, and its end is."""
        if most_open < 1:
            raise AgentError(f"cannot keep {most_open} open alerts: it must be 1 or more; correct the setting")
        self._open: dict[tuple[AlertKind, str], Episode] = {}
        self._most_open = most_open
        self._dropped = 0
        for episode in (*opened,)[:most_open]:
            self._keep(episode)

    @property
    def opened(self) -> tuple[Episode, ...]:
        """Those that are not over, oldest first."""
        return tuple(self._open.values())

    @property
    def dropped(self) -> int:
        """How often a condition was not announced because too many are open."""
        return self._dropped

    @property
    def next_at(self) -> float | None:
        """When `tick` may have something to say, if nothing else happens before."""
        ends = [end for episode in self._open.values() if (end := _over_at(episode)) is not None]
        return min(ends, default=None)

    def tick(self, now: float) -> list[AlertEvent]:
        """End the episodes whose condition has stayed away for long enough."""
        over = [episode for episode in self._open.values() if (end := _over_at(episode)) is not None and end <= now]
        return [self._end(episode, now, *self._recovery(episode)) for episode in over]

    def health(
        self, now: float, subject: Subject, health: Health, reason: str, *, serving: int | None = None
    ) -> list[AlertEvent]:
        """A replica's condition as it is now. `serving` is how many of the service still serve: with 0 it is critical.

        May be told again and again; an unknown condition says nothing.
        """
        kind = AlertKind.HEALTH_CHECK_FAILED
        if health is Health.HEALTHY:
            self._good(now, kind, subject)
            return self.tick(now)
        if health is Health.UNKNOWN:
            return self.tick(now)
        severity = Severity.CRITICAL if serving == 0 else Severity.WARNING
        left = {} if serving is None else {"serving": serving}
        title = f"{subject.name} is unhealthy"
        return self._bad(now, kind, subject, severity, title, reason, {"reason": bounded(reason), **left})

    def crash(self, now: float, subject: Subject, crash: Crash) -> list[AlertEvent]:
        """A container ended. Tell each end once; `subject.key` must outlive the container if it is replaced."""
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
        return self._bad(
            now, AlertKind.CONTAINER_CRASH, subject, severity, title, _in_words(crash), metadata, again=True
        )

    def up(self, now: float, subject: Subject) -> list[AlertEvent]:
        """A container was seen running since its last end. In a crash loop it runs, too: only time ends the episode."""
        self._good(now, AlertKind.CONTAINER_CRASH, subject)
        return self.tick(now)

    def resource(self, now: float, subject: Subject, percent: float, *, levels: Levels = DISK) -> list[AlertEvent]:
        """How much of a resource is used, 0 to 100."""
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
        return self._bad(now, kind, subject, severity, title, message, metadata, louder=True)

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
        """A deployment, or `what` was done with it, failed. Another deployment is news; the same told twice is not."""
        key = (AlertKind.DEPLOYMENT_FAILED, subject.key)
        known = self._open.get(key)
        metadata: dict[str, MetadataValue] = {"deployment_id": deployment_id, **({"code": code} if code else {})}
        if known is not None and known.metadata.get("deployment_id") == deployment_id:
            return self.tick(now)
        self._open.pop(key, None)
        title = f"{what} of {subject.name} failed"
        return self._bad(now, AlertKind.DEPLOYMENT_FAILED, subject, Severity.WARNING, title, message, metadata)

    def deployed(self, now: float, subject: Subject) -> list[AlertEvent]:
        """A deployment of the service succeeded."""
        episode = self._open.get((AlertKind.DEPLOYMENT_FAILED, subject.key))
        ended = [] if episode is None else [self._end(episode, now, "a later deployment succeeded", "is deployed")]
        return [*ended, *self.tick(now)]

    def restarted(self, now: float, subject: Subject, deployment_id: DeploymentId) -> list[AlertEvent]:
        """The service was restarted: that makes good what failed with the same deployment."""
        episode = self._open.get((AlertKind.DEPLOYMENT_FAILED, subject.key))
        if episode is None or episode.metadata.get("deployment_id") != deployment_id:
            return self.tick(now)
        return [self._end(episode, now, "a later restart succeeded", "is restarted"), *self.tick(now)]

    def forget(
        self, now: float, key: str, reason: str, kinds: Sequence[AlertKind] = tuple(AlertKind)
    ) -> list[AlertEvent]:
        """What `key` names is no longer there or no longer watched: its episodes are over, for that reason."""
        known = [episode for kind in kinds if (episode := self._open.get((kind, key))) is not None]
        return [*(self._end(episode, now, reason, "is no longer watched") for episode in known), *self.tick(now)]

    @staticmethod
    def _recovery(episode: Episode) -> tuple[str, str]:
        """Message and title of an episode that time has ended."""
        if episode.kind is AlertKind.CONTAINER_CRASH:
            return f"it stays up, after {_times(episode.times)}", "runs again"
        return f"its health check has passed for {HOLD_SECS:g} s", "is healthy again"

    def _bad(
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
        """The condition holds. `again`: each call is one more time; `louder`: a higher severity is announced, too."""
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
            # To give up another for it would announce that one anew with the next look, and so on without an end.
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

    def _good(self, now: float, kind: AlertKind, subject: Subject) -> None:
        """The condition does not hold; with time that ends the episode."""
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
    """When time ends an episode; None when it does not."""
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


def _in_words(crash: Crash) -> str:
    words = ["it ran out of memory and was killed"] if crash.oom_killed else []
    if crash.exit_code is not None:
        words.append(f"it exited with code {crash.exit_code}{f' after {crash.signal}' if crash.signal else ''}")
    sentence = ", ".join(words) or "it ended"
    return f"{sentence}: {crash.error}" if crash.error else sentence


def _times(count: int) -> str:
    return "one crash" if count == 1 else f"{count} crashes"
