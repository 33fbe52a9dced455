"""`update` through a running agent: what it asks, shows and waits for. The agent is scripted, the installation real."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from syntra import __version__
from syntra.cli.progress_bar import line
from syntra.update import layout
from syntra.utils.timestamps import format_secs
from tests.cli.fake_agent import Cli, FakeAgent, Peer

FOUND = {"from": "1.0.0", "to": "1.1.0", "state": "available", "size": 3 * 2**20}


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line of an installed program."""
    program = tmp_path / "program"
    program.write_text("")
    monkeypatch.setattr(sys, "argv", [str(layout.install_version(tmp_path / "opt", __version__, program))])
    return Cli(tmp_path / "s", capsys, "update")


def updating(result: str, **more: Any) -> Any:
    """Answers a check; then the update, with progress."""

    def script(peer: Peer) -> None:
        if peer.payload.get("check"):
            peer.respond(FOUND)
            return
        for progress in ({"phase": "downloading", "done": 1}, {"phase": "waiting"}, {"phase": "installing"}):
            peer.send("update_progress", {"request_id": peer.request["id"], **progress})
        peer.respond({"from": "1.0.0", "to": "1.1.0", "state": result, **more})

    return script


def ended(result: str, sentence: str) -> Any:
    def script(peer: Peer) -> None:
        last = {"to": "1.1.0", "result": result, "sentence": sentence, "at": format_secs(time.time() + 5)}
        version = "1.1.0" if result == "updated" else "1.0.0"
        peer.respond({"agent": {"version": version}, "update": {"last": last}})

    return script


def test_an_update_is_followed_to_its_end(cli: Cli) -> None:
    with FakeAgent(cli.path, update_agent=updating("restarting"), status=ended("updated", "")) as agent:
        code, out, err = cli("--yes")
        asked = [request["payload"] for request in agent.requests if request["type"] == "update_agent"]
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "syntra-agent 1.0.0 → 1.1.0 (3.0 MiB)",
        "  download, verify, try the new program, restart the agent; services keep running",
        "  1.1.0 is kept once it is in order; otherwise 1.0.0 comes back by itself",
        "waiting for running operations to end",
        "verified; installing",
        "installed 1.1.0; the agent restarts",
        "1.1.0 runs; it is kept once it is in order",
        "updated to 1.1.0",
    ]
    assert [(one["version"], one.get("check", False)) for one in asked] == [("", True), ("1.1.0", False)]


def test_a_version_that_was_rolled_back_is_a_failure(cli: Cli) -> None:
    sentence = "version 1.1.0 was rolled back to 1.0.0: it crashed"
    with FakeAgent(cli.path, update_agent=updating("restarting"), status=ended("rolled_back", sentence)):
        code, _, err = cli("--yes")
    assert code == 1
    assert err == f"cannot update the agent: {sentence}; see the agent's log (journalctl -u syntra-agent)\n"


def test_a_check_changes_nothing(cli: Cli) -> None:
    with FakeAgent(cli.path, update_agent=updating("restarting")) as agent:
        assert cli("--check", "--channel", "beta") == (0, "syntra-agent 1.0.0 → 1.1.0 (3.0 MiB)\n", "")
        code, out, _ = cli("--check", "--json")
        kinds = [request["payload"] for request in agent.requests]
    assert all(payload["check"] is True for payload in kinds)
    assert kinds[0]["channel"] == "beta"
    assert (code, json.loads(out)) == (0, FOUND)


def test_without_a_terminal_it_asks_for_yes(cli: Cli) -> None:
    with FakeAgent(cli.path, update_agent=updating("restarting")):
        code, _, err = cli()
    assert (code, err) == (2, "cannot update the agent: there is no terminal to ask on; add --yes\n")


def test_without_a_service_manager_it_says_to_restart(cli: Cli) -> None:
    with FakeAgent(cli.path, update_agent=updating("installed")):
        code, out, _ = cli("--yes")
    assert (code, out.splitlines()[-1]) == (0, "installed; restart the agent to run it")


def test_a_refusal_is_one_line(cli: Cli) -> None:
    refusal = "cannot update the agent: the signature of keys.json is wrong; do not use that release server"
    with FakeAgent(cli.path, update_agent=lambda peer: peer.refuse("UPDATE_REFUSED", refusal)):
        assert cli("--yes") == (1, "", f"{refusal} (UPDATE_REFUSED)\n")


def test_outside_an_installation_the_owner_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/env"])
    code, _, err = cli("--check")
    assert code == 1
    assert err.startswith("cannot update the agent: this agent runs from a Python package; update that package")


def test_the_bar_shows_share_and_bytes() -> None:
    assert line("downloading", 1.5 * 2**20, 3 * 2**20) == f"downloading [{'=' * 15}{' ' * 15}]  50%  1.5 of 3.0 MiB"
    assert line("downloading", 9, 3).startswith(f"downloading [{'=' * 30}] 100%")
