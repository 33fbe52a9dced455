"""Alerts: one per episode with its recovery, whatever flaps."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.health.episodes import (
    CALM_SECS,
    HOLD_SECS,
    AlertEvent,
    AlertKind,
    Crash,
    Episodes,
    Levels,
    Severity,
    Subject,
)
from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.status import Health
from syntra.utils.errors import AgentError

UNKNOWN, HEALTHY, UNHEALTHY = Health.UNKNOWN, Health.HEALTHY, Health.UNHEALTHY
WEB = Subject(key="web-1", name="web 1", service_id=ServiceId("svc_web"))
DISK = Subject(key="/var/lib", name="the disk of /var/lib")
SERVICE = Subject(key="svc_web", name="web", service_id=ServiceId("svc_web"))
CRASH = Crash(exit_code=137, oom_killed=True, last_lines=("starting", "allocating"))


def said(events: list[AlertEvent]) -> list[tuple[AlertKind, Severity, bool]]:
    return [(event.kind, event.severity, event.recovered) for event in events]


def test_an_unhealthy_replica_is_one_alert_and_one_recovery() -> None:
    episodes = Episodes()
    (begun,) = episodes.health(100, WEB, UNHEALTHY, "connection refused at 172.18.0.2:80", serving=1)
    assert begun == AlertEvent(
        kind=AlertKind.HEALTH_CHECK_FAILED,
        severity=Severity.WARNING,
        title="web 1 is unhealthy",
        message="connection refused at 172.18.0.2:80",
        recovered=False,
        metadata={"reason": "connection refused at 172.18.0.2:80", "serving": 1},
        service_id=ServiceId("svc_web"),
    )
    assert episodes.health(110, WEB, UNHEALTHY, "still", serving=0) == []
    assert episodes.health(120, WEB, HEALTHY, "HTTP 200") == [] and episodes.next_at == 120 + HOLD_SECS
    assert episodes.tick(120 + HOLD_SECS - 0.1) == []
    (over,) = episodes.tick(120 + HOLD_SECS)
    assert over.recovered and over.title == "web 1 is healthy again" and over.severity is Severity.WARNING
    assert over.metadata["times"] == 1 and over.metadata["lasted_secs"] == 20.0
    assert episodes.opened == () and Episodes(episodes.opened).next_at is None and episodes.tick(1e9) == []


def test_a_flapping_replica_is_one_episode() -> None:
    episodes = Episodes()
    events: list[AlertEvent] = []
    for turn in range(20):
        health = UNHEALTHY if turn % 2 == 0 else HEALTHY
        events += episodes.health(turn * (HOLD_SECS - 1), WEB, health, "x")
    assert said(events) == [(AlertKind.HEALTH_CHECK_FAILED, Severity.WARNING, False)]
    (over,) = episodes.tick(1e6)
    assert over.recovered and over.metadata["times"] == 10


def test_what_comes_back_after_the_end_is_a_new_episode_though_nobody_ticked() -> None:
    episodes = Episodes()
    episodes.health(0, WEB, UNHEALTHY, "x")
    episodes.health(10, WEB, HEALTHY, "x")
    events = episodes.health(10 + HOLD_SECS, WEB, UNHEALTHY, "y")
    assert [event.recovered for event in events] == [True, False]


def test_when_nothing_serves_any_more_it_is_critical() -> None:
    (begun,) = Episodes().health(0, WEB, UNHEALTHY, "x", serving=0)
    assert begun.severity is Severity.CRITICAL


def test_an_unknown_condition_neither_begins_nor_ends_anything() -> None:
    episodes = Episodes()
    assert episodes.health(0, WEB, UNKNOWN, "x") == []
    episodes.health(1, WEB, UNHEALTHY, "x")
    assert episodes.health(2, WEB, UNKNOWN, "x") == [] and episodes.tick(1e9) == []


def test_a_crash_tells_code_memory_and_last_lines() -> None:
    (event,) = Episodes().crash(0, WEB, CRASH)
    assert said([event]) == [(AlertKind.CONTAINER_CRASH, Severity.CRITICAL, False)]
    assert event.title == "web 1 ran out of memory"
    assert event.message == "it ran out of memory and was killed, it exited with code 137"
    assert event.metadata == {"exit_code": 137, "oom_killed": True, "last_lines": ("starting", "allocating")}


@pytest.mark.parametrize(
    ("crash", "message", "severity"),
    [
        (Crash(exit_code=1, oom_killed=False), "it exited with code 1", Severity.CRITICAL),
        (Crash(exit_code=0, oom_killed=False), "it exited with code 0", Severity.WARNING),
        (Crash(exit_code=None, oom_killed=False), "it ended", Severity.CRITICAL),
        (
            Crash(exit_code=128, oom_killed=False, error="port is taken"),
            "it exited with code 128: port is taken",
            Severity.CRITICAL,
        ),
    ],
)
def test_every_kind_of_end_is_said_in_words(crash: Crash, message: str, severity: Severity) -> None:
    (event,) = Episodes().crash(0, WEB, crash)
    assert (event.title, event.message, event.severity) == ("web 1 crashed", message, severity)
    assert ("exit_code" in event.metadata) is (crash.exit_code is not None)


def test_a_crash_loop_is_one_episode_that_ends_after_calm() -> None:
    episodes = Episodes()
    events: list[AlertEvent] = []
    for turn in range(30):
        events += episodes.crash(turn * 60, WEB, CRASH)
        events += episodes.up(turn * 60 + 1, WEB)
    assert len(events) == 1
    last_up = 29 * 60 + 1
    assert episodes.tick(last_up + CALM_SECS - 1) == []
    (over,) = episodes.up(last_up + CALM_SECS, WEB)
    assert (over.title, over.message) == ("web 1 runs again", "it stays up, after 30 crashes")
    assert over.metadata["times"] == 30 and over.metadata["exit_code"] == 137


def test_lines_and_texts_are_bounded() -> None:
    crash = Crash(exit_code=1, oom_killed=False, last_lines=("x" * 10_000,) * 500, error="e" * 10_000)
    (event,) = Episodes().crash(0, dataclasses.replace(WEB, name="n" * 1000), crash)
    lines = event.metadata["last_lines"]
    assert isinstance(lines, tuple) and len(lines) == 20 and {len(line) for line in lines} == {500}
    assert len(event.message.encode()) <= 512 and len(event.title) <= 120


def test_last_lines_are_in_no_representation_of_a_crash() -> None:
    assert "allocating" not in repr(CRASH)


def levels(*percents: float) -> list[tuple[Severity, bool]]:
    episodes = Episodes()
    events = [event for at, percent in enumerate(percents) for event in episodes.resource(at, DISK, percent)]
    assert {event.kind for event in events} <= {AlertKind.RESOURCE_CRITICAL}
    return [(event.severity, event.recovered) for event in events]


WARNED, ALARMED = (Severity.WARNING, False), (Severity.CRITICAL, False)


@pytest.mark.parametrize(
    ("percents", "events"),
    [
        ((84.9, 0, 50), []),
        ((85.0,), [WARNED]),
        ((86, 90, 94.9, 88), [WARNED]),
        ((95.0,), [ALARMED]),
        ((86, 96, 97), [WARNED, ALARMED]),
        ((96, 94, 96, 94, 96), [ALARMED]),
        ((86, 84, 86, 83.0, 86), [WARNED]),
        ((86, 82.9), [WARNED, (Severity.WARNING, True)]),
        ((86, 96, 82), [WARNED, ALARMED, (Severity.CRITICAL, True)]),
        ((86, 82, 86, 82), [WARNED, (Severity.WARNING, True)] * 2),
    ],
)
def test_a_resource_speaks_at_each_level_once_and_recovers_below_the_gap(
    percents: tuple[float, ...], events: list[tuple[Severity, bool]]
) -> None:
    assert levels(*percents) == events


def test_a_resource_tells_its_figures() -> None:
    (event,) = Episodes().resource(0, DISK, 96.04)
    assert event.message == "96.0 % of the disk of /var/lib are used, the alert is at 95 %; free some space"
    assert event.metadata == {"resource": "/var/lib", "used_percent": 96.0} and event.service_id is None


@pytest.mark.parametrize("wrong", [{"gap": 0.0}, {"warning": 96.0}, {"gap": 90.0}])
def test_levels_without_a_meaning_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(AgentError, match="cannot watch a resource"):
        Levels(**wrong)


def test_each_failed_deployment_is_one_alert_and_a_success_is_one_recovery() -> None:
    episodes = Episodes()
    first, second = DeploymentId("dep_1"), DeploymentId("dep_2")
    (event,) = episodes.deployment_failed(0, SERVICE, first, "cannot pull", code="PULL_FAILED")
    assert event.metadata == {"deployment_id": "dep_1", "code": "PULL_FAILED"}
    assert (event.title, event.message) == ("deployment of web failed", "cannot pull")
    assert episodes.deployment_failed(1, SERVICE, first, "told again") == []
    assert len(episodes.deployment_failed(2, SERVICE, second, "cannot start")) == 1
    (over,) = episodes.deployed(3, SERVICE)
    assert over.recovered and over.metadata["deployment_id"] == "dep_2"
    assert episodes.deployed(4, SERVICE) == []


def test_what_is_no_longer_watched_ends_its_episodes_with_the_reason() -> None:
    episodes = Episodes()
    episodes.health(0, WEB, UNHEALTHY, "x")
    episodes.crash(1, WEB, CRASH)
    episodes.resource(2, DISK, 99)
    only = episodes.forget(3, WEB.key, "it was removed", [AlertKind.CONTAINER_CRASH])
    assert said(only) == [(AlertKind.CONTAINER_CRASH, Severity.CRITICAL, True)]
    (over,) = episodes.forget(4, WEB.key, "it was removed")
    assert (over.title, over.message) == ("web 1 is no longer watched", "it was removed")
    assert episodes.forget(5, WEB.key, "it was removed") == []
    assert [episode.subject for episode in episodes.opened] == [DISK]


def test_kinds_and_keys_are_apart() -> None:
    episodes = Episodes()
    other = dataclasses.replace(WEB, key="web-2")
    assert len(episodes.health(0, WEB, UNHEALTHY, "x")) == 1
    assert len(episodes.health(0, other, UNHEALTHY, "x")) == 1
    assert len(episodes.crash(0, WEB, CRASH)) == 1
    assert episodes.health(1, WEB, HEALTHY, "x") == [] and len(episodes.tick(1e6)) == 1
    assert len(episodes.opened) == 2


def test_when_too_many_are_open_another_says_nothing_and_those_are_not_told_again() -> None:
    episodes = Episodes(most_open=3)
    told = [
        event
        for number in range(50)
        for event in episodes.health(number, dataclasses.replace(WEB, key=str(number % 5)), UNHEALTHY, "x")
    ]
    assert len(told) == 3
    assert [episode.subject.key for episode in episodes.opened] == ["0", "1", "2"] and episodes.dropped == 20
    episodes.forget(50, "0", "gone")
    assert len(episodes.health(51, dataclasses.replace(WEB, key="4"), UNHEALTHY, "x")) == 1
    with pytest.raises(AgentError, match="cannot keep 0 open alerts"):
        Episodes(most_open=0)


def test_episodes_outlive_their_keeper() -> None:
    before = Episodes()
    before.health(0, WEB, UNHEALTHY, "x")
    before.crash(0, WEB, CRASH)
    after = Episodes(before.opened)
    assert after.health(10, WEB, UNHEALTHY, "x") == [] and after.crash(10, WEB, CRASH) == []
    after.health(20, WEB, HEALTHY, "x")
    assert said(after.tick(60)) == [(AlertKind.HEALTH_CHECK_FAILED, Severity.WARNING, True)]


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["bad", "good", "crash", "up", "disk", "failed", "deployed", "forget", "tick"]),
        st.integers(0, 3),
        st.floats(0, 100),
        st.floats(0, 400),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(calls=CALLS)
def test_begins_and_ends_take_turns_and_what_is_open_was_announced(calls: list[tuple[str, int, float, float]]) -> None:
    episodes = Episodes()
    now = 0.0
    announced: dict[tuple[AlertKind, str], list[AlertEvent]] = {}
    for what, number, percent, later in calls:
        now += later
        subject = Subject(key=str(number), name=str(number))
        match what:
            case "bad" | "good":
                events = episodes.health(now, subject, UNHEALTHY if what == "bad" else HEALTHY, "x")
            case "crash":
                events = episodes.crash(now, subject, CRASH)
            case "up":
                events = episodes.up(now, subject)
            case "disk":
                events = episodes.resource(now, subject, percent)
            case "failed":
                events = episodes.deployment_failed(now, subject, DeploymentId("one"), "x")
            case "deployed":
                events = episodes.deployed(now, subject)
            case "forget":
                events = episodes.forget(now, subject.key, "removed")
            case _:
                events = episodes.tick(now)
        for event in events:
            # All subjects are told apart by the name at the title's place.
            name = next(key for key in "0123" if key in event.title.split())
            announced.setdefault((event.kind, name), []).append(event)
        assert episodes.next_at is None or episodes.next_at > now
    for told in announced.values():
        assert not told[0].recovered
        for one, after in itertools.pairwise(told):
            rises = one.severity is Severity.WARNING and after.severity is Severity.CRITICAL
            assert after.recovered != one.recovered or (rises and not after.recovered)
    still = {key for key, told in announced.items() if not told[-1].recovered}
    assert still == {(episode.kind, episode.subject.key) for episode in episodes.opened}
