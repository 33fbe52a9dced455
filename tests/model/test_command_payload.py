"""Commands from payloads: the current field names, the older ones, and whatever else a peer may send."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.model.command import (
    Abort,
    Copy,
    Deploy,
    Exec,
    ExecStreams,
    LogsSubscribe,
    LogsUnsubscribe,
    Pace,
    Promote,
    ProxyAction,
    ProxyControl,
    Query,
    QueryKind,
    Restart,
    Rollback,
    Scale,
    Stop,
)
from syntra.model.command_payload import parse_command, request_id_of
from syntra.model.errors import InvalidField, RequestError
from syntra.model.ids import DeploymentId, RequestId, ServiceId
from syntra.model.image import ImageRef
from tests.model.samples import SECRET, current_payload, json_values, placed, quick, without

REQUEST = RequestId("req_1")
SERVICE = ServiceId("svc_1")
OF: dict[str, Any] = {"request_id": REQUEST, "service_id": SERVICE}


def parse(kind: str, **payload: object) -> object:
    return parse_command(kind, REQUEST, {"service_id": "svc_1", **payload})


def refused(kind: str, **payload: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse(kind, **payload)
    assert SECRET not in str(caught.value)
    return caught.value


def test_a_deploy_carries_its_deployment_and_its_credentials() -> None:
    command = parse_command("deploy", REQUEST, current_payload())
    assert isinstance(command, Deploy)
    assert command.service_id == "svc_123"
    assert command.auth is not None
    assert (command.auth.username, command.auth.password) == ("bot", SECRET)
    assert SECRET not in repr(command)


COMMANDS: dict[str, tuple[str, dict[str, object], object]] = {
    "stop": ("stop", {"timeout_seconds": 3, "remove_container": True}, Stop(**OF, grace_secs=3.0, remove=True)),
    "stop with nothing": ("stop", {}, Stop(**OF, grace_secs=None, remove=False)),
    "older stop": ("stop", {"container_id": "abc", "timeout": 0}, Stop(**OF, grace_secs=0.0, remove=False)),
    "scale": ("scale", {"replicas": 3, "strategy": "rolling"}, Scale(**OF, replicas=3, pace=Pace.ROLLING)),
    "older scale": ("scale", {"replicas": 0}, Scale(**OF, replicas=0, pace=Pace.IMMEDIATE)),
    "restart": ("restart", {"timeout_seconds": "30s"}, Restart(**OF, grace_secs=30.0)),
    "rollback": ("rollback", {"target_deployment_id": "dep_0"}, Rollback(**OF, target=DeploymentId("dep_0"))),
    "rollback to the last": ("rollback", {"target_deployment_id": None}, Rollback(**OF, target=None)),
    "older rollback": (
        "rollback",
        {"target_deployment_id": "dep_0", "image": "nginx", "tag": "1"},
        Rollback(**OF, target=DeploymentId("dep_0"), image=ImageRef(registry="", repository="nginx", tag="1")),
    ),
    "promote": ("promote", {}, Promote(**OF)),
    "abort": ("abort", {}, Abort(**OF)),
    "exec": (
        "exec",
        {
            "command": ["ls", "-l", ""],
            "env": {"A": "b", "N": 1},
            "working_dir": "/srv",
            "timeout_seconds": 5,
            "interactive": False,
        },
        Exec(**OF, argv=("ls", "-l", ""), env={"A": "b", "N": "1"}, working_dir="/srv", timeout_secs=5.0),
    ),
    "older exec": (
        "exec",
        {"command": ["ls"], "timeout": 7},
        Exec(**OF, argv=("ls",), env={}, working_dir=None, timeout_secs=7.0),
    ),
    "logs_subscribe": (
        "logs_subscribe",
        {"follow": True, "tail": 5, "since": "2026-01-02T03:04:05Z", "until": "2026-01-02T04:04:05.5+01:00"},
        LogsSubscribe(
            **OF,
            follow=True,
            tail=5,
            since="2026-01-02T03:04:05.000000000Z",
            until="2026-01-02T03:04:05.500000000Z",
        ),
    ),
    "older logs": (
        "logs",
        {"lines": 7, "follow": False, "since": 1.5},
        LogsSubscribe(**OF, follow=False, tail=7, since="1970-01-01T00:00:01.500000000Z", until=None),
    ),
    "logs with nothing": ("logs", {}, LogsSubscribe(**OF, follow=False, tail=100, since=None, until=None)),
    "logs since never": (
        "logs",
        {"since": "0001-01-01T00:00:00Z", "until": ""},
        LogsSubscribe(**OF, follow=False, tail=100, since=None, until=None),
    ),
    "logs_unsubscribe": ("logs_unsubscribe", {}, LogsUnsubscribe(**OF)),
    "metrics": ("metrics", {}, Query(**OF, kind=QueryKind.METRICS)),
    "proxy_up": ("proxy_up", {}, ProxyControl(request_id=REQUEST, action=ProxyAction.UP)),
    "proxy_down": ("proxy_down", {}, ProxyControl(request_id=REQUEST, action=ProxyAction.DOWN)),
    "proxy_status": ("proxy_status", {}, ProxyControl(request_id=REQUEST, action=ProxyAction.STATUS)),
    "status": ("status", {}, Query(request_id=REQUEST, kind=QueryKind.STATUS)),
    "list_services": ("list_services", {}, Query(request_id=REQUEST, kind=QueryKind.LIST_SERVICES)),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_payload_of_either_age_is_the_command_it_means(name: str) -> None:
    kind, payload, command = COMMANDS[name]
    assert parse(kind, **payload) == command
    assert parse(kind, **payload, later={"unknown": 1}, another=[]) == command


def test_an_unsubscribe_may_go_without_a_service() -> None:
    command = parse_command("logs_unsubscribe", REQUEST, {})
    assert command == LogsUnsubscribe(request_id=REQUEST, service_id=None)


def test_a_plan_query_carries_the_deployment_it_asks_about() -> None:
    query = parse_command("plan", REQUEST, without(current_payload(), "registry_auth"))
    deploy = parse_command("deploy", REQUEST, current_payload())
    assert isinstance(query, Query)
    assert isinstance(deploy, Deploy)
    assert query.deployment == deploy.deployment


WRONG: list[tuple[str, str, tuple[object, ...]]] = [
    ("stop", "timeout_seconds", (-1, 3601, "soon", True, [])),
    ("stop", "timeout", (-1,)),
    ("stop", "remove_container", ("yes", 1)),
    ("stop", "service_id", (None, "", 5, "a b")),
    ("scale", "replicas", (None, -1, 101, "2", 1.5, True)),
    ("scale", "strategy", ("fast", 5)),
    ("restart", "timeout_seconds", ("x",)),
    ("rollback", "target_deployment_id", (5, "a b")),
    ("rollback", "deployment_id", ("a b",)),
    ("rollback", "image", ("A", 5)),
    ("promote", "service_id", (None, "", 5, "a b")),
    ("abort", "service_id", (None, "", 5, "a b")),
    ("logs", "tail", (-1, 100_001, "all")),
    ("logs", "lines", (-1,)),
    ("logs", "follow", ("true",)),
    (
        "logs",
        "since",
        ("yesterday", True, [], -1, "2026-13-01T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00", 1e15, 10**11 * 9),
    ),
    ("logs", "until", ("2026-02-30T00:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00")),
    ("logs_unsubscribe", "service_id", (5, "a b")),
    ("metrics", "service_id", (5,)),
]


@pytest.mark.parametrize(("kind", "field", "values"), WRONG)
def test_every_wrong_field_is_named(kind: str, field: str, values: tuple[object, ...]) -> None:
    given_: dict[str, object] = {"replicas": 1} if kind == "scale" else {}
    for value in values:
        error = refused(kind, **{**given_, field: value})
        assert isinstance(error, InvalidField)
        assert error.field == field, value


EXEC: dict[str, tuple[object, ...]] = {
    "command": (None, [], "", f"mysql -p{SECRET}", {"a": SECRET}, [""], 5),
    "command[1]": (5, None, [SECRET]),
    "env": (f"PW={SECRET}", [f"PW={SECRET}"], {f"PW={SECRET}": ""}, {"": SECRET}, {"A B": SECRET}),
    "env.PW": ([SECRET], {"x": SECRET}, None, f"{SECRET}\0"),
    "working_dir": (5, "srv", "/proc", "//proc/self/fd/7", "/./proc/1", "/srv/../proc/self/fd/7", "/.."),
    "timeout_seconds": (0, 3601, "x"),
    "interactive": (1, "no"),
}


@pytest.mark.parametrize("field", EXEC)
def test_a_wrong_exec_is_named_and_quotes_neither_arguments_nor_environment(field: str) -> None:
    whole: dict[str, Any] = {"command": ["a", "b"], "env": {"PW": "x"}}
    for value in EXEC[field]:
        error = refused("exec", **placed(whole, field, value))
        assert isinstance(error, InvalidField)
        assert error.field == field, value


def test_an_exec_does_not_show_its_arguments_or_environment() -> None:
    command = parse("exec", command=["mysql", f"-p{SECRET}"], env={"PW": SECRET})
    assert SECRET not in repr(command)


def test_an_interactive_exec_is_refused_as_unsupported() -> None:
    error = refused("exec", command=["sh"], interactive=True)
    assert error.code == "UNSUPPORTED"
    assert str(error) == "cannot exec: interactive sessions are `stream` on the local socket only"


def test_a_copy_has_a_direction_and_an_absolute_path() -> None:
    for direction, has_input in (("from", False), ("to", True)):
        command = parse("copy", path="/etc/.", direction=direction, replica=2)
        assert isinstance(command, Copy)
        assert (command.path, command.way.value, command.replica) == ("/etc/.", direction, 2)
        assert (command.streams.stdin, command.streams.tty) == (has_input, False)
    for payload, field in (
        ({"path": "etc", "direction": "to"}, "path"),
        ({"path": "/a\0b", "direction": "to"}, "path"),
        ({"direction": "to"}, "path"),
        ({"path": "/etc", "direction": "up"}, "direction"),
        ({"path": "/etc"}, "direction"),
        ({"path": "/etc", "direction": "to", "replica": 0}, "replica"),
    ):
        error = refused("copy", **payload)
        assert isinstance(error, InvalidField) and error.field == field, payload


def test_an_unknown_type_is_refused_as_unsupported() -> None:
    error = refused("reboot" * 100)
    assert error.code == "UNSUPPORTED"
    assert len(str(error)) < 200


@pytest.mark.parametrize(
    ("payload", "envelope", "found"),
    [
        ({"request_id": "a"}, "b", "a"),
        ({}, "b", "b"),
        ({"request_id": None}, "b", "b"),
        ({"request_id": ""}, "b", "b"),
    ],
)
def test_the_request_id_is_the_payload_s_or_else_the_envelope_s(
    payload: dict[str, object], envelope: str, found: str
) -> None:
    assert request_id_of(envelope, payload) == found


@pytest.mark.parametrize(
    ("payload", "envelope", "field"),
    [
        ({"request_id": 5}, "b", "request_id"),
        ({"request_id": "a b"}, "b", "request_id"),
        ({}, "a b", "id"),
        ({}, "", "id"),
    ],
)
def test_a_wrong_request_id_is_refused_where_it_stands(payload: dict[str, object], envelope: str, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        request_id_of(envelope, payload)
    assert caught.value.field == field


KINDS = ["deploy", "stop", "scale", "restart", "rollback", "exec", "logs", "logs_subscribe", "logs_unsubscribe"]
KINDS += [kind.value for kind in (*QueryKind, *ProxyAction)]
KINDS += ["promote", "abort"]
KEYS = sorted(
    {*current_payload(), *current_payload()["config"], "service", "docker", "name", "resources", "tag", "domains"}
    | {"replicas", "timeout", "env", "working_dir", "interactive", "tail", "lines", "follow", "since", "until"}
    | {"target_deployment_id", "remove", "container_id"}
)


@quick
@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), json_values, max_size=6))
def test_any_object_is_a_command_or_refused(kind: str, payload: dict[str, object]) -> None:
    for whole in (
        payload,
        {"service_id": "svc_1", "deployment_id": "dep_1", "image": "nginx", "command": ["x"], **payload},
    ):
        try:
            parse_command(kind, REQUEST, whole)
        except RequestError as error:
            str(error).encode()
        try:
            request_id_of("id", whole)
        except RequestError as error:
            str(error).encode()


def test_an_exec_with_streams_has_no_timeout_unless_it_asks_for_one() -> None:
    payload = {"service_id": "svc", "command": ["sh"], "stream": True, "stdin": True, "tty": True, "rows": 24}
    command = parse_command("exec", RequestId("r"), payload)
    assert isinstance(command, Exec)
    assert command.streams == ExecStreams(stdin=True, tty=True, rows=24, columns=0)
    assert (command.timeout_secs, command.replica) == (None, None)
    command = parse_command("exec", RequestId("r"), {**payload, "timeout_seconds": 86400, "replica": 2})
    assert isinstance(command, Exec)
    assert (command.timeout_secs, command.replica) == (86400.0, 2)
    for change in ({"replica": 0}, {"rows": 70000}, {"timeout_seconds": 700000}, {"stream": "yes please"}):
        with pytest.raises(RequestError):
            parse_command("exec", RequestId("r"), {**payload, **change})
