"""Why a new pod does not become ready, and whether waiting can help. Pure.

The signals are reasons of the kubelet and the scheduler (kubelet/images/types.go, kubelet/container/sync_result.go,
api/core/v1/types.go). A progress deadline alone would end the wait minutes later, without a reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from syntra.runtime.docker.errors import PullFailed, PullFailure
from syntra.runtime.docker.pull import classify
from syntra.runtime.kubernetes.objects import Object, condition, integer, is_true, items, mapping, name, seconds, text
from syntra.runtime.kubernetes.pod_events import first_seen, last_seen, message_of, one_line, times, told
from syntra.utils.frozen import frozen

CONFIG_SECS = 5.0
"""A container that cannot be created or started may wait for another object for so long, or for one more try."""
PULL_SECS = 60.0
"""So long a registry may be unreachable."""
SCHEDULING_SECS = 60.0
CRASHES = 3
OOM_KILLS = 2

_INVALID = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
# The runtime could not start the container's program.
_START_ERRORS = frozenset({"StartError", "ContainerCannotRun"})
_MAY_PASS = frozenset({PullFailure.UNREACHABLE, PullFailure.RATE_LIMITED, PullFailure.STALLED, PullFailure.OTHER})


@frozen
class Trouble:
    """What keeps a pod from becoming ready. `is_final`: waiting does not help."""

    code: str
    sentence: str
    words: str
    """The pod's own words, short."""
    is_final: bool


def trouble(pod: Object, events: Sequence[Object], *, now: float, since: float) -> Trouble | None:
    """The first trouble of a pod; None when it is ready or on its way. `events` are the pod's, oldest first."""
    found = list(_troubles(pod, events, now=now, since=since))
    return next((one for one in found if one.is_final), found[0] if found else None)


def words_of(pod: Object) -> str:
    """What the pod says of itself, short; empty when it is ready."""
    if text(condition(pod, "Ready"), "status") == "True":
        return ""
    for status in _containers(pod):
        waiting = mapping(status, "state", "waiting")
        if reason := text(waiting, "reason"):
            return reason
    if any(mapping(status, "state", "running") for status in _containers(pod)):
        return "running, not ready"
    return text(pod, "status", "phase") or "no status"


def is_running_unready(pod: Object) -> bool:
    """Whether the pod's container runs and its readiness is what is missing."""
    statuses = items(pod, "status", "containerStatuses")
    return any(mapping(status, "state", "running") and not is_true(status, "ready") for status in statuses)


def unready_secs(pod: Object, *, now: float) -> float:
    """For how long a container has run unready beyond what its readiness check may take to fail; 0 when none has."""
    longest = 0.0
    for status in items(pod, "status", "containerStatuses"):
        started, probe = seconds(status, "state", "running", "startedAt"), _probe(pod, status)
        if started is not None and probe and not is_true(status, "ready"):
            longest = max(longest, now - started - _patience(probe))
    return longest


def unhealthy(pod: Object, events: Sequence[Object], otherwise: str) -> Trouble:
    """The trouble of a pod that runs and does not become ready. Without an event, the reason is `otherwise`."""
    failed = [event for event in events if text(event, "reason") == "Unhealthy"]
    said = one_line(message_of(failed[-1])) if failed else otherwise
    return Trouble(
        code="HEALTH_CHECK_FAILED",
        sentence=f"{name(pod)}: {said}; see its log, and whether health_check fits (path, port, retries)",
        words=said,
        is_final=True,
    )


def _troubles(pod: Object, events: Sequence[Object], *, now: float, since: float) -> Iterator[Trouble]:
    yield from _scheduling(pod, events, now=now, since=since)
    for status in _containers(pod):
        waiting = mapping(status, "state", "waiting")
        reason, message = text(waiting, "reason"), text(waiting, "message")
        if reason in _INVALID:
            yield _invalid_image(status, reason, message)
        elif reason in ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"):
            yield _pull(pod, status, reason, events, now=now, since=since)
        elif reason in _CONFIG:
            yield _config(pod, reason, message, events, now=now, since=since)
        else:
            yield from _crashes(pod, status, reason)
    yield from _probes(pod, events, now=now)


def _scheduling(pod: Object, events: Sequence[Object], *, now: float, since: float) -> Iterator[Trouble]:
    scheduled = condition(pod, "PodScheduled")
    if text(scheduled, "status") != "False" or text(scheduled, "reason") != "Unschedulable":
        return
    message = one_line(text(scheduled, "message"))
    began = max(since, seconds(scheduled, "lastTransitionTime") or since)
    # A cluster autoscaler brings another node.
    is_scaling = any(text(event, "reason") == "TriggeredScaleUp" for event in events)
    yield Trouble(
        code="START_FAILED",
        sentence=f"cannot start {name(pod)}: no node takes it: {message}; lower what the service reserves (cpu, "
        "memory), or add a node",
        words=f"Unschedulable: {message}",
        is_final=not is_scaling and now - began >= SCHEDULING_SECS,
    )


def _invalid_image(status: Object, reason: str, message: str) -> Trouble:
    return Trouble(
        code="PULL_FAILED",
        sentence=f"cannot pull {text(status, 'image')}: {one_line(message) or reason}; correct the image",
        words=_worded(reason, message),
        is_final=True,
    )


