"""The command line as a process of its own: streams, signals, start-up, nothing loaded in vain."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from syntra.model.exec_frames import FrameKind, encoded, exited
from tests.cli.fake_agent import FakeAgent, Peer, attaching, deploying

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "syntra"]
DEADLINE = 20.0
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("SYNTRA_")}


def run(*argv: str, env: dict[str, str] | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *argv],
        cwd=ROOT,
        env=ENVIRONMENT | (env or {}),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def started(*argv: str, **options: Any) -> subprocess.Popen[bytes]:
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([*COMMAND, *argv], cwd=ROOT, env=ENVIRONMENT, **given)


def test_version_loads_neither_asyncio_nor_other_verbs() -> None:
    program = (
        "import sys; from syntra.cli.main import main; main(['version']); "
        "print(sorted(name for name in sys.modules if name.startswith('syntra.cli.') or name in HEAVY))"
    )
    heavy = (
        "HEAVY = {'asyncio', 'dataclasses', 'yaml', 'tabulate', 'websockets', 'cryptography', 'psutil', 'socket', "
        "'tomllib', 'ssl'}; "
    )
    result = subprocess.run(
        [sys.executable, "-c", heavy + program], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    loaded = result.stdout.splitlines()[-1]
    ours = ("exit_codes", "main", "options", "parser", "terminal", "verbs", "version")
    assert loaded == str([f"syntra.cli.{name}" for name in ours])


def test_ps_loads_no_more_than_it_shows(tmp_path: Path) -> None:
    program = (
        "import sys; from syntra.cli.main import main; main(['--socket', sys.argv[1], 'ps']); "
        "print(sorted({'asyncio', 'yaml', 'tabulate', 'textwrap', 'sqlite3', 'psutil'} & set(sys.modules)))"
    )
    with FakeAgent(tmp_path / "s") as agent:
        command = [sys.executable, "-c", program, str(agent.path)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_wrong_configuration_is_one_line_and_78_without_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[telemetry]\notlp_http_port = 70000\n")
    for argv in (["start", "--config", str(path)], ["--config", str(path), "config", "check"]):
        result = run(*argv)
        assert result.returncode == 78
        assert result.stdout == ""
        assert result.stderr == (
            f"cannot load configuration {path}: telemetry.otlp_http_port: 70000 is not a port (1–65535)\n"
        )


def test_a_locale_that_cannot_spell_a_line_gets_escapes(tmp_path: Path) -> None:
    result = run("config", "check", "--config", str(tmp_path / "ü"), env={"PYTHONIOENCODING": "ascii"})
    assert result.returncode == 78
    assert "\\xfc" in result.stderr


def test_a_configuration_from_the_environment_alone(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("")
    variables = {
        "SYNTRA_CONFIG": str(config),
        "SYNTRA_CONTROL_PLANE__ENDPOINT": "wss://cp/agent/ws",
        "SYNTRA_CONTROL_PLANE__TOKEN": "syn_agt_hidden",
    }
    result = run("config", "show", "--json", env=variables)
    assert result.returncode == 0
    assert "syn_agt_hidden" not in result.stdout + result.stderr
    assert json.loads(result.stdout)["settings"]["control_plane.endpoint"] == "wss://cp/agent/ws"


def test_a_reader_that_goes_away_is_no_complaint(tmp_path: Path) -> None:
    def endless(peer: Peer) -> None:
        line = {"timestamp": "t", "stream": "stdout", "message": "x" * 1000}
        if not peer.payload["follow"]:
            peer.send("log_stream", {"request_id": peer.request["id"], "logs": [], "done": True})
            return
        while True:
            peer.send("log_stream", {"request_id": peer.request["id"], "logs": [line], "done": False})

    with (
        FakeAgent(tmp_path / "s", logs_subscribe=endless) as agent,
        started("--socket", str(agent.path), "logs", "-f", "api") as process,
    ):
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"x" * 1000 + b"\n"
        process.stdout.close()
        assert process.wait(DEADLINE) == 141
        assert process.stderr.read() == b""


@pytest.mark.parametrize("verb", [["logs", "-f", "api"], ["restart", "api"]])
def test_an_interrupt_ends_with_130_and_without_a_traceback(verb: list[str], tmp_path: Path) -> None:
    processes: list[subprocess.Popen[bytes]] = []

    def interrupt(peer: Peer) -> None:
        processes[0].send_signal(signal.SIGINT)
        peer.wait_for_end()

    with FakeAgent(tmp_path / "s", logs_subscribe=interrupt, restart=interrupt) as agent:
        # Started with SIGINT ignored (a background job of a shell without job control) Python would not see it.
        heeds = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
        process = started("--socket", str(agent.path), *verb, preexec_fn=heeds)
        processes.append(process)
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_exec_is_transparent(tmp_path: Path) -> None:
    frames = [encoded(FrameKind.STDOUT, b"out\x1b[1m"), encoded(FrameKind.STDERR, b"err"), exited(42)]
    with FakeAgent(tmp_path / "s", exec=attaching(*frames)) as agent:
        result = run("exec", "api", "--socket", str(agent.path), "--", "sh", "-c", "exit 42")
        assert (result.returncode, result.stdout, result.stderr) == (42, "out\x1b[1m", "err")
        assert agent.last("exec")["command"] == ["sh", "-c", "exit 42"]


def test_deploy_with_a_password_from_stdin(tmp_path: Path) -> None:
    path = tmp_path / "api.yaml"
    path.write_text("image: registry.example/api:1\n")
    with FakeAgent(tmp_path / "s", deploy=deploying({"status": "running", "message": "serves"})) as agent:
        argv = ["deploy", str(path), "--registry-user", "u", "--registry-password-stdin"]
        result = run("--socket", str(agent.path), *argv, stdin="hunter2\n")
        assert (result.returncode, result.stderr) == (0, "")
        assert " 100% api registry.example/api:1, serves in " in result.stdout
        assert agent.last("deploy")["registry_auth"]["password"] == "hunter2"


def test_the_control_plane_says_where_it_listens_and_stops_at_sigterm(tmp_path: Path) -> None:
    argv = ("controlplane", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "cp"))
    with started(*argv, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().decode() for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
    assert lines[0].startswith("listening on http://127.0.0.1:")
    assert lines[1].endswith("/agent/ws\n")
    assert lines[2] == f"operator token in {tmp_path}/cp/operator.token\n"
    assert (tmp_path / "cp" / "operator.token").stat().st_mode & 0o777 == 0o600


def test_a_control_plane_that_cannot_listen_says_so_in_one_line(tmp_path: Path) -> None:
    result = run("controlplane", "--listen", "0.0.0.0:0", "--data-dir", str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.startswith("cannot listen on 0.0.0.0: tokens would cross the network unencrypted")
    assert "Traceback" not in result.stderr


def test_the_first_start_of_a_control_plane_says_how_an_agent_connects(tmp_path: Path) -> None:
    folder = str(tmp_path / "cp")
    argv = ("controlplane", "--listen", "127.0.0.1:0", "--data-dir", folder)
    with started(*argv, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().decode() for _ in range(5)]
            place = lines[0].rpartition("//")[2].strip()
            assert lines[3].startswith("to connect an agent, run this")
            shown = lines[4].strip()
            assert shown == (
                f"syntra-agent controlplane token create --server NAME --listen {place} --data-dir {folder}"
            )
            made = run(*shown.replace("NAME", "srv_web").split()[1:])
            bad = run(*shown.replace("NAME", "a/b").split()[1:])
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE) == 0
    assert made.returncode == 0, made.stderr
    config = tmp_path / "agent.toml"
    config.write_text(made.stdout)
    config.chmod(0o600)
    checked = json.loads(run("--config", str(config), "config", "show", "--json").stdout)["settings"]
    assert checked["server_id"] == "srv_web"
    assert checked["control_plane.endpoint"] == f"ws://{place}/agent/ws"
    assert len(made.stdout.splitlines()) == 3 and "syn_agt_" in made.stdout
    assert bad.returncode == 1 and bad.stderr.startswith("cannot create a token: server_id")
    # The next start says no more than where it is.
    with started(*argv, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        again = [process.stdout.readline().decode() for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        assert again[2].startswith("operator token in ") and process.stdout.read() == b""
    gone = run(*shown.replace("NAME", "srv_web").split()[1:])
    assert gone.returncode == 69 and f"no control plane answers at http://{place}" in gone.stderr


@pytest.mark.parametrize("words", [["token"], ["token", "create"], ["frobnicate"], ["--server", "a"]])
def test_a_control_plane_is_told_what_to_do_in_whole(words: list[str]) -> None:
    result = run("controlplane", *words)
    assert result.returncode == 2 and "; give `token create --server NAME`" in result.stderr
