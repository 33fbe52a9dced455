"""Ends of containers as the engine's events tell them: what was asked for is none."""

from __future__ import annotations

from collections.abc import Mapping

from syntra.runtime.docker.exits import ExitTracker
from syntra.runtime.docker.records import EngineEvent

LABELS = {
    "syntra.managed": "true",
    "syntra.owner": "me",
    "syntra.service_id": "web",
    "syntra.deployment_id": "d1",
    "syntra.replica": "2",
}
SEC = 1_000_000_000


def event(
    action: str, at: float = 100.0, container: str = "a", labels: Mapping[str, str] = LABELS, **attributes: str
) -> EngineEvent:
    labels = {**labels, **attributes}
    return EngineEvent(type="container", action=action, id=container, attributes=labels, time_nano=int(at * SEC))


def told(ends: ExitTracker, *events: EngineEvent) -> list[tuple[str, int | None, bool, str]]:
    for one in events:
        ends.feed(one)
    return [(end.container_id, end.exit_code, end.oom_killed, end.signal) for end in ends.drain().ended]


def test_an_end_by_itself_is_told_with_its_code_and_place() -> None:
    ends = ExitTracker("me")
    ends.feed(event("die", exitCode="7"))
    [end] = ends.drain().ended
    assert (end.service_id, end.deployment_id, end.index, end.exit_code, end.signal) == ("web", "d1", 2, 7, "")
    assert ends.drain().ended == ()


def test_a_container_that_is_no_replica_ends_without_news() -> None:
    release = {**LABELS, "syntra.kind": "release"}
    assert told(ExitTracker("me"), event("die", labels=release, exitCode="3")) == []


def test_what_we_ask_for_is_not_told_and_what_comes_after_is() -> None:
    ends = ExitTracker("me")
    ends.expected("a", 100 * SEC)
    stop = (event("kill", 101, signal="15"), event("die", 102, exitCode="0"), event("stop", 102))
    assert told(ends, *stop) == []
    assert told(ends, event("start", 103), event("die", 104, exitCode="1")) == [("a", 1, False, "")]
    ends.expected("a", 110 * SEC)
    restart = (event("kill", 111, signal="15"), event("die", 112, exitCode="143"), event("start", 113))
    assert told(ends, *restart, event("restart", 113)) == []
    assert told(ends, event("die", 114, exitCode="1")) == [("a", 1, False, "")]


def test_a_start_that_is_told_late_does_not_undo_the_question() -> None:
    ends = ExitTracker("me")
    ends.expected("a", 100 * SEC)
    assert told(ends, event("start", 99.9), event("die", 101, exitCode="0")) == []


def test_another_hand_is_told_by_its_signal_but_a_wish_to_reload_is_none() -> None:
    ends = ExitTracker("me")
    assert told(ends, event("kill", signal="15"), event("kill", signal="9"), event("die", exitCode="137")) == [
        ("a", 137, False, "SIGKILL")
    ]
    assert told(ends, event("start"), event("kill", signal="1"), event("die", exitCode="1")) == [("a", 1, False, "")]
    assert told(ends, event("start"), event("kill", signal="SIGTERM"), event("die", exitCode="0")) == [
        ("a", 0, False, "SIGTERM")
    ]


def test_an_oom_is_about_the_end_that_follows_soon() -> None:
    ends = ExitTracker("me")
    assert told(ends, event("oom", 100), event("die", 100.1, exitCode="137")) == [("a", 137, True, "")]
    assert told(ends, event("start", 101), event("oom", 102), event("die", 200, exitCode="1")) == [("a", 1, False, "")]
    assert told(ends, event("oom", 300), event("start", 301), event("die", 302, exitCode="1")) == [("a", 1, False, "")]


def test_containers_of_others_and_without_our_labels_are_not_ours() -> None:
    ends = ExitTracker("me")
    assert told(ends, event("die", labels={**LABELS, "syntra.owner": "you"}, exitCode="1")) == []
    bare = EngineEvent(type="container", action="die", id="a", attributes={"syntra.owner": "me"}, time_nano=0)
    assert told(ends, bare) == []


def test_what_is_missed_is_said() -> None:
    ends = ExitTracker("me", most=2)
    assert not ends.drain().complete, "nobody knows what was before"
    assert ends.drain().complete
    ends.gap()
    assert not ends.drain().complete
    for number in range(3):
        ends.feed(event("die", container=str(number), exitCode="1"))
    kept = ends.drain()
    assert ([end.container_id for end in kept.ended], kept.complete, ends.dropped) == (["1", "2"], False, 1)


def test_odd_attributes_do_no_harm() -> None:
    ends = ExitTracker("me")
    ends.feed(event("die", labels={**LABELS, "syntra.replica": "x"}, exitCode="-"))
    [end] = ends.drain().ended
    assert (end.index, end.exit_code) == (1, None)


def test_digits_without_end_do_no_harm() -> None:
    ends = ExitTracker("me")
    ends.feed(event("die", labels={**LABELS, "syntra.replica": "9" * 5000}, exitCode="9" * 5000))
    [end] = ends.drain().ended
    assert (end.index, end.exit_code) == (1, None)


def test_a_signal_that_ended_nothing_says_nothing_about_a_crash_much_later() -> None:
    ends = ExitTracker("me")
    # A Java program answers SIGQUIT with its threads, and goes on.
    assert told(ends, event("kill", 100, signal="3"), event("die", 100 + 86_400, exitCode="1")) == [("a", 1, False, "")]
    stop = (event("kill", 100, signal="15"), event("die", 100 + 300, exitCode="0"))
    assert told(ends, event("start", 99), *stop) == [("a", 0, False, "SIGTERM")]


def test_the_end_of_what_only_looks_like_ours_is_no_news() -> None:
    ends = ExitTracker("me", is_ours={"a": True, "copy": False}.get)
    ends.drain()
    ends.feed(event("die", container="copy", exitCode="1"))
    ends.feed(event("die", container="a", exitCode="2"))
    drained = ends.drain()
    assert [end.container_id for end in drained.ended] == ["a"]
    assert drained.complete
    # One that was never looked at: whoever asks compares.
    ends.feed(event("die", container="unknown", exitCode="1"))
    drained = ends.drain()
    assert (drained.ended, drained.complete) == ((), False)
