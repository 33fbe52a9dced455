"""The outer shape: verbs, options before and after them, exit codes, and what never shows."""

from __future__ import annotations

import io
import json
import sys
from importlib import metadata
from pathlib import Path

import pytest

from syntra import __version__
from syntra.cli.build_facts import BuildFacts, build_facts
from syntra.cli.exit_codes import EPILOG, ExitCode
from syntra.cli.main import main
from syntra.cli.verbs import SUMMARIES, load
from tests.cli.fake_agent import FakeAgent, Peer, answering


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(argv)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_version_says_what_this_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "version")
    assert code == 0
    assert out.startswith(f"syntra-agent {__version__} (python 3.")
    code, out, _ = run(capsys, "version", "--json")
    described = json.loads(out)
    assert set(described) == {"version", "python", "arch", "libc", "compiled"}
    assert described["libc"] in ("glibc", "musl")
    assert described["compiled"] is False


def test_a_verbose_version_names_the_libraries_of_a_source_installation(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "version", "--verbose", "--json")
    described = json.loads(out)
    assert code == 0
    assert described["target"] == "source"
    assert described["libraries"]["websockets"] == metadata.version("websockets")
    _, out, _ = run(capsys, "version", "--verbose")
    assert out.startswith(f"syntra-agent {__version__} (python 3.")
    assert "\ntarget: source\n" in out
    assert f"\n  orjson {metadata.version('orjson')}\n" in out


def test_a_verbose_version_shows_what_the_build_wrote(tmp_path: Path) -> None:
    written = {"commit": "c0ffee", "date": "2026-11-30T00:00:00Z", "target": "x86_64-unknown-linux-musl"}
    (tmp_path / "build.json").write_text(json.dumps({**written, "version": "9", "libraries": {"openssl": "3.5.7"}}))
    assert build_facts(tmp_path) == BuildFacts(**written, libraries={"openssl": "3.5.7"})


def test_version_is_an_option_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version")[:2] == (0, f"syntra-agent {__version__}\n")


def test_no_arguments_show_help_and_are_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys)
    assert (code, out) == (2, "")
    assert all(f"  {verb} " in err for verb in SUMMARIES)


def test_help_names_every_verb_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert EPILOG in out
    assert all(f"  {code.value} " in EPILOG for code in ExitCode)


@pytest.mark.parametrize("verb", sorted(SUMMARIES))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert out.startswith(f"usage: syntra-agent {verb} ")
    assert "--config" in out
    assert "--log-level" in out
    assert load(verb).__doc__