def _pull(pod: Object, status: Object, reason: str, events: Sequence[Object], *, now: float, since: float) -> Trouble:
    failed = [event for event in events if text(event, "reason") == "Failed"]
    # Before Kubernetes 1.32 the state of a pull that backs off says nothing but that.
    said = next(
        (
            message_of(event)
            for event in reversed(failed)
            if "ull" in message_of(event) and "desc =" in message_of(event)
        ),
        "",
    )
    message = text(status, "state", "waiting", "message")
    if not said or "desc =" in message:
        said = message
    image = text(status, "image")
    kind = classify(said, repository=_repository(image))
    began = min((first_seen(event) for event in failed), default=_born(pod, since))
    is_over = now - max(began, since) >= PULL_SECS
    short = one_line(said.rpartition("desc = ")[2])
    return Trouble(
        code="PULL_FAILED",
        sentence=str(PullFailed(image, kind, short)),
        words=_worded(reason, short),
        # A back-off follows at least one more try.
        is_final=is_over or (reason == "ImagePullBackOff" and kind not in _MAY_PASS),
    )


def _config(pod: Object, reason: str, message: str, events: Sequence[Object], *, now: float, since: float) -> Trouble:
    failed = [event for event in events if text(event, "reason") == "Failed"]
    began = min((first_seen(event) for event in failed), default=_born(pod, since))
    is_over = now - max(began, since) >= CONFIG_SECS or any(times(event) >= 2 for event in failed)
    is_start = reason == "RunContainerError"
    return Trouble(
        code="START_FAILED" if is_start else "CREATE_FAILED",
        sentence=f"cannot {'start' if is_start else 'create'} the container of {name(pod)}: "
        f"{one_line(message) or reason}; correct the service and deploy it again",
        words=_worded(reason, message),
        is_final=is_over,
    )


def _crashes(pod: Object, status: Object, reason: str) -> Iterator[Trouble]:
    last = mapping(status, "state", "terminated") or mapping(status, "lastState", "terminated")
    if not last or mapping(status, "state", "running"):
        return
    restarts = integer(status, "restartCount")
    exit_code, ended = integer(last, "exitCode"), text(last, "reason")
    if ended in _START_ERRORS:
        message = one_line(text(last, "message")) or f"{ended}, exit code {exit_code}"
        yield Trouble(
            code="START_FAILED",
            sentence=f"cannot start the container of {name(pod)}: {message}; check command and entrypoint",
            words=f"{ended}: {message}",
            is_final=restarts >= 1,
        )
        return
    # While the kubelet waits for the next start it shows the ended run most of the time, CrashLoopBackOff now and then.
    has_ended = reason == "CrashLoopBackOff" or bool(mapping(status, "state", "terminated"))
    ends = restarts + (1 if has_ended else 0)
    is_oom = ended == "OOMKilled"
    how = "was killed for using more memory than its limit" if is_oom else f"exited with code {exit_code}"
    if not is_oom and ended not in ("", "Error", "Completed"):
        how += f" ({ended})"
    step = "raise the memory limit, or see its log" if is_oom else "see its log"
    times_text = f", {restarts} restarts" if restarts else ""
    yield Trouble(
        code="CONTAINER_CRASHED",
        sentence=f"{name(pod)}: the container {how}{times_text}; {step}",
        words=f"{reason or 'Terminated'}: {how}{times_text}",
        is_final=has_ended and ends >= (OOM_KILLS if is_oom else CRASHES),
    )


def _probes(pod: Object, events: Sequence[Object], *, now: float) -> Iterator[Trouble]:
    """A check that failed as often as it may. Docker's replicas fail a deploy then; a cluster would try for ever."""
    if any("failed startup probe" in message_of(event) for event in events if text(event, "reason") == "Killing"):
        yield unhealthy(pod, events, "failed its startup probe")
    for status in items(pod, "status", "containerStatuses"):
        started = seconds(status, "state", "running", "startedAt")
        failed = [
            event
            for event in events
            if text(event, "reason") == "Unhealthy"
            and message_of(event).startswith("Readiness probe")
            and started is not None
            and last_seen(event) >= started
        ]
        if started is None or is_true(status, "ready") or not failed:
            continue
        patience = _patience(_probe(pod, status))
        began = max(started, min(first_seen(event) for event in failed))
        yield replace(unhealthy(pod, failed, ""), is_final=now - began >= patience)


def _probe(pod: Object, status: Object) -> Object:
    return mapping(_spec_of(pod, status), "readinessProbe")


def _patience(probe: Object) -> int:
    return integer(probe, "periodSeconds", default=10) * integer(probe, "failureThreshold", default=3)


def _spec_of(pod: Object, status: Object) -> Object:
    own = (one for one in items(pod, "spec", "containers") if text(one, "name") == text(status, "name"))
    return next(own, {})


def explain(pod: Object, events: Sequence[Object]) -> str:
    """What the pod's last exit and its events say, for the details of a failure."""
    lines = []
    for status in _containers(pod):
        last = mapping(status, "state", "terminated") or mapping(status, "lastState", "terminated")
        if last:
            reason, message = text(last, "reason"), one_line(text(last, "message"))
            of = f"container {text(status, 'name')}: last exit code {integer(last, 'exitCode')}"
            lines.append(": ".join(part for part in (of, reason, message) if part))
    return "\n".join(part for part in (*lines, told(events)) if part)


def _containers(pod: Object) -> tuple[Object, ...]:
    return (*items(pod, "status", "initContainerStatuses"), *items(pod, "status", "containerStatuses"))


def _born(pod: Object, since: float) -> float:
    return seconds(pod, "metadata", "creationTimestamp") or since


def _repository(image: str) -> str:
    name_and_tag = image.partition("@")[0]
    head, colon, tag = name_and_tag.rpartition(":")
    return head if colon and "/" not in tag else name_and_tag


def _worded(reason: str, message: str) -> str:
    line = one_line(message)
    return f"{reason}: {line}" if line else reason
