"""The connection's own messages: exact field names out, tolerance in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.connection import messages
from syntra.connection.codec import Envelope
from syntra.connection.messages import MAX_REMOTE_TEXT, HelloAck, parse_hello_ack, readable

FULL: dict[str, Any] = {
    "server_id": "srv_1",
    "accepted": True,
    "server_name": "web-1",
    "org_id": "org_1",
    "config": {
        "heartbeat_interval_seconds": 30,
        "telemetry_batch_interval_seconds": 5,
        "telemetry_buffer_max_mb": 50,
        "log_level": "INFO",
        "features": ["command_ack", "telemetry_ack"],
    },
    "pending_deployments": [{"deployment_id": "dep_1"}],
}


def test_outgoing_messages_have_the_contract_s_names() -> None:
    assert messages.hello({"a": 1}, id="i", timestamp="t") == Envelope(
        id="i", type="agent_hello", timestamp="t", payload={"a": 1}
    )
    assert messages.heartbeat({"a": 1}, id="i", timestamp="t").type == "heartbeat"
    assert messages.pong("ping-7", timestamp="t") == Envelope(id="ping-7", type="pong", timestamp="t", payload={})


def test_an_unknown_type_is_answered_as_unsupported() -> None:
    answer = messages.unsupported("teleport", request_id="r", id="i", timestamp="t")
    assert answer.type == "command_response"
    assert answer.payload["request_id"] == "r"
    assert answer.payload["success"] is False
    assert answer.payload["error"]["code"] == "UNSUPPORTED"
    assert "'teleport'" in answer.payload["error"]["message"]


def test_a_full_hello_ack_is_read() -> None:
    assert parse_hello_ack(FULL) == HelloAck(
        accepted=True,
        server_id="srv_1",
        server_name="web-1",
        org_id="org_1",
        heartbeat_interval_secs=30,
        telemetry_batch_interval_secs=5,
        telemetry_buffer_max_mb=50,
        log_level="info",
        features=frozenset({"command_ack", "telemetry_ack"}),
        pending_deployments=({"deployment_id": "dep_1"},),
    )


def test_an_empty_hello_ack_accepts() -> None:
    assert parse_hello_ack({}) == HelloAck()


@pytest.mark.parametrize("value", [False, "false", "FALSE", 0])
def test_a_refusal_is_understood_in_its_usual_spellings(value: object) -> None:
    ack = parse_hello_ack({"accepted": value, "reason": "server was\ndeleted"})
    assert not ack.accepted
    assert ack.reason == "server was deleted"


@pytest.mark.parametrize("key", ["reason", "message", "error"])
def test_the_reason_of_a_refusal_is_found_under_its_usual_names(key: str) -> None:
    assert parse_hello_ack({"accepted": False, key: "no"}).reason == "no"


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"heartbeat_interval_seconds": 0}, "config.heartbeat_interval_seconds is outside 1 to 300; ignored"),
        ({"heartbeat_interval_seconds": 10**30}, "config.heartbeat_interval_seconds is outside 1 to 300; ignored"),
        ({"heartbeat_interval_seconds": True}, "config.heartbeat_interval_seconds is not a number; ignored"),
        ({"heartbeat_interval_seconds": "soon"}, "config.heartbeat_interval_seconds is not a number; ignored"),
        ({"telemetry_batch_interval_seconds": []}, "config.telemetry_batch_interval_seconds is not a number; ignored"),
        ({"telemetry_buffer_max_mb": -5}, "config.telemetry_buffer_max_mb is outside 1 to 10240; ignored"),
        ({"log_level": "loud"}, "config.log_level is no level; ignored"),
        ({"features": "all"}, "features is not a list; ignored"),
        ("none", "config is not an object; ignored"),
    ],
)
def test_an_unusable_setting_is_left_out_and_named(config: object, problem: str) -> None:
    assert parse_hello_ack({"config": config}) == HelloAck(problems=(problem,))


def test_numbers_in_text_are_numbers() -> None:
    assert parse_hello_ack({"config": {"heartbeat_interval_seconds": "15"}}).heartbeat_interval_secs == 15


def test_pending_deployments_that_are_no_objects_are_left_out() -> None:
    ack = parse_hello_ack({"pending_deployments": [{"deployment_id": "a"}, None, "b", []]})
    assert ack.pending_deployments == ({"deployment_id": "a"},)
    assert ack.problems == ("3 of 4 pending_deployments are not objects; ignored",)


def test_remote_text_is_one_short_printable_line() -> None:
    assert readable("a\tb\x1b[31m\r\n") == "a b [31m"
    assert len(readable("x" * 5000)) == MAX_REMOTE_TEXT


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from([*FULL, *FULL["config"], "reason", "message", "error"])


@given(st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON)))
def test_no_hello_ack_raises(payload: dict[str, Any]) -> None:
    ack = parse_hello_ack(payload)
    interval = ack.heartbeat_interval_secs
    assert interval is None or 1 <= interval <= 300