@pytest.mark.parametrize(
    ("verb", "usage", "summary"),
    [
        ("deploy", "[options] FILE …", "Deploy service files"),
        ("logs", "[options] [SERVICE …]", "Show the logs"),
        ("rollback", "[options] SERVICE [DEPLOYMENT]", "Roll back"),
        ("controlplane", "[options] [ACTION]", "Run the reference"),
        ("proxy", "[options] ACTION", "Manage Traefik, the proxy"),
        ("exec", "[options] SERVICE [--] COMMAND [ARGUMENT …]", "Run a command"),
    ],
)
def test_help_begins_with_a_short_usage(
    verb: str, usage: str, summary: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, verb, "--help")
    assert out.startswith(f"usage: syntra-agent {verb} {usage}\n\n{summary}")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["deplyo"], "unknown verb deplyo, did you mean deploy?"),
        (["\x1b[2J"], r"unknown verb \x1b[2J"),
        (["bogus"], "unknown verb bogus; see `syntra-agent --help`"),
        (["lgos"], "unknown verb lgos, did you mean logs?"),
        (
            ["start", "web"],
            "cannot start service web: `start` runs the agent itself; did you mean `syntra-agent up web`?",
        ),
        (["rm", "web", "--volumes"], "cannot remove the volumes of web: the agent never removes a named volume"),
        (["frobnicate"], "unknown verb frobnicate; see `syntra-agent --help`"),
        (["--log-level", "info"], "cannot run syntra-agent: there is no verb; see `syntra-agent --help`"),
        (["--nonsense", "ps"], "cannot run syntra-agent: unknown option --nonsense; see `syntra-agent --help`"),
        (["ps", "--nonsense"], "cannot run syntra-agent ps: unknown option --nonsense; see `syntra-agent ps --help`"),
        (["ps", "--jsno"], "cannot run syntra-agent ps: unknown option --jsno, did you mean --json?"),
        (["ps", "--js"], "cannot run syntra-agent ps: unknown option --js"),
        (["ps", "api", "b"], "cannot run syntra-agent ps: unexpected argument b; see `syntra-agent ps --help`"),
        (["ps", "--log-level", "loud"], "cannot use --log-level: 'loud' is not one of debug, info, warn, error; see"),
        (["scale", "api"], "cannot run syntra-agent scale: missing argument N; see"),
        (["scale", "api", "-1"], "cannot use N: '-1' is not a count; give a whole number such as 2"),
        (["scale", "api", "many"], "cannot use N: 'many' is not a count; give a whole number such as 2"),
        (["stop", "api", "--timeout", "4000"], "out of range"),
        (["stop", "api", "--timeout", "nan"], "out of range"),
        (["deploy", "web.yml", "--timeout", "0"], "cannot use --timeout: '0' is out of range; give 1 to 86400 seconds"),
        (["deploy", "web.yml", "--timeout", "86401"], "is out of range; give 1 to 86400 seconds"),
        (["logs"], "cannot show logs: no service is named; give one or more, or --all"),
        (["logs", "--all", "--deployment", "dep_1"], "it belongs to one service; give exactly one SERVICE"),
        (["top", "--interval", "0.5"], "cannot use --interval: 0.5 is out of range; give 1 to 3600 seconds"),
        (["cp", "web:", "."], "cannot copy web:: there is no path behind the colon; give SERVICE:PATH"),
        (["init", "--from", "compose.yaml", "--port", "80"], "the Compose file has them; leave them out"),
        (["ps", "--socket", "/" + "x" * 107], "the path is longer than 107 bytes; give a shorter one"),
        (["install", "--endpoint", "http://x"], "(or ws:// without TLS); see `syntra-agent install --help`"),
        (["controlplane", "serversx"], "controlplane: unknown action serversx, did you mean servers?"),
        (["controlplane", "--server", "srv_1"], "cannot run syntra-agent controlplane: --server needs an action; give"),
        (["install", "--kubernetes", "--no-start"], "the cluster starts the agent; leave it out"),
        (["install", "--kubernetes", "--token", "x"], "could read it; give --token-file FILE"),
        (["uninstall", "--kubernetes", "--stop-services"], "remove them first, with `stop --remove`"),
        (["logs", "api", "--since", "yesterday"], "is not a time"),
        (["config", "edit"], "cannot use ACTION: 'edit' is not one of check, show; see"),
        (["exec", "--env", "X", "api", "--", "ls"], "is not NAME=VALUE"),
        (["controlplane", "--data-dir", "/x", "--listen", "7420"], "is not HOST:PORT"),
        (["controlplane", "--data-dir", "/x", "--listen", "h:99999999"], "is not HOST:PORT"),
        (["controlplane", "--data-dir", "/x", "--certificate-days", "0"], "is not a number of days up to 825"),
        (["controlplane", "--data-dir", "/x", "--certificate-days", "nan"], "is not a number of days up to 825"),
        (["ps", "--socket", ""], "is not a path"),
    ],
)
def test_wrong_usage_is_exit_code_2(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert err.startswith("cannot ")


def test_a_token_without_a_server_is_not_created(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(capsys, "controlplane", "token", "create")
    assert capsys.readouterr().err == (
        "cannot run syntra-agent controlplane token: the command is not complete; give `token create --server NAME`\n"
    )


def test_an_unknown_option_is_named_without_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["ps", "--password=hunter2"], ["ps", "--password", "hunter2"]):
        code, out, err = run(capsys, *argv)
        assert (code, out) == (2, "")
        assert err == "cannot run syntra-agent ps: unknown option --password; see `syntra-agent ps --help`\n"


def test_config_and_log_level_work_before_and_after_the_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("data_dir = '/data'")
    options = ["--config", str(path), "--log-level", "debug"]
    for argv in (
        [*options, "config", "show", "--json"],
        ["config", *options, "show", "--json"],
        ["config", "show", "--json", *options],
        ["--config", str(path), "config", "--log-level", "debug", "show", "--json"],
        ["--log-level=debug", "config", "show", "--json", f"--config={path}"],
    ):
        code, out, err = run(capsys, *argv)
        assert (code, err) == (0, "")
        shown = json.loads(out)
        assert shown["settings"]["data_dir"] == "/data"
        assert shown["settings"]["logging.level"] == "debug"
        assert shown["origins"]["logging.level"] == "command line"


def test_an_option_after_the_verb_wins_over_one_before_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"data_dir = '/{name}'")
    _, out, _ = run(
        capsys, "--config", str(tmp_path / "a"), "config", "show", "--json", "--config", str(tmp_path / "b")
    )
    assert json.loads(out)["settings"]["data_dir"] == "/b"


