"""A real agent on a real engine, fed with the frames that deployed control planes send; every answer is checked.

The frames are files in `frames/`, with `@NAME@` for what differs from run to run. The tests share one agent, which
dials one control plane; each uses a service of its own.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import syntra
from tests.contract import shapes
from tests.contract.scripted_plane import ACK, Arrived, Link, ScriptedPlane
from tests.e2e.agent_process import AgentProcess
from tests.e2e.served_images import ServedImages, served_images
from tests.engine import api, wait_until

pytestmark = pytest.mark.engine

FRAMES = Path(__file__).parent / "frames"
TOKEN = "syn_agt_contract_0123456789abcdef"
ANSWER_SECS = 5.0
"""A control plane waits 30 s for an answer; an agent that takes this long does not answer at once."""


@dataclass(slots=True)
class Bench:
    """The agent, what it talks to, and the connection of the day."""

    images: ServedImages
    plane: ScriptedPlane
    agent: AgentProcess
    link: Link

    def service(self) -> str:
        return f"svc-{uuid.uuid4().hex[:8]}-{self.images.token}"

    def frame(self, name: str, **values: str) -> str:
        """A recorded frame with its places filled."""
        text = (FRAMES / f"{name}.json").read_text()
        values = {"TOKEN": self.images.token, "REGISTRY": self.images.registry.address, **values}
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        assert "@" not in text, f"{name} has places that nothing fills: {text}"
        return json.dumps(json.loads(text))

    def send(self, name: str, **values: str) -> str:
        """Send a recorded frame; its request id: the payload's, else the envelope's."""
        frame = self.frame(name, **values)
        self.link.send_frame(frame)
        message = json.loads(frame)
        return str((message.get("payload") or {}).get("request_id") or message.get("id") or "")

    def response(self, request_id: str, timeout: float = 20.0) -> dict[str, Any]:
        """The answer to a request."""
        return dict(self.link.expect("command_response", request_id=request_id, timeout=timeout).payload)

    def outcome(self, deployment: str, timeout: float = 60.0, since: int = 0) -> dict[str, Any]:
        """The terminal status of a deployment."""
        found = self.link.first(
            lambda f: _is_terminal(f, deployment), f"end of {deployment}", since=since, timeout=timeout
        )
        return dict(found.payload)

    def deploy(self, name: str = "deploy_current", service: str | None = None) -> tuple[str, str]:
        """Deploy until it runs: service and deployment."""
        service = service or self.service()
        id = uuid.uuid4().hex[:8]
        self.send(name, SERVICE=service, ID=id)
        deployment = f"dep-{id}-{self.images.token}"
        outcome = self.outcome(deployment)
        assert outcome["status"] == "running", outcome
        return service, deployment

    def containers(self, service: str) -> list[dict[str, Any]]:
        filters = json.dumps({"label": [f"syntra.service_id={service}"]})
        listed: list[dict[str, Any]] = api("GET", "/containers/json", query={"all": "1", "filters": filters})
        return listed

    def states(self, service: str) -> list[str]:
        return sorted(item["State"] for item in self.containers(service))

    def redial(self, ack: dict[str, Any] | None = None) -> Link:
        """Close the connection; the agent's next one."""
        self.link.close()
        self.link = self.plane.accepted(ack or ACK)
        return self.link


