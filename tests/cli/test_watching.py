"""`ps --watch` and `events -f` in a pseudo-terminal, as a person leaves them: with Ctrl-C."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.fake_agent import SERVICE, FakeAgent, Peer
from tests.e2e.pseudo_terminal import run_in_terminal

COMMAND = [sys.executable, "-m", "syntra"]
CTRL_C = "\x03"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])


def test_ps_watch_draws_the_same_screen_again_until_ctrl_c(tmp_path: Path) -> None:
    states = iter(("running", "restarting"))

    def changing(peer: Peer) -> None:
        peer.respond({"services": [{**SERVICE, "status": next(states, "stopped")}]})

    with FakeAgent(tmp_path / "s", list_services=changing) as agent:
        argv = [*COMMAND, "--socket", str(agent.path), "ps", "--watch"]
        ended = run_in_terminal(argv, answers=[("restarting", ""), ("stopped", CTRL_C)])
    assert ended.code == 130
    assert "Traceback" not in ended.raw
    first, second, third, *_ = ended.raw.split("\x1b[H")[1:]
    # The screen is erased once: erasing it each time flickers.
    assert first.startswith("\x1b[2J") and ended.raw.count("\x1b[2J") == 1
    # Each drawing begins at home, ends each line at its width, and leaves nothing of the one before.
    for drawing, state in ((first, "running"), (second, "restarting"), (third, "stopped")):
        assert state in drawing and "\x1b[J" in drawing and drawing.count("\x1b[K\r\n") == 2
        assert all(len(line.removeprefix("\x1b[2J").partition("\x1b")[0]) <= 80 for line in drawing.split("\r\n"))


def test_ps_watch_in_a_pipe_prints_changes_only(tmp_path: Path) -> None:
    states = iter(("running", "running", "restarting"))

    def changing(peer: Peer) -> None:
        peer.respond({"services": [{**SERVICE, "status": next(states, "stopped")}]})

    with FakeAgent(tmp_path / "s", list_services=changing) as agent:
        # `cat` is the pipe; the terminal's Ctrl-C reaches both.
        script = f"{sys.executable} -m syntra --socket {agent.path} ps --watch | cat"
        ended = run_in_terminal(["bash", "-c", script], answers=[("stopped", CTRL_C)])
    words = [line.split()[3] for line in ended.lines if line.startswith("api ")]
    assert words == ["running", "restarting", "stopped"], ended.raw
    assert "\x1b[" not in ended.raw


def test_events_are_followed_in_a_terminal_each_once(tmp_path: Path) -> None:
    kept = [
        {"seq": seq, "at": f"2026-01-02T03:04:0{seq}.000Z", "kind": kind, "text": text, "service_name": "api"}
        for seq, kind, text in ((1, "deploy", "begun"), (2, "deploy", "succeeded"), (3, "exit", "replica 1 exited"))
    ]
    kept[2]["is_bad"] = True
    known = 2

    def growing(peer: Peer) -> None:
        nonlocal known
        after = int(peer.payload.get("after", 0))
        peer.respond({"events": [event for event in kept[:known] if int(str(event["seq"])) > after]})
        known = 3

    with FakeAgent(tmp_path / "s", list_events=growing) as agent:
        argv = [*COMMAND, "--socket", str(agent.path), "events", "-f"]
        ended = run_in_terminal(argv, columns=120, answers=[("exited", CTRL_C)])
    assert ended.code == 130 and "Traceback" not in ended.raw
    shown = [line for line in ended.lines if line.startswith("2026-")]
    assert [line.split(maxsplit=2)[2] for line in shown] == ["api: begun", "api: succeeded", "api: replica 1 exited"]
    # What is bad is red, in a terminal.
    assert "\x1b[31mexit" in ended.raw and "\x1b[31mdeploy" not in ended.raw