def test_the_socket_comes_from_the_option_the_variable_or_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeAgent(tmp_path / "s") as agent:
        config = tmp_path / "agent.toml"
        config.write_text(f"socket = '{agent.path}'\n[telemetry]\notlp_http_port = 70000\n")
        assert run(capsys, "ps", "--config", str(config))[0] == 0
        assert run(capsys, "--socket", str(agent.path), "ps")[0] == 0
        config.write_text("socket = '/nowhere'")
        assert run(capsys, "--config", str(config), "ps", "--socket", str(agent.path))[0] == 0
        assert run(capsys, "--config", str(config), "ps")[0] == 69
        monkeypatch.setenv("SYNTRA_SOCKET", str(agent.path))
        assert run(capsys, "--config", str(config), "ps")[0] == 0
    code, _, err = run(capsys, "ps", "--socket", "/" + "s" * 200)
    assert code == 2
    assert "longer than 107 bytes" in err


def test_an_agent_that_does_not_run_is_exit_code_69(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["ps"], ["status"], ["stop", "api"], ["logs", "api"], ["exec", "api", "--", "ls"], ["metrics", "api"]):
        code, out, err = run(capsys, "--socket", str(tmp_path / "none"), *argv)
        assert (code, out) == (69, "")
        assert err.count("\n") == 1
        assert "start it with" in err


def test_an_interrupt_is_exit_code_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(io.StringIO):
        def write(self, _: str) -> int:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdout", Interrupted())
    assert main(["version"]) == 130


def test_a_closed_pipe_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    assert main(["version"]) == 141
    assert capsys.readouterr().err == ""


def test_a_full_disk_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["version"]) == 1
        monkeypatch.undo()
        with pytest.raises(OSError):
            full.close()
    assert "cannot write the output: No space left on device" in capsys.readouterr().err


def test_text_of_others_cannot_move_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]0;x\x07\x1b[2J\u202e\x9b\u200b\r\n"
    service = dict.fromkeys(("service_id", "service_name", "project_name", "image", "status", "health"), evil)
    agent_facts = {"agent_id": evil, "version": evil, "data_dir": evil}
    control_plane = {"endpoint": evil, "state": evil, "detail": evil}
    data = {
        "agent": agent_facts,
        "control_plane": control_plane,
        "runtime": {"name": evil, "detail": evil},
        "services": [{**service, "domains": [evil]}],
        "warnings": [evil],
    }

    def refuse(peer: Peer) -> None:
        peer.refuse(evil, evil, details=evil)

    with FakeAgent(tmp_path / "s", status=answering(data), list_services=answering(data), stop=refuse) as agent:
        for argv in (["status"], ["ps"], ["status", "--json"], ["stop", "svc_x"], ["stop", evil]):
            _, out, err = run(capsys, "--socket", str(agent.path), *argv)
            assert out or err
            assert (out + err).replace("\n", "").isprintable()
            assert "\\u202e" in out + err


@pytest.mark.parametrize("words", [(), ("x",), ("9999",), ("9" * 30,), ("-1",), ("3", "4")])
def test_the_telemetry_process_is_started_by_the_agent_only(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code, out, err = run(capsys, "telemetry-process", *words)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err == "cannot run telemetry-process: the agent starts it by itself; run `syntra-agent start`\n"
