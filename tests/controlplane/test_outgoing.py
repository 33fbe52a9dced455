"""From an API body to a command."""

from __future__ import annotations

from syntra.controlplane.outgoing import outgoing_command


def test_missing_ids_are_made_of_the_fresh_one() -> None:
    command = outgoing_command("srv_1", {"type": "deploy", "payload": {"service_id": "svc_1"}}, "fresh", 1000)
    assert (command.request_id, command.deployment_id, command.service_id) == ("fresh", "dep_fresh", "svc_1")
    assert command.payload == {"service_id": "svc_1", "request_id": "fresh", "deployment_id": "dep_fresh"}


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
    payload = {"env_vars": {"PASSWORD": "hunter2"}}
    command = outgoing_command("srv_1", {"type": "deploy", "payload": payload}, "fresh", 1000)
    assert list(payload) == ["env_vars"]
    assert "hunter2" not in repr(command)
