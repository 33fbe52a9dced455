"""Which message is blamed for a closed connection, and what becomes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from syntra.connection.undelivered import SHORT_CHARS, TOO_BIG, Suspicion, replacement


def message(kind: str, payload: dict[str, Any]) -> str:
    return json.dumps({"id": "m1", "type": kind, "timestamp": "2026-01-01T00:00:00Z", "payload": payload})


def test_a_message_is_blamed_only_after_it_was_alone() -> None:
    suspicion = Suspicion()
    assert not suspicion.must_go_alone(3)
    assert not suspicion.blames(TOO_BIG, [3, 4, 5], is_short=False)
    assert [suspicion.must_go_alone(seq) for seq in (3, 4, 5, 6)] == [True, True, True, False]
    assert suspicion.blames(TOO_BIG, [3], is_short=False)


def test_a_single_message_under_way_was_not_alone_while_streams_were_sent_beside_it() -> None:
    suspicion = Suspicion()
    assert not suspicion.blames(TOO_BIG, [3], is_short=False)
    assert suspicion.blames(TOO_BIG, [3], is_short=False)


@pytest.mark.parametrize(
    ("code", "closes"), [(TOO_BIG, 1), (1002, 2), (1007, 2), (1011, 2), (4003, 2), (1006, 5), (1001, 5), (1012, 5)]
)
def test_how_many_closes_are_a_proof(code: int, closes: int) -> None:
    suspicion = Suspicion()
    suspicion.blames(code, [7], is_short=False)
    assert [suspicion.blames(code, [7], is_short=False) for _ in range(closes)] == [False] * (closes - 1) + [True]


def test_closes_over_different_messages_do_not_add_up() -> None:
    suspicion = Suspicion()
    suspicion.blames(1011, [1, 2], is_short=False)
    assert not suspicion.blames(1011, [1], is_short=False)
    assert not suspicion.blames(1011, [2], is_short=False)
    assert not suspicion.blames(1011, [1], is_short=False)
    assert suspicion.blames(1011, [1], is_short=False)


def test_a_response_becomes_a_failure() -> None:
    text = message("command_response", {"request_id": "r1", "success": True, "data": {"stdout": "x" * SHORT_CHARS}})
    short = json.loads(replacement(text) or "")
    assert (short["id"], short["type"]) == ("m1", "command_response")
    assert short["payload"]["request_id"] == "r1"
    assert short["payload"]["success"] is False
    assert short["payload"]["error"]["code"] == "ANSWER_TOO_LARGE"


def test_a_report_keeps_its_ids_and_its_state() -> None:
    payload = {
        "deployment_id": "d1",
        "status": "failed",
        "progress_percent": 40,
        "error": {"code": "HEALTH_CHECK_FAILED", "message": "y" * SHORT_CHARS},
        "logs": ["z" * SHORT_CHARS] * 50,
    }
    short = json.loads(replacement(message("deploy_status", payload)) or "")["payload"]
    assert {key: short[key] for key in ("deployment_id", "status", "progress_percent")} == {
        "deployment_id": "d1",
        "status": "failed",
        "progress_percent": 40,
    }
    assert short["error"]["code"] == "HEALTH_CHECK_FAILED"
    assert len(short["error"]["message"]) < SHORT_CHARS
    assert "logs" not in short


@pytest.mark.parametrize(
    "text",
    [
        message("command_response", {"request_id": "r1", "success": True}),
        json.dumps({"payload": ["x" * SHORT_CHARS]}),
        message("alert", {f"key{number}": "v" * 400 for number in range(100)}),
    ],
    ids=["short already", "no payload", "too much to keep"],
)
def test_what_cannot_be_shortened_is_dropped(text: str) -> None:
    assert replacement(text) is None


def test_a_replacement_is_never_replaced_again() -> None:
    text = message("deploy_status", {"status": "failed", "message": "m" * 100_000})
    short = replacement(text)
    assert short is not None and replacement(short) is None


def test_a_crashing_control_plane_and_a_bad_link_cost_no_short_message() -> None:
    suspicion = Suspicion()
    assert not any(suspicion.blames(code, [3], is_short=True) for code in (1006, 1011, 1001, 1012) * 20)
    assert suspicion.blames(TOO_BIG, [3], is_short=True)


def test_a_short_message_that_the_peer_calls_malformed_is_blamed() -> None:
    suspicion = Suspicion()
    suspicion.blames(4003, [3], is_short=True)
    assert [suspicion.blames(4003, [3], is_short=True) for _ in range(2)] == [False, True]


def test_the_replacement_is_not_blamed_for_what_its_original_did() -> None:
    suspicion = Suspicion()
    suspicion.blames(TOO_BIG, [3], is_short=False)
    assert suspicion.blames(TOO_BIG, [3], is_short=False)
    assert not suspicion.blames(1006, [3], is_short=True)
    assert not suspicion.blames(4003, [3], is_short=True)


def test_a_failure_keeps_its_code() -> None:
    error = {"code": "EXEC_TIMEOUT", "message": "cannot exec", "details": {"stdout": "x" * SHORT_CHARS}}
    text = message("command_response", {"request_id": "r1", "success": False, "error": error})
    short = json.loads(replacement(text) or "")["payload"]
    assert short["success"] is False
    assert short["error"]["code"] == "EXEC_TIMEOUT"
