"""Every frame that the deployed hub was seen to send, and the command of ours that it becomes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.connection.codec import Envelope, decode
from syntra.connection.dialect.contract import Contract
from syntra.connection.dialect.hub import Hub, is_stub
from syntra.connection.dialect.hub_commands import is_hubs
from syntra.connection.messages import parse_hello_ack
from syntra.model.command import (
    Cancel,
    Command,
    ConfigureHealthCheck,
    Deploy,
    Exec,
    InstallCertificate,
    LogsSubscribe,
    LogsUnsubscribe,
    Pace,
    Restart,
    RestartContainer,
    Rollback,
    Scale,
    SplitTraffic,
    Stop,
    StopContainer,
    StopDeployment,
    SwitchTraffic,
)
from syntra.model.command_payload import parse_command, request_id_of
from syntra.model.errors import RequestError
from syntra.model.health_change import HealthChange
from syntra.model.ids import ContainerId, DeploymentId, RequestId, ServiceId
from syntra.model.spec import HealthKind
from syntra.utils.timestamps import parse_ns

SAMPLE = Path(__file__).parents[1] / "samples" / "hub_commands.ndjson"
FRAMES = [decode(line) for line in SAMPLE.read_text().splitlines()]
NOW = 1_795_740_550.0

WEB = ServiceId("0020f4f4-3f5e-4c55-94da-c2d814f1c7f3")
SPEC = ServiceId("svc_spec7506f2")
CONTAINER = ContainerId("441a3ad8944dae4096df0df758052519df4d9cc96cce32e32ee6ac8103eba5d6")
CANCELLED = DeploymentId("cd63cacb-9e23-40a0-8a57-df83243ee5f7")
CANARY = DeploymentId("b7a0e765-df8f-4e2e-b9ea-c490221e39d7")


def frame(kind: str, **payload: Any) -> Envelope:
    return Envelope(id="e1", type=kind, timestamp="2026-11-27T00:49:00.000Z", payload=payload)


def command_of(message: Envelope, now: float = NOW) -> Command:
    [translated] = Hub().incoming(message, now)
    assert translated.id == message.id
    return parse_command(translated.type, request_id_of(translated.id, translated.payload), translated.payload)


def deployed(message: Envelope) -> dict[str, Any]:
    command = command_of(message)
    assert isinstance(command, Deploy)
    spec, health = command.deployment.spec, command.deployment.spec.health
    return {
        "request": command.request_id,
        "deployment": command.deployment.deployment_id,
        "service": spec.service_id,
        "name": spec.service_name,
        "project": spec.project_name,
        "image": str(spec.image),
        "port": spec.port,
        "replicas": spec.replicas,
        "env": dict(spec.env),
        "cpu": spec.cpu_nanos,
        "memory": spec.memory_bytes,
        "health": None if health is None else (health.kind, health.path, health.interval, health.retries),
    }


DEPLOYS: dict[int, dict[str, Any]] = {
    2: {
        "request": "deploy-3f614767-a081-4fa4-8498-299f941d073f",
        "deployment": "3f614767-a081-4fa4-8498-299f941d073f",
        "service": WEB,
        "name": "web-7506f2",
        "project": "default",
        "image": "127.0.0.1:5000/shop/api:interop-a",
        "port": 8080,
        "replicas": 1,
        "env": {"LEVEL": "project", "COLOR": "a"},
        "cpu": 500_000_000,
        "memory": 64 * 1024 * 1024,
        "health": (HealthKind.HTTP, "/health", 30.0, 3),
    },
    3: {
        "request": "dac957c1-007b-4070-bd85-0fd08bea8af3",
        "deployment": "4ffc6055-69e9-46a4-982d-fa5ad1b797df",
        "service": "6b62b489-5009-48be-af48-deeeae518faf",
        "name": "bare-7506f2",
        "project": "default",
        "image": "127.0.0.1:5000/shop/api:interop-a",
        "port": 8080,
        "replicas": 1,
        "env": {"LEVEL": "project", "COLOR": "a"},
        "cpu": None,
        "memory": None,
        # An explicit null is no default: the port is asked, and no path.
        "health": (HealthKind.TCP, "/", 10.0, 3),
    },
    4: {
        "request": "a7f000ec-f3bc-41de-8038-8b87c29c2b8b",
        "deployment": CANCELLED,
        "service": "6b62b489-5009-48be-af48-deeeae518faf",
        "name": "bare-7506f2",
        "project": "default",
        "image": "127.0.0.1:5000/shop/api:interop-b",
        "port": 8080,
        "replicas": 1,
        "env": {},
        "cpu": None,
        "memory": None,
        "health": None,
    },
    6: {
        "request": "a0347acb-11bd-4422-bbf7-ee0f832cc3dd",
        "deployment": "c042844d-d4b5-4684-a790-1baa82326d1e",
        "service": "faf86d16-0ded-41b5-98ca-b2854e3f83ee",
        "name": "flat-7506f2",
        "project": "interop",
        "image": "127.0.0.1:5000/shop/api:interop-a",
        "port": 8080,
        "replicas": 1,
        "env": {"X": "1"},
        "cpu": 500_000_000,
        "memory": 64 * 1024 * 1024,
        "health": (HealthKind.HTTP, "/health", 10.0, 3),
    },
    27: {
        "request": "a2f1549d-8eff-4f12-bc89-912111e726aa",
        "deployment": "ba915c40-73b8-407b-b6e1-c70815b935c7",
        "service": SPEC,
        "name": "spec",
        "project": "interop",
        "image": "127.0.0.1:5000/shop/api:interop-a",
        "port": 8080,
        "replicas": 1,
        "env": {"A": "1"},
        "cpu": 500_000_000,
        "memory": 512 * 1024 * 1024,
        "health": (HealthKind.HTTP, "/health", 5.0, 3),
    },
}


def _id(number: int) -> RequestId:
    return RequestId(FRAMES[number].id)


def _exec(number: int, *argv: str, timeout: float = 30.0, **changes: Any) -> Exec:
    given: dict[str, Any] = {"service_id": WEB, "env": {}, "working_dir": None, **changes}
    return Exec(request_id=_id(number), argv=argv, timeout_secs=timeout, **given)


def _logs(number: int, *, follow: bool = False, tail: int, since: str | None = None, **changes: Any) -> LogsSubscribe:
    given: dict[str, Any] = {"service_id": WEB, **changes}
    return LogsSubscribe(request_id=_id(number), follow=follow, tail=tail, since=since, until=None, **given)


COMMANDS: dict[int, Command] = {
    5: Cancel(request_id=_id(5), deployment_id=CANCELLED),
    7: Scale(request_id=_id(7), service_id=WEB, replicas=2, pace=Pace.IMMEDIATE),
    8: Scale(request_id=_id(8), service_id=WEB, replicas=1, pace=Pace.IMMEDIATE),
    9: Restart(request_id=_id(9), service_id=WEB, grace_secs=None),
    # 60000 of the hub's workflows are milliseconds.
    10: _exec(10, "echo", "hello", "there", timeout=60.0),
    11: _exec(11, "id"),
    12: _logs(12, tail=5),
    # An hour before NOW.
    13: _logs(13, tail=2, since="2026-11-26T23:49:10.000000000Z"),
    14: ConfigureHealthCheck(
        request_id=_id(14), service_id=WEB, change=HealthChange(path="/health", interval=15.0, timeout=4.0, retries=2)
    ),
    18: RestartContainer(request_id=_id(18), container_id=CONTAINER, grace_secs=None),
    19: StopContainer(request_id=_id(19), container_id=CONTAINER, deployment_id=None, grace_secs=30.0, remove=False),
    20: StopContainer(request_id=_id(20), container_id=CONTAINER, deployment_id=None, grace_secs=None, remove=True),
    21: StopContainer(
        request_id=_id(21), container_id=CONTAINER, deployment_id=CANCELLED, grace_secs=None, remove=False
    ),
    22: StopDeployment(request_id=_id(22), deployment_id=CANCELLED, grace_secs=None, remove=False),
    23: SwitchTraffic(request_id=_id(23), service_id=WEB, deployment_id=CANARY),
    24: SplitTraffic(request_id=_id(24), service_id=WEB, deployment_id=CANARY, percent=10),
    25: SplitTraffic(request_id=_id(25), service_id=WEB, deployment_id=None, percent=0),
    26: InstallCertificate(
        request_id=_id(26), service_id=WEB, domain="shop.example.com", certificate="PEM", private_key="PEM"
    ),
    28: Scale(request_id=_id(28), service_id=SPEC, replicas=2, pace=Pace.ROLLING),
    29: Restart(request_id=_id(29), service_id=SPEC, grace_secs=5.0),
    30: _exec(30, "env", timeout=10.0, service_id=SPEC, working_dir="/tmp", env={"B": "2"}),
    32: _logs(32, follow=True, tail=3, since="2026-11-27T00:48:27.851000000Z", service_id=SPEC),
    33: LogsUnsubscribe(request_id=_id(33), service_id=SPEC),
    34: Stop(request_id=_id(34), service_id=SPEC, grace_secs=5.0, remove=True),
    35: Stop(
        request_id=_id(35), service_id=ServiceId("faf86d16-0ded-41b5-98ca-b2854e3f83ee"), grace_secs=None, remove=False
    ),
    # The service is deleted in the hub: nothing there could remove its containers later.
    36: Stop(request_id=_id(36), service_id=WEB, grace_secs=None, remove=True),
}
UNCHANGED = {0: "hello_ack", 1: "pong", 15: "update_agent", 16: "ping", 31: "exec"}
ROLLBACK = 17


def test_every_line_of_the_sample_is_here() -> None:
    assert sorted([*DEPLOYS, *COMMANDS, *UNCHANGED, ROLLBACK]) == list(range(len(FRAMES)))


@pytest.mark.parametrize("number", DEPLOYS)
def test_a_deploy_of_the_hub_is_a_deployment_of_ours(number: int) -> None:
    assert deployed(FRAMES[number]) == DEPLOYS[number]


@pytest.mark.parametrize("number", COMMANDS)
def test_a_frame_of_the_hub_is_a_command_of_ours(number: int) -> None:
    assert command_of(FRAMES[number]) == COMMANDS[number]


def test_a_rollback_of_the_hub_says_what_the_target_ran() -> None:
    command = command_of(FRAMES[ROLLBACK])
    assert isinstance(command, Rollback)
    assert (command.service_id, command.target) == (WEB, "3f614767-a081-4fa4-8498-299f941d073f")
    assert str(command.image) == "127.0.0.1:5000/shop/api:interop-a"


@pytest.mark.parametrize("number", UNCHANGED)
def test_what_the_contract_has_as_well_passes_unchanged(number: int) -> None:
    message = FRAMES[number]
    assert message.type == UNCHANGED[number]
    assert list(Hub().incoming(message, NOW)) == [message]


def test_the_hubs_hello_ack_is_accepted() -> None:
    ack = parse_hello_ack(FRAMES[0].payload)
    assert (ack.accepted, ack.problems, ack.pending_deployments, ack.features) == (True, (), (), frozenset())


def test_an_interactive_exec_is_refused_with_a_sentence() -> None:
    with pytest.raises(RequestError, match="interactive") as refused:
        command_of(FRAMES[31])
    assert refused.value.code == "UNSUPPORTED"


@pytest.mark.parametrize("number", range(len(FRAMES)))
def test_the_contract_changes_nothing(number: int) -> None:
    assert list(Contract().incoming(FRAMES[number], NOW)) == [FRAMES[number]]
    assert list(Contract().outgoing(FRAMES[number])) == [FRAMES[number]]


# What the sample has only one form of


def nested(**changes: Any) -> Envelope:
    service = {"id": "web", "name": "web", "type": "web", "source_type": "docker_image", "docker_image": "shop/web:1"}
    docker = changes.pop("docker", {"image": "shop/web:1", "tag": "latest"})
    payload: dict[str, Any] = {"deployment_id": "d1", "service": {**service, **changes}}
    return frame("deploy", **payload, **({"docker": docker} if docker else {}))


def test_a_tag_that_is_a_whole_reference_is_the_reference() -> None:
    reference = "127.0.0.1:5000/shop/api:v7"
    assert deployed(nested(docker={"image": "web", "tag": reference}))["image"] == reference
    flat = frame("deploy", service_id="web", deployment_id="d1", image="web", tag="nginx:1.27")
    assert deployed(flat)["image"] == "nginx:1.27"
    rollback = command_of(frame("rollback", service_id="web", target_deployment_id="d0", image="web", tag=reference))
    assert isinstance(rollback, Rollback) and str(rollback.image) == reference
    digest = f"shop/api@sha256:{'0' * 64}"
    assert deployed(nested(docker={"image": "web", "tag": digest}))["image"].endswith(digest.partition("@")[2])
    assert deployed(nested(docker={"image": "shop/web", "tag": "v2"}))["image"] == "shop/web:v2"


def test_keys_that_the_hub_leaves_out_have_its_schemas_defaults() -> None:
    found = deployed(nested(health_check={}))
    assert (found["port"], found["health"]) == (3000, (HealthKind.HTTP, "/", 30.0, 3))
    assert deployed(nested(port=None))["port"] is None
    assert deployed(nested(port=81, health_check={"interval": 5}))["health"] == (HealthKind.HTTP, "/", 5.0, 3)
    assert deployed(nested())["health"] is None


def test_a_deploy_from_git_without_an_image_is_refused_with_a_sentence() -> None:
    message = nested(docker_image=None, source_type="git", docker=None)
    from_git = frame("deploy", **message.payload, git={"repo_url": "https://example.com/shop.git", "branch": "main"})
    with pytest.raises(RequestError, match="does not build from `git`"):
        command_of(from_git)


@pytest.mark.parametrize(
    ("timeout", "secs"), [(60_000, 60.0), (1_000, 1.0), (1_500.5, 1.5005), (999, 999.0), (60, 60.0), (0.5, 0.5)]
)
def test_an_execs_timeout_is_seconds_up_to_a_thousand_and_milliseconds_from_there(timeout: float, secs: float) -> None:
    command = command_of(frame("exec", service_id="web", command=["id"], timeout=timeout))
    assert isinstance(command, Exec) and command.timeout_secs == secs


def test_a_timeout_that_names_its_unit_is_taken_at_its_word() -> None:
    command = command_of(frame("exec", service_id="web", command=["id"], timeout_seconds=2000, timeout=60_000))
    assert isinstance(command, Exec) and command.timeout_secs == 2000


@pytest.mark.parametrize(
    ("since", "ago"), [("1h", 3600), ("90s", 90), ("1h30m", 5400), ("500ms", 0.5), ("2d", 172_800), ("1w", 604_800)]
)
def test_since_may_be_a_duration(since: str, ago: float) -> None:
    command = command_of(frame("logs", service_id="web", since=since))
    assert isinstance(command, LogsSubscribe) and command.since is not None
    assert parse_ns(command.since) == int((NOW - ago) * 1e9)


def test_since_longer_ago_than_the_epoch_is_the_epoch() -> None:
    command = command_of(frame("logs", service_id="web", since="9999w"))
    assert isinstance(command, LogsSubscribe) and command.since == "1970-01-01T00:00:00.000000000Z"


def test_pending_deployments_that_only_name_a_deployment_are_told_from_real_ones() -> None:
    assert is_stub({"deployment_id": "d1", "service_id": "web", "queued_at": "2026-11-27T00:49:00Z"})
    assert not is_stub({"deployment_id": "d1", "service_id": "web", "queued_at": "…", "image": "shop/web:1"})
    assert not is_stub(FRAMES[2].payload) and not is_stub(FRAMES[27].payload)


def test_every_deploy_may_be_renamed_and_no_other_control_planes_may() -> None:
    for message in FRAMES:
        if message.type == "deploy" and message.payload.get("image") is not None:
            command = command_of(message)
            assert isinstance(command, Deploy) and command.renames
            [unchanged] = Contract().incoming(message, NOW)
            assert "on_name_conflict" not in unchanged.payload


# Recognition


def test_only_frames_that_no_other_control_plane_sends_tell_the_hub() -> None:
    telling = {number for number, message in enumerate(FRAMES) if is_hubs(message)}
    assert telling == {2, 3, 5, 10, 13, 18, 19, 20, 21, 22, 23, 24, 25, 26}


@pytest.mark.parametrize(
    ("message", "tells"),
    [
        (nested(docker={"image": "web", "tag": "127.0.0.1:5000/shop/api:v7"}), True),
        (frame("deploy", deployment_id="d1", service={"id": "web"}, docker={"image": "a", "tag": "b"}), False),
        (frame("stop", deployment_id="d1"), True),
        (frame("stop", service_id="web", deployment_id="d1"), False),
        (frame("exec", service_id="web", command=["id"], timeout=3600), False),
        (frame("exec", service_id="web", command=["id"], timeout=3601), True),
        (frame("logs", service_id="web", since="1795740550"), False),
        (frame("promote", service_id="web"), False),
    ],
)  # fmt: skip
def test_recognition_at_its_edges(message: Envelope, tells: bool) -> None:
    assert is_hubs(message) is tells


# Anything at all

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KINDS = [*sorted({message.type for message in FRAMES}), "deploy_status", "alert", "nothing"]
KEYS = sorted({key for message in FRAMES for key in message.payload} | {"service", "docker", "image", "tag", "git"})
PAYLOADS = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), payload=PAYLOADS, now=st.floats(0, 4e9))
def test_no_payload_makes_it_raise(kind: str, payload: dict[str, Any], now: float) -> None:
    message = frame(kind, **payload)
    is_hubs(message)
    translated: Sequence[Envelope] = Hub().incoming(message, now)
    assert len(translated) == 1 and translated[0].id == message.id
    json.dumps(dict(translated[0].payload))


@settings(max_examples=60, deadline=None)
@given(kind=st.text(min_size=1, max_size=20).filter(lambda kind: kind not in KINDS), payload=PAYLOADS)
def test_a_frame_that_is_not_known_passes_through(kind: str, payload: dict[str, Any]) -> None:
    message = frame(kind, **payload)
    assert list(Hub().incoming(message, NOW)) == [message]
    assert list(Hub().outgoing(message)) == [message]
