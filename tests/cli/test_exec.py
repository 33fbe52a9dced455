"""`exec`: streams, exit codes, and the words of the command line."""

from __future__ import annotations

import argparse
import json
import sys

import pytest

from syntra.cli import exec as exec_verb
from syntra.cli.exec_words import VALUED, split_exec
from syntra.cli.options import add_common
from syntra.model.exec_frames import FrameKind, encoded, exited, failed
from tests.cli.fake_agent import Cli, FakeAgent, answering, attaching
from tests.cli.shown import Terminal


def test_exec_passes_command_output_and_exit_code_through(cli: Cli) -> None:
    frames = [
        encoded(FrameKind.STDOUT, b"o\x1b[1m\nu"),
        encoded(FrameKind.STDERR, b"e\n"),
        encoded(FrameKind.STDOUT, b"\xc3"),
        encoded(FrameKind.STDOUT, b"\xa4"),
        exited(3),
    ]
    with FakeAgent(cli.path, exec=attaching(*frames)) as agent:
        argv = ["exec", "--workdir", "/w", "--env", "A=b=c", "--timeout", "5", "api", "--", "sh", "-c", "x", "--", "-f"]
        # Not a terminal, so the bytes are the command's own.
        assert cli(*argv) == (3, "o\x1b[1m\nuä", "e\n")
        sent = agent.last("exec")
    assert sent | {"request_id": ""} == {
        "request_id": "",
        "service_id": "svc_shop_api",
        "command": ["sh", "-c", "x", "--", "-f"],
        "env": {"A": "b=c"},
        "timeout_seconds": 5.0,
        "working_dir": "/w",
        "stream": True,
        "stdin": True,
        "tty": False,
    }


def test_exec_with_json_asks_for_the_bounded_form(cli: Cli) -> None:
    data = {"exit_code": 3, "stdout": "x" * 4096, "stderr": "", "truncated": True}
    with FakeAgent(cli.path, exec=answering(data)) as agent:
        code, out, err = cli("exec", "--json", "--replica", "2", "api", "ls")
        assert (code, json.loads(out)) == (3, data)
        assert err.startswith("only the first 4 KiB of the output are shown")
        sent = agent.last("exec")
        assert (sent["timeout_seconds"], sent["replica"], "stream" in sent) == (30.0, 2, False)


def test_exec_with_json_shows_what_came_before_a_timeout(cli: Cli) -> None:
    details = {"stdout": "before", "stderr": ""}
    with FakeAgent(cli.path, exec=lambda peer: peer.refuse("EXEC_TIMEOUT", "cannot finish", details=details)):
        code, out, err = cli("exec", "--json", "api", "ls")
    assert (code, json.loads(out)) == (1, {**details, "timed_out": True})
    assert err == "cannot finish (EXEC_TIMEOUT)\n"


def test_exec_on_a_terminal_escapes_what_the_terminal_would_obey(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    # A character may be cut anywhere; what never becomes one is shown as bytes.
    pieces = [b"a\x1b", b"[2J\tb\n\xc3", b"\xa4\xff\xc3"]
    frames = [encoded(FrameKind.STDOUT, piece) for piece in pieces]
    with FakeAgent(cli.path, exec=attaching(*frames, exited(0))):
        assert cli("exec", "api", "--", "ls")[0] == 0
    assert terminal.getvalue() == "a\\x1b[2J\tb\nä\\xff\\xc3"


@pytest.mark.parametrize("code", ["-1", "true", "null", '"0"'])
def test_exec_takes_no_odd_exit_code_for_success(code: str, cli: Cli) -> None:
    end = encoded(FrameKind.EXIT, b'{"exit_code": %s}' % code.encode())
    with FakeAgent(cli.path, exec=attaching(end)):
        found = cli("exec", "api", "--", "ls")[0]
    assert found == {"-1": 255}.get(code, 69)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([], "it closed the connection before it was done"),
        ([encoded(FrameKind.EXIT, b"{")], "its end is not JSON"),
        ([b"\x09\0\0\0\0"], "9 is no type of frame"),
    ],
)
def test_exec_never_takes_a_broken_stream_for_an_end(frames: list[bytes], said: str, cli: Cli) -> None:
    with FakeAgent(cli.path, exec=attaching(encoded(FrameKind.STDOUT, b"some"), *frames)):
        code, out, err = cli("exec", "api", "dump")
    assert (code, out) == (69, "some")
    assert said in err


def test_exec_says_why_a_command_ended_without_a_code(cli: Cli) -> None:
    with FakeAgent(cli.path, exec=attaching(encoded(FrameKind.STDOUT, b"some"), failed("EXEC_TIMEOUT", "too long"))):
        assert cli("exec", "api", "dump") == (1, "some", "too long (EXEC_TIMEOUT)\n")


def test_exec_refuses_an_agent_that_answers_in_the_bounded_form(cli: Cli) -> None:
    with FakeAgent(cli.path, exec=answering({"exit_code": 0, "output_forgotten": True})):
        code, _, err = cli("exec", "api", "dump")
    assert code == 69
    assert "does not know attached commands" in err


@pytest.mark.parametrize("argv", [["exec", "api"], ["exec", "api", "--"], ["exec", "-i", "api", "-w", "/"]])
def test_exec_needs_a_command(argv: list[str], cli: Cli) -> None:
    code, _, err = cli(*argv)
    assert code == 2
    assert "put it after SERVICE" in err


@pytest.mark.parametrize(
    ("argv", "options", "command"),
    [
        (["api", "ls", "-l"], ["api"], ["ls", "-l"]),
        (["api", "--", "ls", "--", "-l"], ["api"], ["ls", "--", "-l"]),
        (["-it", "api", "sh"], ["-it", "api"], ["sh"]),
        (["-itw", "/w", "api", "sh"], ["-itw", "/w", "api"], ["sh"]),
        (["-w/we", "api", "sh"], ["-w/we", "api"], ["sh"]),
        (["-eA=e", "-e", "B=w", "api", "sh"], ["-eA=e", "-e", "B=w", "api"], ["sh"]),
        (
            ["--env=A=b", "--workdir", "/", "api", "sh", "-w", "x"],
            ["--env=A=b", "--workdir", "/", "api"],
            ["sh", "-w", "x"],
        ),
        (["api", "--json", "--timeout", "3", "--", "sh"], ["api", "--json", "--timeout", "3"], ["sh"]),
        (["--socket", "/s", "api", "sh", "-c", "a -- b"], ["--socket", "/s", "api"], ["sh", "-c", "a -- b"]),
        (["--", "ls"], [], ["ls"]),
        ([], [], []),
    ],
)
def test_everything_behind_the_service_is_the_command(argv: list[str], options: list[str], command: list[str]) -> None:
    assert split_exec(argv) == (options, command)


def test_the_words_of_exec_know_every_option_with_a_value() -> None:
    parser = argparse.ArgumentParser()
    add_common(parser, top=False)
    exec_verb.add_arguments(parser)
    valued = {word for action in parser._actions if action.nargs is None for word in action.option_strings}
    assert valued == VALUED
