"""The session against a pure control plane in virtual time, and against everything hypothesis can think of."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.connection.effects import Abort, Close, Deliver, Dial, Effect, Ignored, Lost, Ready, RequestHeartbeat, Send
from syntra.connection.retry import DialFailure, FailureKind, RetryPolicy
from syntra.connection.session import EARLY_PINGS_MAX, TRANSITIONS, Event, State
from tests.connection.halves import HELLO, ControlPlane, Pair, frame, make_session


def ready_pair(**peer: Any) -> Pair:
    pair = Pair(make_session(), ControlPlane(**peer)).start()
    assert pair.state() is State.READY
    return pair


# The way in


def test_hello_is_the_first_frame_and_a_heartbeat_follows_the_ack() -> None:
    pair = ready_pair()
    assert pair.peer.types() == ["agent_hello", "heartbeat"]
    assert pair.peer.heard[0]["payload"] == HELLO
    assert pair.dials == [1000.0]


def test_nothing_but_hello_leaves_before_the_ack() -> None:
    pair = Pair(make_session(), ControlPlane(ack=None)).start()
    for text in (frame("ping"), frame("deploy"), frame("pong"), "garbage", frame("teleport")):
        pair.receive(text)
    assert pair.session.heartbeat_ready({}, pair.now) == []
    pair.pass_time(20.0)
    assert pair.peer.types() == ["agent_hello"]
    assert pair.delivered == []


def test_early_pings_are_answered_right_after_the_ack_and_other_early_messages_are_dropped() -> None:
    pair = Pair(make_session(), ControlPlane(ack=None)).start()
    for number in range(EARLY_PINGS_MAX + 5):
        pair.receive(frame("ping", id=f"early-{number}"))
    pair.receive(frame("deploy"))
    pair.receive(frame("hello_ack"))
    pongs = [message["id"] for message in pair.peer.heard if message["type"] == "pong"]
    assert pongs == [f"early-{number}" for number in range(EARLY_PINGS_MAX)]
    assert pair.delivered == []
    assert pair.count(Ignored) == 1


def test_a_missing_ack_ends_the_connection_after_thirty_seconds() -> None:
    pair = Pair(make_session(), ControlPlane(ack=None)).start()
    pair.pass_time(29.9)
    assert pair.state() is State.HELLO_SENT
    pair.peer.endpoints = False
    pair.pass_time(0.1)
    assert pair.state() is State.DISCONNECTED
    assert pair.session.verdict is not None
    assert "no hello_ack within 30 s" in pair.session.verdict.sentence
    assert pair.count(Lost) == 0


def test_a_refused_hello_closes_and_is_retried_slowly() -> None:
    pair = Pair(make_session(), ControlPlane(ack={"accepted": False, "reason": "server was deleted"})).start()
    assert Close(code=1000, reason="hello was refused") in pair.log
    assert pair.session.verdict is not None
    assert pair.session.verdict.policy is RetryPolicy.SLOW
    assert "server was deleted" in pair.session.verdict.sentence
    assert pair.session.next_dial == pair.now + 30
    pair.pass_time(10_000)
    gaps = [after - before for before, after in zip(pair.dials, pair.dials[1:], strict=False)]
    assert gaps[:6] == [30, 60, 120, 240, 480, 600]
    assert pair.count(Ready) == 0


def test_a_hello_that_cannot_be_encoded_is_our_failure_and_is_retried() -> None:
    session = make_session()
    assert session.dial(0.0) == [Dial()]
    assert session.opened({"x": object()}, 0.0) == [Close(code=1000, reason="no hello")]
    session.closed(1000, "", 0.0)
    assert session.verdict is not None
    assert "cannot encode the agent_hello message" in session.verdict.sentence
    assert session.next_dial is not None


def test_the_ack_s_configuration_reaches_ready() -> None:
    pair = ready_pair(ack={"config": {"features": ["command_ack"]}, "pending_deployments": [{"deployment_id": "d"}]})
    ready = next(effect for effect in pair.log if isinstance(effect, Ready))
    assert ready.ack.features == {"command_ack"}
    assert ready.ack.pending_deployments == ({"deployment_id": "d"},)


# Heartbeats, pings, silence


@pytest.mark.parametrize(
    ("config", "interval"),
    [({}, 30), ({"heartbeat_interval_seconds": 10}, 10), ({"heartbeat_interval_seconds": 0}, 30)],
)
def test_heartbeats_follow_the_interval_of_the_control_plane(config: dict[str, Any], interval: int) -> None:
    pair = ready_pair(ack={"config": config})
    pair.pass_time(interval * 10)
    assert pair.peer.types().count("heartbeat") == 11
    assert pair.count(Lost) == 0


def test_a_ping_is_answered_at_once_with_the_same_id() -> None:
    pair = ready_pair()
    pair.receive(frame("ping", id="p-9"))
    assert pair.peer.heard[-1]["type"] == "pong"
    assert pair.peer.heard[-1]["id"] == "p-9"


def test_a_pong_measures_the_round_trip_by_id() -> None:
    pair = Pair(make_session(), ControlPlane(), latency=0.0).start()
    pair.latency = 0.04
    pair.pass_time(30.0)
    assert pair.session.round_trip_secs == pytest.approx(0.04)


def test_a_pong_under_a_foreign_id_counts_only_when_one_heartbeat_is_under_way() -> None:
    pair = ready_pair(answers_heartbeats=False)
    pair.now += 0.1
    pair.receive(frame("pong", id="foreign"))
    assert pair.session.round_trip_secs == pytest.approx(0.1)
    pair.session.round_trip_secs = None
    for _ in range(2):
        pair.pass_time(30.0)
    pair.receive(frame("pong", id="foreign"))
    assert pair.session.round_trip_secs is None


def test_a_silent_peer_is_dead_after_three_intervals() -> None:
    pair = ready_pair(answers_heartbeats=False)
    pair.peer.endpoints = False
    pair.pass_time(89.9)
    assert pair.state() is State.READY
    pair.pass_time(0.1)
    assert pair.state() is State.DISCONNECTED
    assert Abort(reason="nothing was heard for 90 s") in pair.log
    assert pair.count(Lost) == 1


def test_any_frame_even_a_malformed_one_is_a_sign_of_life() -> None:
    pair = ready_pair(answers_heartbeats=False)
    for _ in range(10):
        pair.pass_time(60.0)
        pair.receive(b"\xff")
    assert pair.state() is State.READY
    assert pair.session.malformed_frames == 10


def test_our_own_slowness_to_read_is_not_the_peer_s_silence() -> None:
    pair = ready_pair(answers_heartbeats=False)
    for _ in range(10):
        pair.pass_time(60.0)
        pair.session.peer_alive(pair.now)
    assert pair.state() is State.READY


def test_a_heartbeat_that_is_late_is_skipped_and_not_made_up_for() -> None:
    session = make_session()
    session.dial(0.0)
    session.opened(HELLO, 0.0)
    effects = session.received(frame("hello_ack"), 0.0)
    assert effects[-1] == RequestHeartbeat()
    session.received(frame("ping"), 60.0)
    assert session.tick(30.0) == []
    assert session.tick(60.0) == []
    assert len(session.heartbeat_ready({}, 65.0)) == 1
    assert session.heartbeat_ready({}, 65.0) == [], "nobody asked for a second one"
    assert session.tick(90.0) == [RequestHeartbeat()]
    assert session.heartbeat_ready(None, 90.0) == []
    assert session.heartbeat_ready({}, 90.0) == []


def test_a_heartbeat_that_cannot_be_encoded_costs_only_itself() -> None:
    session = make_session()
    session.dial(0.0)
    session.opened(HELLO, 0.0)
    session.received(frame("hello_ack"), 0.0)
    effects = session.heartbeat_ready({"x": object()}, 0.0)
    assert [type(effect) for effect in effects] == [Ignored]
    assert session.tick(30.0) == [RequestHeartbeat()]


# Messages


def test_commands_and_unknown_types_are_delivered_in_order() -> None:
    pair = ready_pair()
    for type_ in ("deploy", "teleport", "stop"):
        pair.receive(frame(type_))
    assert pair.delivered == ["deploy", "teleport", "stop"]


def test_malformed_frames_are_counted_and_never_fatal() -> None:
    pair = ready_pair()
    for text in ("", "{", "[" * 100_000, b"\xff\xfe", '{"type": 1}', '{"type":"x","payload":[]}'):
        pair.receive(text)
    assert pair.session.malformed_frames == 6
    assert pair.state() is State.READY
    assert all(effect.malformed for effect in pair.log if isinstance(effect, Ignored))


def test_a_second_hello_ack_changes_nothing() -> None:
    pair = ready_pair()
    pair.receive(frame("hello_ack", {"accepted": False}))
    assert pair.state() is State.READY
    assert pair.count(Ready) == 1


# The way out and back


def test_a_broken_connection_is_dialled_again_and_greeted_anew() -> None:
    pair = ready_pair()
    pair.pass_time(100.0)
    pair.lose()
    assert pair.count(Lost) == 1
    assert pair.session.next_dial == pair.now + 5
    pair.pass_time(5.0)
    assert pair.peer.types().count("agent_hello") == 2
    assert pair.count(Ready) == 2


def test_an_unreachable_control_plane_is_dialled_with_growing_patience() -> None:
    pair = Pair(make_session(), ControlPlane(endpoints=False)).start()
    pair.pass_time(300.0)
    gaps = [after - before for before, after in zip(pair.dials, pair.dials[1:], strict=False)]
    assert gaps[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert pair.session.failures == len(pair.dials)


def test_accepting_and_dropping_at_once_does_not_reset_the_patience() -> None:
    pair = ready_pair()
    for _ in range(12):
        pair.lose()
        assert pair.session.next_dial is not None
        pair.pass_time(pair.session.next_dial - pair.now)
        assert pair.state() is State.READY
    assert pair.dials[-1] - pair.dials[-2] == 60


@pytest.mark.parametrize("code", [4001, 4003])
def test_a_close_for_the_token_or_the_hello_is_retried_slowly(code: int) -> None:
    pair = ready_pair()
    pair.lose(code, "no")
    assert pair.session.verdict is not None
    assert pair.session.verdict.policy is RetryPolicy.REFUSED


def test_the_reason_we_left_for_outlives_the_close_code_of_the_socket() -> None:
    pair = Pair(make_session(), ControlPlane(ack={"accepted": False}, closes_when_asked=False)).start()
    pair.lose(1006, "reset")
    assert pair.session.verdict is not None
    assert "refused this agent" in pair.session.verdict.sentence


def test_a_peer_that_does_not_close_is_aborted_after_five_seconds() -> None:
    pair = ready_pair(closes_when_asked=False)
    pair.run(pair.session.redial("new certificates", pair.now))
    assert pair.state() is State.CLOSING
    assert pair.dials == [1000.0]
    pair.pass_time(4.9)
    assert pair.state() is State.CLOSING
    pair.pass_time(0.1)
    assert pair.state() is State.DISCONNECTED


def test_a_redial_loses_dials_and_is_ready_again() -> None:
    pair = ready_pair()
    pair.pass_time(100.0)
    pair.run(pair.session.redial("new certificates", pair.now))
    pair.pass_time(5.0)
    assert [type(e) for e in pair.log if isinstance(e, (Ready, Lost, Dial))] == [Dial, Ready, Lost, Dial, Ready]
    assert pair.session.redial("x", pair.now) != []
    assert make_session().redial("x", 0.0) == []


def test_a_command_that_crosses_with_the_close_of_a_redial_still_counts() -> None:
    pair = ready_pair(closes_when_asked=False)
    pair.run(pair.session.redial("new certificates", pair.now))
    pair.receive(frame("deploy"))
    pair.receive(frame("ping"))
    assert pair.delivered == ["deploy"]
    assert "pong" not in pair.peer.types()


def test_dial_ends_a_planned_wait_and_does_nothing_at_any_other_time() -> None:
    pair = Pair(make_session(), ControlPlane(endpoints=False)).start()
    pair.pass_time(100.0)
    pair.peer.endpoints = True
    pair.run(pair.session.dial(pair.now))
    assert pair.state() is State.READY
    assert pair.session.dial(pair.now) == []


# Shutdown


def test_shutdown_closes_with_a_reason_and_never_dials_again() -> None:
    pair = ready_pair()
    pair.run(pair.session.shutdown(pair.now))
    assert Close(code=1000, reason="agent is stopping") in pair.log
    assert pair.state() is State.DISCONNECTED
    pair.pass_time(100_000.0)
    assert pair.dials == [1000.0]
    assert pair.session.dial(pair.now) == []
    assert pair.session.next_deadline(pair.now) is None


def test_shutdown_overtakes_a_dial() -> None:
    session = make_session()
    session.dial(0.0)
    assert session.shutdown(1.0) == [Abort(reason="agent is stopping")]
    assert session.opened(HELLO, 2.0) == [Abort(reason="the dial was overtaken")]
    session.closed(1006, "", 3.0)
    assert session.state is State.DISCONNECTED
    assert session.next_deadline(3.0) is None


def test_shutdown_overtakes_a_dial_that_then_fails() -> None:
    session = make_session()
    session.dial(0.0)
    session.shutdown(1.0)
    assert session.dial_failed(DialFailure(kind=FailureKind.NETWORK), 2.0) == []
    assert session.state is State.DISCONNECTED


def test_shutdown_ends_a_planned_wait() -> None:
    pair = Pair(make_session(), ControlPlane(endpoints=False)).start()
    pair.run(pair.session.shutdown(pair.now))
    pair.pass_time(1000.0)
    assert pair.dials == [1000.0]


# The table


def test_every_state_can_be_reached_and_left() -> None:
    assert {source for source, _ in TRANSITIONS} == set(State)
    assert set(TRANSITIONS.values()) == set(State)
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_disconnected_is_only_left_by_dialling() -> None:
    assert [event for source, event in TRANSITIONS if source is State.DISCONNECTED] == [Event.DIAL]


# Anything at all

FRAMES = st.one_of(
    st.text(max_size=20),
    st.binary(max_size=20),
    st.sampled_from(
        [
            frame("hello_ack"),
            frame("hello_ack", {"accepted": False}),
            frame("hello_ack", {"config": {"heartbeat_interval_seconds": 1}}),
            frame("ping"),
            frame("pong", id="id-2"),
            frame("telemetry_ack", {"batch_id": "b", "accepted": True}),
            frame("telemetry_ack"),
            frame("deploy"),
            "[" * 2000,
        ]
    ),
)
INPUTS = st.one_of(
    st.tuples(st.just("received"), FRAMES),
    st.tuples(
        st.sampled_from(
            ["dial", "opened", "dial_failed", "closed", "heartbeat", "no_heartbeat", "tick", "redial", "peer_alive"]
        ),
        st.none(),
    ),
    st.tuples(st.just("closed_with"), st.sampled_from([1000, 1001, 1006, 1009, 4000, 4001, 4002, 4003, 4004, 9999])),
)


def apply(session: Any, name: str, argument: Any, now: float) -> list[Effect]:
    calls: dict[str, Any] = {
        "dial": lambda: session.dial(now),
        "opened": lambda: session.opened(HELLO, now),
        "dial_failed": lambda: session.dial_failed(DialFailure(kind=FailureKind.TLS, detail="x"), now),
        "closed": lambda: session.closed(1006, "", now),
        "closed_with": lambda: session.closed(argument, "because", now),
        "received": lambda: session.received(argument, now),
        "heartbeat": lambda: session.heartbeat_ready({"a": float("nan")}, now),
        "no_heartbeat": lambda: session.heartbeat_ready(None, now),
        "tick": lambda: session.tick(now),
        "redial": lambda: session.redial("files", now),
        "peer_alive": lambda: session.peer_alive(now),
        "shutdown": lambda: session.shutdown(now),
    }
    effects: list[Effect] = calls[name]()
    return effects


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(INPUTS, st.floats(0, 100)), max_size=40), st.integers(0, 60))
def test_no_order_of_inputs_breaks_a_promise(steps: list[tuple[tuple[str, Any], float]], stop_at: int) -> None:
    session, now = make_session(), 0.0
    dialling = ready = stopped = False
    for index, ((name, argument), wait) in enumerate(steps):
        now += wait
        if index == stop_at:
            stopped = True
            effects = apply(session, "shutdown", None, now)
        else:
            effects = apply(session, name, argument, now)
        if name in ("opened", "dial_failed") or name.startswith("closed"):
            dialling = dialling and session.state in (State.CONNECTING, State.CLOSING)
        for effect in effects:
            match effect:
                case Dial():
                    assert not dialling
                    assert not stopped
                    dialling = True
                case Ready():
                    assert not ready
                    ready = True
                case Lost():
                    assert ready
                    ready = False
                case Send(text=text):
                    assert ready or json.loads(text)["type"] == "agent_hello"
                    assert not stopped
                case Deliver():
                    assert not stopped
                case _:
                    pass
        assert ready is (session.state is State.READY)
        deadline = session.next_deadline(now)
        assert deadline is None or session.state is not State.CONNECTING
        if session.state is State.DISCONNECTED and index > 0 and not stopped and session.verdict is not None:
            assert session.next_dial is not None, "a session that was not stopped always dials again"


@settings(max_examples=25, deadline=None)
@given(st.lists(FRAMES, max_size=20), st.floats(0, 500))
def test_whatever_the_peer_says_time_alone_brings_the_session_back(frames: list[str | bytes], wait: float) -> None:
    pair = Pair(make_session(), ControlPlane(ack=None)).start()
    for text in frames:
        if pair.socket:
            pair.receive(text)
    pair.pass_time(wait)
    pair.peer.ack = {"accepted": True}
    pair.pass_time(700.0)
    assert pair.state() is State.READY
