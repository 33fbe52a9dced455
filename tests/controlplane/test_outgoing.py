"""From an API body to a command."""

from __future__ import annotations

import pytest

from syntra.controlplane.outgoing import outgoing_command
from syntra.model.errors import InvalidField


def test_missing_ids_are_made_of_the_fresh_one() -> None:
    payload = {"service_id": "svc_1", "image": {"repository": "shop/api"}}
    command = outgoing_command("srv_1", {"type": "deploy", "payload": payload}, "fresh", 1000)
    assert (command.request_id, command.deployment_id, command.service_id) == ("fresh", "dep_fresh", "svc_1")
    assert command.payload == {**payload, "request_id": "fresh", "deployment_id": "dep_fresh"}


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"service_id": "svc_1"}, "payload.image"),
        ({"image": {"repository": "a"}}, "payload.service_id"),
        ({}, "payload.service_id"),
        ({"service": {"id": "svc_1"}}, "payload.image"),
        ({"service_id": "svc_1", "image": {"repository": "a"}, "config": {"port": 70000}}, "payload.config.port"),
    ],
)
def test_a_deploy_that_an_agent_could_not_parse_is_refused(payload: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        outgoing_command("srv_1", {"type": "deploy", "payload": payload}, "fresh", 1000)
    assert refused.value.field == field


def test_only_deploys_get_a_deployment() -> None:
    command = outgoing_command("srv_1", {"type": "rollback", "payload": {"deployment_id": "dep_1"}}, "fresh", 1000)
    assert command.deployment_id is None
    assert command.payload == {"deployment_id": "dep_1", "request_id": "fresh"}


def test_a_ping_stays_as_it_is() -> None:
    command = outgoing_command("srv_1", {"type": "ping"}, "fresh", 1000)
    assert (command.request_id, command.payload) == ("fresh", {})


def test_types_that_are_not_known_here_pass() -> None:
    command = outgoing_command("srv_1", {"type": "drain_v2", "payload": {"anything": [1, None]}}, "fresh", 1000)
    assert command.payload == {"anything": [1, None], "request_id": "fresh"}


def test_the_callers_payload_is_not_changed_and_not_shown() -> None:
    payload = {"service_id": "svc_1", "image": {"repository": "a"}, "env_vars": {"PASSWORD": "hunter2"}}
    command = outgoing_command("srv_1", {"type": "deploy", "payload": payload}, "fresh", 1000)
    assert list(payload) == ["service_id", "image", "env_vars"]
    assert "hunter2" not in repr(command)
