"""`logs`: lines of one and several services, merged, prefixed and coloured."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import pytest

from tests.cli.fake_agent import SERVICE, Cli, FakeAgent, Peer, Script, answering
from tests.cli.shown import Terminal


def log_lines(*messages: str) -> Script:
    def script(peer: Peer) -> None:
        for message in messages:
            line = {"timestamp": "2026-01-01T00:00:00Z", "stream": "stdout", "message": message}
            peer.send("log_stream", {"request_id": peer.request["id"], "logs": [line], "done": False})
        peer.send("log_stream", {"request_id": peer.request["id"], "logs": [], "done": True})

    return script


def test_logs_print_lines_escaped_and_end(cli: Cli) -> None:
    with FakeAgent(cli.path, logs_subscribe=log_lines("a\tb", "\x1b[31mred")) as agent:
        assert cli("logs", "api") == (0, "a\tb\n\\x1b[31mred\n", "")
        assert agent.last("logs_subscribe") | {"request_id": ""} == {
            "request_id": "",
            "service_id": "svc_shop_api",
            "follow": False,
            "tail": 100,
        }
        assert cli("logs", "api", "-t", "--tail", "5")[1].startswith("2026-01-01T00:00:00Z a\tb\n")
        assert agent.last("logs_subscribe")["tail"] == 5
        assert cli("logs", "api", "--tail", "0", "-f")[1] == "a\tb\n\\x1b[31mred\n"
        assert agent.last("logs_subscribe")["follow"] is True
        first = json.loads(cli("logs", "api", "--json")[1].splitlines()[0])
        assert first == {"timestamp": "2026-01-01T00:00:00Z", "stream": "stdout", "message": "a\tb"}


def replica_lines(*numbers: int, known: tuple[int, ...] = ()) -> Script:
    def script(peer: Peer) -> None:
        peer.respond({"subscribed": True, "follow": False, "replicas": list(known)})
        for number in numbers:
            line = {"timestamp": "", "stream": "stdout", "message": f"of {number}", "replica": number}
            peer.send("log_stream", {"request_id": peer.request["id"], "logs": [line], "done": False})
        peer.send("log_stream", {"request_id": peer.request["id"], "logs": [], "done": True})

    return script


def test_logs_of_several_replicas_say_whose_line_it_is(cli: Cli) -> None:
    with FakeAgent(cli.path, logs_subscribe=replica_lines(1, 10, known=(1, 10))):
        assert cli("logs", "shop/api")[1] == "api-1   | of 1\napi-10  | of 10\n"
        assert cli("logs", "api", "--no-log-prefix")[1] == "of 1\nof 10\n"
        assert json.loads(cli("logs", "api", "--json")[1].splitlines()[1])["replica"] == 10
    cli.path.unlink()
    with FakeAgent(cli.path, logs_subscribe=replica_lines(1, 1, known=(1,))):
        assert cli("logs", "api")[1] == "of 1\nof 1\n"
    cli.path.unlink()
    # A second replica that comes while following.
    with FakeAgent(cli.path, logs_subscribe=replica_lines(1, 2, 1, known=(1,))):
        assert cli("logs", "api")[1] == "of 1\napi-2  | of 2\napi-1  | of 1\n"


def merged_lines(peer: Peer) -> None:
    """Lines of two services at alternating times; when it follows, one that was there and one that is new."""
    service = peer.payload["service_id"]
    peer.respond({"subscribed": True, "replicas": [1]})
    first = 1 if service == "svc_shop_api" else 2
    moments = [f"2026-01-01T00:00:0{n}.000000000Z" for n in (first, first + 2)]
    if peer.payload["follow"]:
        assert peer.payload["since"] == moments[-1]
        moments = [moments[-1], f"2026-01-01T00:00:09.00000000{first}Z"]
    lines = [{"timestamp": moment, "message": f"{service[-3:]} at {moment[17:19]}", "replica": 1} for moment in moments]
    peer.send("log_stream", {"request_id": peer.request["id"], "logs": lines, "done": True})


def test_logs_of_several_services_are_merged_by_time_also_when_followed(cli: Cli) -> None:
    known = answering({"services": [SERVICE, {**SERVICE, "service_id": "svc_shop_web", "service_name": "web"}]})
    with FakeAgent(cli.path, list_services=known, logs_subscribe=merged_lines):
        all_of = ["api-1  | api at 01", "web-1  | web at 02", "api-1  | api at 03", "web-1  | web at 04"]
        assert cli("logs", "api", "web")[1].splitlines() == all_of
        assert cli("logs", "--all", "--tail", "2")[1].splitlines() == all_of[2:]
        assert cli("logs", "--all", "--grep", "^api", "--tail", "1")[1].splitlines() == [all_of[2]]
        followed = cli("logs", "-a", "-f", "--tail", "1")[1].splitlines()
        assert followed[0] == all_of[3]
        assert sorted(followed[1:]) == ["api-1  | api at 09", "web-1  | web at 09"]
        shown = json.loads(cli("logs", "--all", "--json")[1].splitlines()[0])
        assert (shown["service_id"], shown["message"]) == ("svc_shop_api", "api at 01")
    for words in (("logs",), ("logs", "api", "--all"), ("logs", "api", "--grep", "(")):
        code, _, err = cli(*words)
        assert code == 2 and err.startswith("cannot ")


def test_log_prefixes_are_coloured_on_a_terminal_only(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    with FakeAgent(cli.path, logs_subscribe=replica_lines(1, known=(1, 2))):
        assert cli("logs", "api")[0] == 0
        assert terminal.getvalue() == "\x1b[33mapi-1  | \x1b[0mof 1\n"
        monkeypatch.setenv("NO_COLOR", "1")
        assert cli("logs", "api")[0] == 0
    assert terminal.getvalue().endswith("\x1b[0mof 1\napi-1  | of 1\n")


def test_logs_say_where_a_line_was_cut(cli: Cli) -> None:
    def script(peer: Peer) -> None:
        line = {"timestamp": "", "stream": "stdout", "message": "xx", "truncated": True}
        peer.send("log_stream", {"request_id": peer.request["id"], "logs": [line], "done": True})

    with FakeAgent(cli.path, logs_subscribe=script):
        assert cli("logs", "api")[1] == "xx … (cut at 64 KiB)\n"
        assert json.loads(cli("logs", "api", "--json")[1])["truncated"] is True


def test_logs_since_takes_ages_and_times(cli: Cli) -> None:
    with FakeAgent(cli.path, logs_subscribe=log_lines()) as agent:
        assert cli("logs", "api", "--since", "2024-05-01T12:00:00+02:00")[0] == 0
        assert agent.last("logs_subscribe")["since"] == "2024-05-01T10:00:00.000000Z"
        assert cli("logs", "api", "--since", "2h")[0] == 0
    moment = datetime.fromisoformat(agent.last("logs_subscribe")["since"])
    assert 7190 < (datetime.now(UTC) - moment).total_seconds() < 7300


def test_logs_cut_short_are_an_error(cli: Cli) -> None:
    with FakeAgent(cli.path, logs_subscribe=lambda peer: peer.respond({})):
        code, _, err = cli("logs", "api")
    assert code == 69
    assert "closed the connection" in err