def _is_terminal(frame: Arrived, deployment: str) -> bool:
    return (
        frame.type == "deploy_status"
        and frame.payload["deployment_id"] == deployment
        and frame.payload["status"] in shapes.TERMINAL
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("contract")
    with (
        served_images(folder / "registry") as images,
        ScriptedPlane() as plane,
        AgentProcess(
            folder / "agent",
            config=f'[control_plane]\nendpoint = "{plane.endpoint}"\ntoken = "{TOKEN}"\nreconnect_max_delay_secs = 1\n',
            environment={"SYNTRA_SERVER_ID": "srv_contract"},
        ) as agent,
    ):
        yield Bench(images=images, plane=plane, agent=agent, link=plane.accepted())


@pytest.fixture
def bench(shared: Bench) -> Iterator[Bench]:
    """The shared bench; whatever the agent said in the test kept the contract."""
    yield shared
    problems, shared.plane.problems[:] = list(shared.plane.problems), []
    assert problems == []


def test_the_agent_dials_with_its_token_and_version_in_headers(bench: Bench) -> None:
    assert bench.link.path == "/agent/ws"
    assert bench.link.headers["Authorization"] == f"Bearer {TOKEN}"
    assert bench.link.headers["X-Agent-Version"] == syntra.__version__


def test_the_hello_says_who_the_agent_is(bench: Bench) -> None:
    hello = bench.link.frames[0]
    assert hello.type == "agent_hello"
    assert hello.payload["server_id"] == "srv_contract"
    assert hello.payload["version"] == syntra.__version__
    assert hello.payload["runtime"] == "docker"
    assert hello.payload["runtime_version"] == api("GET", "/version")["Version"]


@pytest.mark.parametrize("name", ["hello_ack_full", "hello_ack_minimal", "hello_ack_empty", "hello_ack_odd_types"])
def test_an_acknowledgement_of_any_shape_opens_the_connection(bench: Bench, name: str) -> None:
    bench.link.close()
    bench.link = link = bench.plane.dialled()
    link.expect("agent_hello")
    link.send_frame(bench.frame(name))
    link.expect("heartbeat")
    link.settle()


@pytest.mark.parametrize("name", ["hello_ack_full", "hello_ack_odd_types"])
def test_heartbeats_come_at_the_interval_that_was_given(bench: Bench, name: str) -> None:
    """The agent's own setting is 30 s; the acknowledgement says 1, as a number or as text."""
    bench.link.close()
    bench.link = link = bench.plane.dialled()
    link.send_frame(bench.frame(name))
    link.first(lambda _: len(link.of("heartbeat")) >= 3, "third heartbeat", timeout=15)
    first, second, third = link.of("heartbeat")[:3]
    assert third.at - first.at > 1.0, "heartbeats come faster than they were asked for"
    assert len({frame.message["id"] for frame in (first, second, third)}) == 3
    assert first.payload["uptime_seconds"] <= third.payload["uptime_seconds"]
    bench.redial()


def test_nothing_is_said_between_hello_and_its_acknowledgement(bench: Bench) -> None:
    """Not even with a report waiting, pings to answer and commands that came too early."""
    service = bench.service()
    request = bench.send("deploy_current", SERVICE=service, ID="early")
    bench.response(request)
    bench.link.close()
    bench.link = link = bench.plane.dialled()
    link.expect("agent_hello")
    wait_until(lambda: bench.states(service) == ["running"], "the deploy ends without a control plane")
    ping = link.send("ping", {})
    link.send_frame(bench.frame("exec", SERVICE=service, ID="too-early"))
    for _ in range(3):
        link.breathe()
    assert [frame.type for frame in link.frames] == ["agent_hello"]
    link.acknowledge()
    assert bench.outcome(f"dep-early-{bench.images.token}")["status"] == "running"
    link.first(lambda f: f.type == "pong" and f.message["id"] == ping, "pong")


def test_a_refused_hello_is_shown_and_tried_again_later(tmp_path: Path, bench: Bench) -> None:
    with (
        ScriptedPlane() as plane,
        AgentProcess(tmp_path, config=f'[control_plane]\nendpoint = "{plane.endpoint}"\ntoken = "{TOKEN}"\n') as agent,
    ):
        link = plane.dialled()
        link.expect("agent_hello")
        link.send_frame(bench.frame("hello_ack_refused"))
        assert link.wait_closed() == 1000
        assert [frame.type for frame in link.frames] == ["agent_hello"]

        def shown() -> bool:
            return "this server was archived" in agent.ask("status", {})["data"]["control_plane"]["detail"]

        wait_until(shown, "the refusal in status")
        assert plane.problems == []


def test_an_agent_without_an_engine_comes_online_and_says_what_is_missing(tmp_path: Path, bench: Bench) -> None:
    with (
        ScriptedPlane() as plane,
        AgentProcess(
            tmp_path,
            config=f'[control_plane]\nendpoint = "{plane.endpoint}"\ntoken = "{TOKEN}"\n',
            engine_socket=str(tmp_path / "no.sock"),
        ),
    ):
        link = plane.accepted()
        assert link.expect("agent_hello").payload["runtime"] == "docker"
        alert = link.expect("alert").payload
        assert (alert["type"], alert["severity"]) == ("resource_critical", "critical")
        assert link.expect("heartbeat").payload["services"] == []
        link.send_frame(bench.frame("deploy_current", SERVICE=bench.service(), ID="no-engine"))
        refused = link.expect("command_response", request_id="req-no-engine").payload
        assert refused["success"] is False and "no.sock" in refused["error"]["message"]
        assert plane.problems == []


def test_a_ping_is_answered_under_its_id_and_a_pong_is_not_answered(bench: Bench) -> None:
    before = bench.link.settle()
    bench.send("pong", ID="1")
    bench.send("ping", ID="2")
    bench.link.settle()
    (answer,) = bench.link.said(before)
    assert (answer.type, answer.message["id"]) == ("pong", "ping-2")


@pytest.mark.parametrize("name", ["deploy_current", "deploy_flat", "deploy_nested"])
def test_a_deploy_of_every_shape_is_answered_at_once_and_reported_to_its_end(bench: Bench, name: str) -> None:
    service, id = bench.service(), uuid.uuid4().hex[:8]
    deployment = f"dep-{id}-{bench.images.token}"
    sent = len(bench.link.frames)
    request = bench.send(name, SERVICE=service, ID=id)
    response = bench.response(request, timeout=ANSWER_SECS)
    assert response["success"] is True and response["data"]["accepted"] is True
    outcome = bench.outcome(deployment)
    bench.link.settle()
    ours = [f for f in bench.link.frames[sent:] if f.payload.get("deployment_id") == deployment]
    kinds = [
        frame.type for frame in bench.link.frames[sent:] if frame in ours or frame.payload.get("request_id") == request
    ]
    assert kinds[0] == "command_response", "the answer comes before the first status"
    statuses = [frame.payload for frame in ours if frame.type == "deploy_status"]
    assert [s["status"] for s in statuses if s["status"] in shapes.TERMINAL] == ["running"]
    assert statuses[-1] == outcome
    assert statuses[0]["status"] == "pending"
    assert [s["progress_percent"] for s in statuses] == sorted(s["progress_percent"] for s in statuses)
    assert {s["service_id"] for s in statuses} == {service}
    assert len({s["started_at"] for s in statuses}) == 1
    (container,) = bench.containers(service)
    assert outcome["container_id"] == container["Id"] and container["State"] == "running"
    found = api("GET", f"/containers/{container['Id']}/json")
    assert "GREETING=hello" in found["Config"]["Env"]
    assert found["HostConfig"]["NanoCpus"] == 500_000_000
    assert found["HostConfig"]["Memory"] == 64 * 1024 * 1024
    assert found["Config"]["Image"] and found["Image"] == api("GET", f"/images/{bench.images.repository}:v1/json")["Id"]


def test_a_deploy_that_fails_says_why_under_every_name(bench: Bench) -> None:
    service = bench.service()
    bench.send("deploy_broken", SERVICE=service, ID="broken")
    deployment = f"dep-broken-{bench.images.token}"
    outcome = bench.outcome(deployment)
    assert outcome["status"] in {"failed", "rolled_back"}
    assert outcome["error_message"] == outcome["error"]["message"]
    assert any(words in outcome["error_message"] for words in ("crash loop", "exit code 3"))
    assert "failing as told" in outcome["logs"]
    [kept] = bench.containers(service)
    assert kept["Names"][0].endswith("-failed") and kept["State"] == "exited"
    alert = bench.link.expect("alert", service_id=service)
    assert alert.payload["type"] == "deployment_failed"


def test_a_deploy_with_a_field_of_the_wrong_type_is_refused_with_the_fields_name(bench: Bench) -> None:
    service = bench.service()
    request = bench.send("deploy_wrong_type", SERVICE=service, ID="wrong")
    response = bench.response(request, timeout=ANSWER_SECS)
    assert response["error"]["code"] == "INVALID_PAYLOAD"
    assert "config.port" in response["error"]["message"]
    bench.link.settle()
    assert bench.link.of("deploy_status", service_id=service) == []
    assert bench.containers(service) == []


def test_a_stop_stops_and_keeps_or_removes_as_told(bench: Bench) -> None:
    service, _ = bench.deploy()
    assert bench.response(bench.send("stop", SERVICE=service, ID="stop"))["success"] is True
    assert bench.states(service) == ["exited"]
    assert bench.response(bench.send("stop_remove", SERVICE=service, ID="remove"))["success"] is True
    assert bench.states(service) == []


def test_the_older_stop_with_a_container_id_stops_the_service(bench: Bench) -> None:
    service, _ = bench.deploy("deploy_flat")
    container = bench.containers(service)[0]["Id"]
    response = bench.response(bench.send("stop_older", SERVICE=service, ID="stop-older", CONTAINER=container))
    assert response["success"] is True
    assert bench.states(service) == ["exited"]


def test_a_stop_of_something_unknown_is_refused(bench: Bench) -> None:
    response = bench.response(bench.send("stop", SERVICE=bench.service(), ID="nothing"))
    assert response["error"]["code"] == "SERVICE_NOT_FOUND"


def test_a_service_is_scaled_and_restarted(bench: Bench) -> None:
    service, deployment = bench.deploy()
    for name, replicas in (("scale", 2), ("scale_rolling", 3)):
        since = len(bench.link.frames)
        response = bench.response(bench.send(name, SERVICE=service, ID=f"{name}-{service}"), timeout=ANSWER_SECS)
        assert response["data"]["accepted"] is True
        assert bench.outcome(deployment, since=since)["status"] == "running"
        assert bench.states(service) == ["running"] * replicas
    before = {
        c["Id"]: api("GET", f"/containers/{c['Id']}/json")["State"]["StartedAt"] for c in bench.containers(service)
    }
    assert bench.response(bench.send("restart", SERVICE=service, ID="restart"), timeout=30)["success"] is True
    after = {
        c["Id"]: api("GET", f"/containers/{c['Id']}/json")["State"]["StartedAt"] for c in bench.containers(service)
    }
    assert before.keys() == after.keys()
    assert all(before[id] != after[id] for id in before)


def test_an_exec_gives_exit_code_and_output(bench: Bench) -> None:
    service, _ = bench.deploy()
    response = bench.response(bench.send("exec", SERVICE=service, ID="exec"))
    assert list(shapes.EXEC_DATA(response["data"], "data")) == []
    assert response["data"] == {"exit_code": 3, "stdout": "exec in /tmp\n", "stderr": "oops\n"}


def test_the_older_timeout_of_an_exec_counts(bench: Bench) -> None:
    service, _ = bench.deploy()
    response = bench.response(bench.send("exec_older", SERVICE=service, ID="exec-older"))
    assert response["error"]["code"] == "EXEC_TIMEOUT"
    wait_until(lambda: "sleep 600" not in _processes(bench, service), "the command's process is gone")


def _processes(bench: Bench, service: str) -> str:
    (container,) = bench.containers(service)
    return json.dumps(api("GET", f"/containers/{container['Id']}/top")["Processes"])


def test_a_subscription_streams_until_it_is_ended(bench: Bench) -> None:
    service, _ = bench.deploy()
    request = bench.send("logs_subscribe", SERVICE=service, ID="follow")
    assert bench.response(request)["success"] is True
    first = bench.link.expect("log_stream", request_id=request)
    assert first.payload["done"] is False
    assert "starting v1" in [line["message"] for line in first.payload["logs"]]
    assert bench.response(bench.send("stop_remove", SERVICE=service, ID="stop-follow"))["success"] is True
    bench.link.first(lambda f: f.type == "log_stream" and "stopping v1" in json.dumps(f.payload), "the last line")
    bench.send("logs_unsubscribe", SERVICE=service, ID="follow")
    bench.link.first(lambda _: len(bench.link.of("command_response", request_id=request)) == 2, "answer to the end")


def test_a_subscription_that_does_not_follow_ends_with_done(bench: Bench) -> None:
    service, _ = bench.deploy()
    for name in ("logs_subscribe_range", "logs_older"):
        request = bench.send(name, SERVICE=service, ID=f"{name}-x")
        assert bench.response(request)["success"] is True
        bench.link.expect("log_stream", request_id=request, done=True)
        lines = [line["message"] for f in bench.link.of("log_stream", request_id=request) for line in f.payload["logs"]]
        assert "serving v1 on 8080" in lines


@pytest.mark.parametrize("name", ["rollback", "rollback_older"])
def test_a_rollback_returns_to_the_deployment_that_was_named(bench: Bench, name: str) -> None:
    service, first = bench.deploy()
    _, second = bench.deploy("deploy_flat", service)
    assert bench.containers(service)[0]["Labels"]["syntra.deployment_id"] == second
    since = len(bench.link.frames)
    response = bench.response(bench.send(name, SERVICE=service, ID=f"back-{name}", TARGET=first), timeout=ANSWER_SECS)
    assert response["success"] is True
    assert bench.outcome(first, since=since)["status"] == "running"
    (container,) = bench.containers(service)
    assert container["Labels"]["syntra.deployment_id"] == first


def test_a_health_check_is_changed_without_a_new_container(bench: Bench) -> None:
    service, _ = bench.deploy()
    before = [container["Id"] for container in bench.containers(service)]
    response = bench.response(bench.send("configure_health_check", SERVICE=service), timeout=ANSWER_SECS)
    assert response["success"] is True
    check = response["data"]["health_check"]
    asked = {key: check[key] for key in ("type", "path", "interval_seconds", "timeout_seconds", "retries")}
    assert asked == {"type": "http", "path": "/health", "interval_seconds": 10, "timeout_seconds": 5, "retries": 3}
    assert [container["Id"] for container in bench.containers(service)] == before


@pytest.mark.parametrize("name", ["unknown", "unknown_older"])
def test_what_this_agent_cannot_do_is_answered_as_unsupported(bench: Bench, name: str) -> None:
    request = bench.send(name, SERVICE=bench.service(), ID=name)
    assert bench.response(request, timeout=ANSWER_SECS)["error"]["code"] == "UNSUPPORTED"


def test_an_agent_that_is_not_installed_refuses_an_update_and_says_why(bench: Bench) -> None:
    request = bench.send("update_agent", SERVICE=bench.service(), ID="update")
    error = bench.response(request, timeout=ANSWER_SECS)["error"]
    assert error["code"] == "UPDATE_REFUSED"
    assert "is not installed in a directory of versions; run `syntra-agent update` on the server" in error["message"]


def test_an_unknown_type_without_any_id_is_only_logged(bench: Bench) -> None:
    before = bench.link.settle()
    bench.send("unknown_without_id", SERVICE=bench.service())
    bench.link.settle()
    assert bench.link.said(before) == []
    assert "defragment" in bench.agent.text()


GARBAGE: list[str | bytes] = [
    "",
    "{",
    "null",
    "[]",
    "17",
    '"deploy"',
    '{"type":"deploy"',
    '{"type":"deploy","id":"1","payload":"text"}',
    '{"type":["deploy"],"id":"1","payload":{}}',
    '{"type":"","id":"1","payload":{}}',
    '{"id":"1","payload":{}}',
    '{"type":"exec","id":{"a":1},"payload":{}}',
    '{"type":"scale","id":"1","payload":{"service_id":"x","replicas":NaN}}',
    '{"type":"scale","id":"1","payload":{"service_id":"x","replicas":1e999}}',
    '{"type":"scale","id":"1","payload":{"service_id":"x","replicas":' + "9" * 5000 + "}}",
    '{"type":"stop","id":"\\ud800","payload":{"service_id":"\\udfff"}}',
    "[" * 100_000,
    '{"type":"deploy","id":"1","payload":' + '{"a":' * 100_000 + "1" + "}" * 100_001,
    '{"type":"' + "x" * 100_000 + '","id":"1","payload":{}}',
    b"\x00\xff\xfe",
    b"\x80" * 1000,
    b"",
]


def test_garbage_is_survived_and_nothing_is_said_to_it(bench: Bench) -> None:
    before = bench.link.settle()
    for frame in GARBAGE:
        bench.link.send_frame(frame)
    bench.link.settle()
    assert bench.link.said(before) == []
    assert bench.agent.ask("status", {})["data"]["control_plane"]["state"] == "ready"


ODD_PAYLOADS: list[tuple[str, dict[str, Any]]] = [
    ("deploy", {}),
    ("deploy", {"service_id": 7, "deployment_id": [], "image": {}, "config": []}),
    ("deploy", {"service_id": "../../etc", "deployment_id": "d", "image": "busybox"}),
    ("deploy", {"service_id": "s", "deployment_id": "d", "image": "busybox", "replicas": 10**30}),
    ("stop", {"service_id": None}),
    ("scale", {"service_id": "s", "replicas": "many"}),
    ("scale", {"service_id": "s", "replicas": -1}),
    ("exec", {"service_id": "s", "command": "ls -l; echo"}),
    ("exec", {"service_id": "s", "command": ["ls"], "timeout_seconds": -1}),
    ("logs_subscribe", {"service_id": "s", "tail": 10**12}),
    ("logs_subscribe", {"service_id": "s", "since": "yesterday"}),
    ("restart", {"service_id": {"id": "s"}}),
    ("rollback", {"service_id": "s", "target_deployment_id": 4}),
]


@pytest.mark.parametrize(("kind", "payload"), ODD_PAYLOADS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_command_with_an_odd_payload_is_refused_under_its_id(
    bench: Bench, kind: str, payload: dict[str, Any]
) -> None:
    request = bench.link.send(kind, payload)
    error = bench.response(request, timeout=ANSWER_SECS)["error"]
    assert error["code"] in {"INVALID_PAYLOAD", "SERVICE_NOT_FOUND"}, error


def test_a_request_id_that_is_no_text_is_refused_under_the_envelopes(bench: Bench) -> None:
    request = bench.link.send("stop", {"request_id": 5, "service_id": bench.service()})
    assert "request_id" in bench.response(request, timeout=ANSWER_SECS)["error"]["message"]


def test_a_binary_frame_is_read_like_a_text_frame(bench: Bench) -> None:
    bench.link.send_frame(bench.frame("ping", ID="binary").encode())
    bench.link.first(lambda f: f.type == "pong" and f.message["id"] == "ping-binary", "pong")


def test_one_id_runs_once_and_gets_one_answer(bench: Bench) -> None:
    """An exec counts how often it ran; a deploy repeated after its end is answered and reported as before."""
    service, _ = bench.deploy()
    count = {"service_id": service, "command": ["sh", "-c", "echo x >> /tmp/n; cat /tmp/n"], "request_id": "req-count"}
    for _ in range(3):
        bench.link.send("exec", count)
    bench.link.settle()
    first = bench.response("req-count")
    bench.link.send("exec", count)
    bench.link.settle()
    assert first["data"]["stdout"] == "x\n"
    # The output is sent once and not kept; the exit code is.
    again = {**first, "data": {"exit_code": 0, "stdout": "", "stderr": "", "output_forgotten": True}}
    said = [frame.payload for frame in bench.link.of("command_response", request_id="req-count")]
    assert all(payload in (first, again) for payload in said)
    assert said[-1] == again

    deployment = f"dep-twice-{bench.images.token}"
    for _ in range(2):
        request = bench.send("deploy_current", SERVICE=service, ID="twice")
    outcome = bench.outcome(deployment)
    (container,) = bench.containers(service)
    since = len(bench.link.frames)
    bench.send("deploy_current", SERVICE=service, ID="twice")
    assert bench.outcome(deployment, since=since) == outcome
    answers = bench.link.of("command_response", request_id=request)
    assert len(answers) >= 2 and all(frame.payload == answers[0].payload for frame in answers)
    assert [c["Id"] for c in bench.containers(service)] == [container["Id"]]


def test_one_subscription_id_streams_once(bench: Bench) -> None:
    service, _ = bench.deploy()
    request = bench.send("logs_subscribe", SERVICE=service, ID="once")
    bench.response(request)
    bench.send("logs_subscribe", SERVICE=service, ID="once")
    bench.link.settle()
    bench.link.send("exec", {"service_id": service, "command": ["sh", "-c", "echo marker > /proc/1/fd/1"]})
    bench.link.first(lambda f: f.type == "log_stream" and "marker" in json.dumps(f.payload), "marker")
    bench.response(bench.send("logs_unsubscribe", SERVICE=service, ID="once"))
    lines = [line["message"] for f in bench.link.of("log_stream", request_id=request) for line in f.payload["logs"]]
    assert lines.count("marker") == 1


def test_pending_deployments_run_once_however_often_they_are_handed_over(bench: Bench) -> None:
    """Two services; one of the deployments comes without a request id, as older control planes queue them."""
    with_id, without = bench.service(), bench.service()
    payloads = [
        json.loads(bench.frame("deploy_current", SERVICE=with_id, ID="pending"))["payload"],
        json.loads(bench.frame("deploy_flat", SERVICE=without, ID="pending-flat"))["payload"],
    ]
    ack = {**ACK, "pending_deployments": payloads}
    bench.redial(ack)
    for id in ("pending", "pending-flat"):
        assert bench.outcome(f"dep-{id}-{bench.images.token}")["status"] == "running"
    before = [c["Id"] for service in (with_id, without) for c in bench.containers(service)]
    bench.redial(ack)
    for id in ("pending", "pending-flat"):
        assert bench.outcome(f"dep-{id}-{bench.images.token}")["status"] == "running"
    assert [c["Id"] for service in (with_id, without) for c in bench.containers(service)] == before
    assert len(before) == 2


def test_an_id_is_remembered_by_the_agent_that_comes_after_a_kill(bench: Bench) -> None:
    service, id = bench.service(), "kill"
    deployment = f"dep-{id}-{bench.images.token}"
    request = bench.send("deploy_current", SERVICE=service, ID=id)
    response, outcome = bench.response(request), bench.outcome(deployment)
    exec_id = bench.send("exec", SERVICE=service, ID="kill-exec")
    answer = bench.response(exec_id)
    bench.link.settle()
    bench.agent.kill()
    bench.agent.start()
    bench.link = bench.plane.accepted()
    bench.send("deploy_current", SERVICE=service, ID=id)
    bench.send("exec", SERVICE=service, ID="kill-exec")
    assert bench.response(request) == response
    assert bench.outcome(deployment) == outcome
    again = {"exit_code": answer["data"]["exit_code"], "stdout": "", "stderr": "", "output_forgotten": True}
    assert bench.response(exec_id) == {**answer, "data": again}
    assert len(bench.containers(service)) == 1


def test_a_command_that_the_kill_interrupted_is_answered_after_it(bench: Bench) -> None:
    service, _ = bench.deploy()
    request = "req-interrupted"
    command = ["sleep", "30"]
    bench.link.send("exec", {"request_id": request, "service_id": service, "command": command, "timeout_seconds": 40})
    wait_until(lambda: "sleep 30" in _processes(bench, service), "the command begins")
    bench.agent.kill()
    bench.agent.start()
    bench.link = bench.plane.accepted()
    assert bench.response(request)["error"]["code"] == "INTERRUPTED"
    bench.link.send("exec", {"request_id": request, "service_id": service, "command": command, "timeout_seconds": 40})
    bench.link.settle()
    assert {frame.payload["error"]["code"] for frame in bench.link.of("command_response", request_id=request)} == {
        "INTERRUPTED"
    }


def test_every_recorded_frame_is_used_here() -> None:
    source = Path(__file__).read_text()
    assert [path.stem for path in sorted(FRAMES.iterdir()) if f'"{path.stem}"' not in source] == []
