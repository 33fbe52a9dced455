"""What is said about commands, in the shapes of the contract."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from syntra.agent.messages import MAX_REPORT_LINES, Progress, Reports, deploy_status, envelope, refusal, success
from syntra.model.fields import Json
from syntra.model.ids import DeploymentId, RequestId, ServiceId
from syntra.model.status import DeployState, Failure, LogLine, Phase
from syntra.utils.timestamps import parse_ns

REQUEST = RequestId("req_1")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def progress(
    *,
    state: DeployState = DeployState.PULLING,
    finished_at: float | None = None,
    container_id: str | None = None,
    failure: Failure | None = None,
    logs: tuple[LogLine, ...] = (),
) -> Progress:
    return Progress(
        operation="deploy",
        request_id=REQUEST,
        deployment_id=DeploymentId("dep_1"),
        service_id=ServiceId("svc_1"),
        state=state,
        phase=Phase.PULL_IMAGE,
        percent=40,
        message="pull nginx:1 and pin it",
        started_at=1.5,
        finished_at=finished_at,
        container_id=container_id,
        failure=failure,
        logs=logs,
    )


def line(number: int) -> LogLine:
    return LogLine(timestamp="", stream="stdout", message=f"line {number}")


def test_a_status_on_the_way_says_where_the_deployment_is() -> None:
    assert deploy_status(progress()) == {
        "request_id": "req_1",
        "deployment_id": "dep_1",
        "service_id": "svc_1",
        "operation": "deploy",
        "status": "pulling",
        "phase": "pull_image",
        "progress_percent": 40,
        "message": "pull nginx:1 and pin it",
        "started_at": "1970-01-01T00:00:01.500Z",
    }


def test_a_failed_status_tells_why_under_both_names_that_control_planes_read() -> None:
    failure = Failure(code="PULL_FAILED", message="cannot pull nginx:1: no such tag")
    payload = deploy_status(progress(state=DeployState.FAILED, finished_at=2.0, failure=failure, logs=(line(1),)))
    assert payload["status"] == "failed"
    assert payload["error"] == {"code": "PULL_FAILED", "message": "cannot pull nginx:1: no such tag"}
    assert payload["error_message"] == "cannot pull nginx:1: no such tag"
    assert payload["finished_at"] == "1970-01-01T00:00:02.000Z"
    assert payload["logs"] == ["line 1"]


def test_a_finished_status_names_its_container() -> None:
    payload = deploy_status(progress(state=DeployState.RUNNING, finished_at=2.0, container_id="c1"))
    assert payload["container_id"] == "c1"
    assert not {"error", "error_message", "logs"} & payload.keys()


def test_only_the_last_lines_of_a_log_are_reported() -> None:
    logs = tuple(line(number) for number in range(MAX_REPORT_LINES + 5))
    reported = deploy_status(progress(logs=logs))["logs"]
    assert reported == [f"line {number}" for number in range(5, MAX_REPORT_LINES + 5)]


def test_the_lines_of_a_log_are_not_in_a_representation() -> None:
    assert "line 1" not in repr(progress(logs=(line(1),)))


def test_a_response_says_yes_with_data_or_no_with_a_reason() -> None:
    assert success(REQUEST, {"accepted": True}) == {"request_id": "req_1", "success": True, "data": {"accepted": True}}
    failure = Failure(code="BUSY", message="cannot take it: busy; try later")
    refused = {"request_id": "req_1", "success": False, "error": {"code": "BUSY", "message": failure.message}}
    assert refusal("req_1", failure) == refused
    detailed = refusal("req_1", failure, {"waiting": 3})
    assert detailed["error"] == {"code": "BUSY", "message": failure.message, "details": {"waiting": 3}}


def test_an_envelope_is_a_frame_of_the_contract_with_an_id_of_its_own() -> None:
    first, second = (json.loads(envelope("deploy_status", {"text": "ä\u2028\ud800"})) for _ in range(2))
    assert first.keys() == {"id", "type", "timestamp", "payload"}
    assert (first["type"], first["payload"]) == ("deploy_status", {"text": "ä\u2028\ud800"})
    assert UUID.fullmatch(first["id"])
    assert first["id"] != second["id"]
    assert parse_ns(first["timestamp"]) is not None
    assert json.loads(envelope("pong", {}, message_id="as asked"))["id"] == "as asked"


def test_an_alert_names_the_server_and_what_happened() -> None:
    frame = json.loads(
        Reports("srv_1").alert(
            kind="deployment_failed",
            severity="warning",
            title="Deployment failed",
            message="cannot pull nginx:1",
            service_id=ServiceId("svc_1"),
            metadata={"deployment_id": "dep_1"},
        )
    )
    payload = frame["payload"]
    assert frame["type"] == "alert"
    assert re.fullmatch(r"alr_[0-9a-f]{16}", payload.pop("alert_id"))
    assert parse_ns(payload.pop("timestamp")) is not None
    assert payload == {
        "service_id": "svc_1",
        "server_id": "srv_1",
        "type": "deployment_failed",
        "severity": "warning",
        "title": "Deployment failed",
        "message": "cannot pull nginx:1",
        "metadata": {"deployment_id": "dep_1"},
    }


class Ear:
    """A listener that remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Mapping[str, Json]]] = []

    def __call__(self, kind: str, payload: Mapping[str, Json]) -> None:
        self.heard.append((kind, payload))


def test_listeners_hear_of_their_own_request_until_they_end() -> None:
    reports, mine, also_mine, other = Reports("srv_1"), Ear(), Ear(), Ear()
    end = reports.listen(REQUEST, mine)
    reports.listen(REQUEST, also_mine)
    reports.listen(RequestId("req_2"), other)
    reports.notify(REQUEST, "deploy_status", {"n": 1})
    end()
    end()
    reports.notify(REQUEST, "deploy_status", {"n": 2})
    assert mine.heard == [("deploy_status", {"n": 1})]
    assert also_mine.heard == [("deploy_status", {"n": 1}), ("deploy_status", {"n": 2})]
    assert other.heard == []


def test_a_listener_may_end_itself_while_it_is_told() -> None:
    reports, after = Reports("srv_1"), Ear()
    heard: list[str] = []

    def once(kind: str, _payload: Mapping[str, Json]) -> None:
        heard.append(kind)
        end()

    end = reports.listen(REQUEST, once)
    reports.listen(REQUEST, after)
    reports.notify(REQUEST, "a", {})
    reports.notify(REQUEST, "b", {})
    assert heard == ["a"]
    assert [kind for kind, _ in after.heard] == ["a", "b"]
