"""The events about pods and ReplicaSets, as the cluster's own words for what is wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from syntra.runtime.kubernetes.objects import Object, integer, mapping, name, seconds, text

MAX_LINES = 10
MAX_LINE = 500

_TOLD = frozenset(
    {
        *("BackOff", "Failed", "FailedAttachVolume", "FailedCreate", "FailedCreatePodSandBox", "FailedMount"),
        *("FailedScheduling", "Unhealthy"),
    }
)


def of_object(events: Iterable[Object], obj: Object) -> list[Object]:
    """The events about an object, oldest first. An event that names a uid is about that object alone."""
    uid, own = text(obj, "metadata", "uid"), name(obj)
    found = []
    for event in events:
        about = mapping(event, "involvedObject") or mapping(event, "regarding")
        about_uid = text(about, "uid")
        if (about_uid == uid) if about_uid and uid else text(about, "name") == own:
            found.append(event)
    return sorted(found, key=last_seen)


def told(events: Sequence[Object]) -> str:
    """What the events say went wrong, one line for each text; empty when none does."""
    lines = dict.fromkeys(
        f"{text(event, 'reason')}: {one_line(message_of(event))}"
        for event in events
        if text(event, "reason") in _TOLD and text(event, "type") != "Normal"
    )
    return "\n".join(list(lines)[-MAX_LINES:])


def message_of(event: Object) -> str:
    """The event's text."""
    return text(event, "message") or text(event, "note")


def first_seen(event: Object) -> float:
    """When it happened first, in epoch seconds."""
    return _time(event, "firstTimestamp")


def last_seen(event: Object) -> float:
    """When it happened last, in epoch seconds."""
    return _time(event, "lastTimestamp")


def times(event: Object) -> int:
    """How often it happened."""
    return max(integer(event, "count"), integer(event, "series", "count"), 1)


def one_line(words: str) -> str:
    """The text in one line of limited length."""
    line = " ".join(words.split())
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…"


def _time(event: Object, own: str) -> float:
    found = (seconds(event, key) for key in (own, "eventTime"))
    given = next((at for at in found if at is not None), None)
    return given if given is not None else seconds(event, "metadata", "creationTimestamp") or 0.0
