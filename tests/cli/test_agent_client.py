"""The client half of the local socket, against an agent that answers, and against one that does not."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from syntra.cli import agent_client
from syntra.cli.agent_client import AgentConnection, ask, operate, subscribe
from syntra.cli.exit_codes import CliError, CommandFailed, ExitCode
from tests.cli.fake_agent import FakeAgent, Peer, answering, deploying


def test_a_request_is_one_envelope_with_its_own_id(tmp_path: Path) -> None:
    with FakeAgent(tmp_path / "s", status=answering({"a": 1})) as agent:
        assert ask(agent.path, "status", {"x": "y"}) == {"a": 1}
    (request,) = agent.requests
    assert set(request) == {"id", "type", "timestamp", "payload"}
    assert request["payload"] == {"request_id": request["id"], "x": "y"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", request["timestamp"])


def test_an_answer_may_arrive_in_any_pieces(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        answer = {"request_id": peer.request["id"], "success": True, "data": {"ü": "x" * 50}}
        line = json.dumps({"id": "e", "type": "command_response", "payload": answer}, ensure_ascii=False).encode()
        for index in range(len(line)):
            peer.raw(line[index : index + 1])
        peer.raw(b"\n")

    with FakeAgent(tmp_path / "s", status=script) as agent:
        assert ask(agent.path, "status", {}) == {"ü": "x" * 50}


def test_several_envelopes_in_one_piece_are_told_apart(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        request_id = peer.request["id"]
        messages: list[tuple[str, dict[str, object]]] = [
            ("command_response", {"request_id": "another", "success": False}),
            ("news", {"of": "no interest"}),
            ("command_response", {"request_id": request_id, "success": True, "data": {"n": 1}}),
        ]
        peer.raw(b"".join(json.dumps({"type": kind, "payload": body}).encode() + b"\n" for kind, body in messages))

    with FakeAgent(tmp_path / "s", status=script) as agent:
        assert ask(agent.path, "status", {}) == {"n": 1}


def test_a_large_answer_arrives_whole(tmp_path: Path) -> None:
    with FakeAgent(tmp_path / "s", status=answering({"x": "y" * 3_000_000})) as agent:
        assert ask(agent.path, "status", {}) == {"x": "y" * 3_000_000}


def test_a_refusal_carries_code_message_and_details(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.refuse("BUSY", "a deploy runs", details="dep_1")

    with FakeAgent(tmp_path / "s", stop=script) as agent, pytest.raises(CommandFailed) as caught:
        ask(agent.path, "stop", {})
    assert str(caught.value) == "a deploy runs (BUSY)\ndep_1"
    assert caught.value.exit_code is ExitCode.TEMPORARY


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("RUNTIME_UNAVAILABLE", 69),
        ("BUSY", 75),
        ("PERMISSION_DENIED", 77),
        ("INVALID_PAYLOAD", 2),
        ("PULL_FAILED", 1),
        ("SOMETHING_NEW", 1),
    ],
)
def test_the_code_of_a_refusal_decides_the_exit_code(code: str, exit_code: int, tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.refuse(code, "no")

    with FakeAgent(tmp_path / "s", stop=script) as agent, pytest.raises(CommandFailed) as caught:
        ask(agent.path, "stop", {})
    assert caught.value.exit_code == exit_code


def test_a_refusal_that_names_no_request_is_ours(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.send("command_response", {"request_id": "", "success": False, "error": {"code": "X", "message": "bad"}})

    with FakeAgent(tmp_path / "s", stop=script) as agent, pytest.raises(CommandFailed, match="bad"):
        ask(agent.path, "stop", {})


@pytest.mark.parametrize("response", [{}, {"success": "true"}, {"success": 1}, {"success": False, "error": "x"}])
def test_only_success_true_is_success(response: dict[str, object], tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.send("command_response", {"request_id": peer.request["id"], **response})

    with FakeAgent(tmp_path / "s", stop=script) as agent, pytest.raises(CommandFailed, match="without a reason"):
        ask(agent.path, "stop", {})


def half(peer: Peer) -> None:
    peer.raw(b'{"type": "command_response", "payload": {"request_id": "')


def oversized(peer: Peer) -> None:
    block = b"x" * 2**20
    for _ in range(17):
        peer.raw(block)


def oversized_with_its_end(peer: Peer) -> None:
    oversized(peer)
    peer.raw(b"\n")


def close_unread(peer: Peer) -> None:
    """Closing with bytes unread resets the connection."""


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (close_unread, "it closed the connection before it was done"),
        (half, "it closed the connection before it was done"),
        (lambda peer: peer.raw(b"garbage\n"), "it sent something that is not JSON"),
        (lambda peer: peer.raw(b"\xff\xfe\n"), "it sent something that is not JSON"),
        (lambda peer: peer.raw(b"[" * 100_000 + b"\n"), "it sent something that is not JSON"),
        (lambda peer: peer.raw(b"\n"), "it sent something that is not JSON"),
        (lambda peer: peer.raw(b"[]\n"), "it sent something that is not an envelope"),
        (lambda peer: peer.raw(b'{"type": 5}\n'), "it sent something that is not an envelope"),
        (lambda peer: peer.raw(b'{"type": "x", "payload": []}\n'), "it sent something that is not an envelope"),
        (oversized, "it sent a line longer than 16 MiB"),
        (oversized_with_its_end, "it sent a line longer than 16 MiB"),
    ],
)
def test_an_answer_that_is_none_is_an_error(script: Callable[[Peer], None], reason: str, tmp_path: Path) -> None:
    with FakeAgent(tmp_path / "s", status=script) as agent, pytest.raises(CliError) as caught:
        ask(agent.path, "status", {})
    assert reason in str(caught.value)
    assert caught.value.exit_code is ExitCode.UNAVAILABLE


def test_an_answer_cut_at_any_byte_is_an_error() -> None:
    line = b'{"type": "command_response", "payload": {"success": true}}\n'
    for cut in range(len(line)):
        near, far = socket.socketpair()
        with near, far:
            far.sendall(line[:cut])
            far.shutdown(socket.SHUT_WR)
            with pytest.raises(CliError, match="closed the connection"):
                AgentConnection(near).receive(5)


def test_silence_ends_at_the_deadline(tmp_path: Path) -> None:
    with FakeAgent(tmp_path / "s", status=Peer.wait_for_end) as agent, pytest.raises(CliError, match="did not answer"):
        ask(agent.path, "status", {}, timeout=0.05)


def test_chatter_and_trickling_do_not_extend_the_deadline(tmp_path: Path) -> None:
    def chatter(peer: Peer) -> None:
        while True:
            peer.send("news", {})

    def trickle(peer: Peer) -> None:
        while True:
            peer.raw(b" ")

    for name, script in (("a", chatter), ("b", trickle)):
        with FakeAgent(tmp_path / name, status=script) as agent, pytest.raises(CliError, match="did not answer within"):
            ask(agent.path, "status", {}, timeout=0.1)


def test_a_request_beyond_the_bound_is_not_sent(tmp_path: Path) -> None:
    with FakeAgent(tmp_path / "s", deploy=Peer.wait_for_end) as agent, AgentConnection.open(agent.path) as connection:
        with pytest.raises(CliError, match="larger than 16 MiB"):
            connection.send("deploy", {"x": "y" * agent_client.LINE_MAX})
        connection.send("deploy", {})


def test_an_operation_yields_acceptance_and_every_status_to_the_terminal_one(tmp_path: Path) -> None:
    script = deploying({"status": "pulling"}, {"status": "pulling", "deployment_id": "dep_2"}, {"status": "running"})
    with FakeAgent(tmp_path / "s", deploy=script) as agent:
        events = list(operate(agent.path, "deploy", {}, idle=5))
    assert events[0] == {"accepted": True, "deployment_id": "dep_1"}
    assert [event["status"] for event in events[1:]] == ["pulling", "running"]


def test_a_status_that_overtakes_its_acceptance_is_not_lost(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.status("running")
        peer.respond({"accepted": True, "deployment_id": "dep_1"})
        peer.wait_for_end()

    with FakeAgent(tmp_path / "s", deploy=script) as agent:
        assert [event.get("status") for event in operate(agent.path, "deploy", {}, idle=5)] == [None, "running"]


@pytest.mark.parametrize("status", ["running", "failed", "rolled_back"])
def test_nothing_is_read_behind_a_terminal_status(status: str, tmp_path: Path) -> None:
    script = deploying({"status": status}, {"status": "pulling"})
    with FakeAgent(tmp_path / "s", deploy=script) as agent:
        assert len(list(operate(agent.path, "deploy", {}, idle=5))) == 2


def test_an_agent_that_goes_away_in_the_middle_of_an_operation_is_an_error(tmp_path: Path) -> None:
    with FakeAgent(tmp_path / "s", deploy=deploying({"status": "pulling"})) as agent:
        events = operate(agent.path, "deploy", {}, idle=5)
        assert [next(events), next(events)]
        with pytest.raises(CliError, match="closed the connection"):
            next(events)


def test_logs_end_with_the_batch_that_is_done(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        request_id = peer.request["id"]
        peer.respond({})
        peer.send("log_stream", {"request_id": request_id, "logs": [1], "done": False})
        peer.send("log_stream", {"request_id": "another", "logs": [2], "done": True})
        peer.send("log_stream", {"request_id": request_id, "logs": [3], "done": True})

    with FakeAgent(tmp_path / "s", logs_subscribe=script) as agent:
        assert [batch["logs"] for batch in subscribe(agent.path, {}, idle=5)] == [[1], [3]]


def test_logs_that_end_without_being_done_are_an_error(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.send("log_stream", {"request_id": peer.request["id"], "logs": [1], "done": False})

    with FakeAgent(tmp_path / "s", logs_subscribe=script) as agent:
        batches = subscribe(agent.path, {}, idle=5)
        assert next(batches)
        with pytest.raises(CliError, match="closed the connection"):
            next(batches)


def test_leaving_a_subscription_closes_the_connection(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.send("log_stream", {"request_id": peer.request["id"], "logs": [1], "done": False})
        peer.wait_for_end()

    with FakeAgent(tmp_path / "s", logs_subscribe=script) as agent:
        batches = subscribe(agent.path, {}, idle=None)
        assert next(batches)
        getattr(batches, "close")()  # noqa: B009 - an Iterator has no close, the generator that it is has one


def test_an_agent_that_does_not_run_is_named_with_a_next_step(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"no socket there.*start it with .*or give --socket") as caught:
        ask(tmp_path / "none", "status", {})
    assert caught.value.exit_code is ExitCode.UNAVAILABLE
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "stale"))
    with pytest.raises(CliError, match="the agent is not running") as caught:
        ask(tmp_path / "stale", "status", {})
    assert caught.value.exit_code is ExitCode.UNAVAILABLE
    (tmp_path / "file").write_text("")
    with pytest.raises(CliError, match="the agent is not running"):
        ask(tmp_path / "file", "status", {})


def test_no_permission_is_told_apart(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("gives up root's rights to see a refusal")
    with FakeAgent(tmp_path / "s") as agent:
        agent.path.chmod(0o600)
        tmp_path.chmod(0o711)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setgroups([])
                os.setresuid(65534, 65534, 65534)
                ask(agent.path, "list_services", {})
            except CliError as exc:
                code = exc.exit_code
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == ExitCode.REFUSED
