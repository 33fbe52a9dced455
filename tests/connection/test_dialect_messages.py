"""What the agent says, and what of it the deployed hub hears."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.connection.codec import Envelope
from syntra.connection.dialect.hub import Hub
from syntra.connection.dialect.hub_messages import STATUSES
from tests.connection.test_dialect_commands import JSON
from tests.contract import shapes

AT = "2026-11-27T00:49:00.000Z"
ID = "3a03294f-ce38-437f-90fd-78bda306711e"


def message(kind: str, **payload: Any) -> Envelope:
    return Envelope(id=ID, type=kind, timestamp=AT, payload=payload)


def status(state: str, **more: Any) -> Envelope:
    given: dict[str, Any] = {
        "deployment_id": "d1",
        "service_id": "web",
        "operation": "deploy",
        "status": state,
        "phase": "pull_image",
        "progress_percent": 100 if state == "running" else 40,
        "message": "a sentence",
        "started_at": AT,
        **more,
    }
    return message("deploy_status", **given)


def failed(state: str, **more: Any) -> Envelope:
    sentence = "cannot pull shop/web:1: no such image"
    return status(
        state,
        finished_at=AT,
        error={"code": "IMAGE_NOT_FOUND", "message": sentence},
        **{"error_message": sentence, **more},
    )


def heard(one: Envelope) -> list[tuple[str, dict[str, Any]]]:
    translated = Hub().outgoing(one)
    for frame in translated:
        document = {"id": frame.id, "type": frame.type, "timestamp": frame.timestamp, "payload": dict(frame.payload)}
        assert shapes.problems(json.dumps(document)) == []
    return [(frame.type, dict(frame.payload)) for frame in translated]


@pytest.mark.parametrize("state", ["pulling", "creating", "starting"])
def test_a_status_that_the_hub_knows_is_sent_as_it_is(state: str) -> None:
    assert list(Hub().outgoing(status(state))) == [status(state)]


@pytest.mark.parametrize("state", ["pending", "health_checking"])
def test_a_status_that_it_would_take_for_success_is_not_sent(state: str) -> None:
    assert heard(status(state)) == []


def test_one_good_deploy_is_announced_once() -> None:
    states = ["pending", "pulling", "creating", "starting", "health_checking", "starting", "running"]
    said = [status(state, **({"finished_at": AT} if state == "running" else {})) for state in states]
    announced = [payload["status"] for one in said for _, payload in heard(one)]
    assert announced == ["pulling", "creating", "starting", "starting", "running"]


def test_a_deploy_that_was_rolled_back_has_failed() -> None:
    [(kind, payload)] = heard(failed("rolled_back"))
    assert (kind, payload["status"], payload["error_message"]) == (
        "deploy_status",
        "failed",
        "cannot pull shop/web:1: no such image",
    )


def test_a_failure_always_has_its_sentence_where_the_hub_reads_it() -> None:
    [frame] = Hub().outgoing(failed("failed", error_message=""))
    assert frame.payload["error_message"] == "cannot pull shop/web:1: no such image"
    [bare] = Hub().outgoing(message("deploy_status", status="failed"))
    assert bare.payload["error_message"]


@pytest.mark.parametrize("state", ["pulling", "running", "failed", "rolled_back"])
def test_what_became_of_a_scale_is_not_taken_for_the_deployments_state(state: str) -> None:
    assert heard(status(state, operation="scale", finished_at=AT)) == []


def refusal(code: str, **details: str) -> Envelope:
    error = {"code": code, "message": "image: is missing", **({"details": details} if details else {})}
    return message("command_response", request_id="r1", success=False, error=error)


def test_a_refused_deploy_ends_its_row() -> None:
    [(first, response), (second, row)] = heard(refusal("INVALID_PAYLOAD", deployment_id="d1", service_id="web"))
    assert (first, response["success"], second) == ("command_response", False, "deploy_status")
    assert (row["deployment_id"], row["status"], row["error_message"]) == ("d1", "failed", "image: is missing")


def test_the_frame_that_ends_a_row_has_an_id_of_its_own_and_keeps_it() -> None:
    one = [frame.id for frame in Hub().outgoing(refusal("BUSY", deployment_id="d1", service_id="web"))]
    assert one == [frame.id for frame in Hub().outgoing(refusal("BUSY", deployment_id="d1", service_id="web"))]
    assert one[0] == ID and one[1] != ID and str(uuid.UUID(one[1])) == one[1]


def test_a_cancel_that_came_too_late_tells_that_the_deployment_runs() -> None:
    [_, (kind, row)] = heard(refusal("ALREADY_DEPLOYED", deployment_id="d1", service_id="web"))
    assert (kind, row["status"]) == ("deploy_status", "running")
    assert "error_message" not in row


def test_other_answers_are_sent_as_they_are() -> None:
    for one in (
        refusal("SERVICE_NOT_FOUND"),
        message("command_response", request_id="r1", success=True, data={"deployment_id": "d1", "accepted": True}),
        message("command_response", request_id="r1", success=True, error={"details": {"deployment_id": "d1"}}),
    ):
        assert list(Hub().outgoing(one)) == [one]


def test_the_end_of_an_alert_is_not_sent_and_its_beginning_is() -> None:
    begun = message("alert", alert_id="alr_1", metadata={"reason": "503"})
    over = message("alert", alert_id="alr_2", metadata={"recovered": True, "times": 1})
    assert list(Hub().outgoing(begun)) == [begun]
    assert list(Hub().outgoing(over)) == []


@pytest.mark.parametrize("kind", ["heartbeat", "agent_hello", "telemetry_batch", "log_stream", "pong"])
def test_everything_else_is_sent_as_it_is(kind: str) -> None:
    one = message(kind, service_id="web", data={"metrics": []})
    assert list(Hub().outgoing(one)) == [one]


PAYLOADS = st.dictionaries(
    st.sampled_from(["status", "operation", "error", "error_message", "message", "metadata", "success", "details"]),
    JSON | st.sampled_from(["pending", "rolled_back", "failed", "running", False]),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(["deploy_status", "command_response", "alert", "heartbeat"]), payload=PAYLOADS)
def test_no_status_leaves_that_the_hub_does_not_know(kind: str, payload: dict[str, Any]) -> None:
    for frame in Hub().outgoing(message(kind, **payload)):
        if frame.type == "deploy_status":
            assert frame.payload["status"] in STATUSES
            assert frame.payload["status"] != "failed" or frame.payload["error_message"]


DETAILS = st.dictionaries(st.just("deployment_id"), JSON)


@settings(max_examples=60, deadline=None)
@given(error=st.fixed_dictionaries({"code": JSON, "message": JSON, "details": DETAILS}), success=st.booleans())
def test_a_refusal_of_any_shape_is_survived(error: dict[str, Any], success: bool) -> None:
    one = message("command_response", success=success, error=error)
    assert Hub().outgoing(one)[0] == one
