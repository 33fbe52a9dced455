"""`config check` and `config show`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from syntra.agent.config.load import DEFAULT_PATH
from syntra.agent.config.settings import BY_DOTTED
from syntra.cli.main import main

TEXT = """
data_dir = '/data/ü'
[control_plane]
endpoint = 'ws://cp.example/agent/ws'
token = 'syn_agt_hidden'
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(TEXT)
    path.chmod(0o600)
    return path


def test_check_of_a_valid_file_is_0_with_warnings(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", "--config", str(config)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"configuration is valid: {config}\n"
    assert captured.err.startswith("warning: control_plane.endpoint is ws://")
    assert main(["config", "check", "--json", "--config", str(config)]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["valid"] is True
    assert len(described["warnings"]) == 1
    assert "settings" not in described


def test_check_and_show_of_a_wrong_file_are_78_and_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text("[telemetry]\notlp_http_port = 70000\n")
    for action in ("check", "show"):
        assert main(["--config", str(config), "config", action]) == 78
        captured = capsys.readouterr()
        expected = f"cannot load configuration {config}: telemetry.otlp_http_port: 70000 is not a port (1–65535)\n"
        assert (captured.out, captured.err) == ("", expected)


def test_start_refuses_a_wrong_configuration_with_78(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text("x = 1")
    assert main(["start", "--config", str(config)]) == 78
    assert capsys.readouterr().err == f"cannot load configuration {config}: x: unknown key\n"


def test_start_refuses_a_cluster_without_a_kubeconfig_with_78(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    path = tmp_path / "agent.toml"
    path.write_text(f"data_dir = '{tmp_path}/data'\nsocket = '{tmp_path}/s'\nruntime.runtime_type = 'kubernetes'\n")
    assert main(["start", "--config", str(path)]) == 78
    assert "there is no kubeconfig; set it to the path of one" in capsys.readouterr().err


def test_show_is_toml_with_origins_and_without_the_token(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "--config", str(config), "--log-level", "warn"]) == 0
    out = capsys.readouterr().out
    assert "syn_agt_hidden" not in out
    tables = tomllib.loads(out)
    assert tables["data_dir"] == "/data/ü"
    assert tables["control_plane"]["token"] == "********"
    assert tables["logging"]["level"] == "warn"
    lines = {line.removeprefix("# ").split(" = ")[0]: line.rpartition("# ")[2] for line in out.splitlines()}
    assert (lines["data_dir"], lines["level"], lines["buffer_max_mb"]) == ("file", "command line", "default")


def test_show_json_has_every_key_and_its_origin(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTRA_TELEMETRY__BUFFER_MAX_MB", "60")
    assert main(["config", "show", "--json", "--config", str(config)]) == 0
    out = capsys.readouterr().out
    described = json.loads(out)
    assert "syn_agt_hidden" not in out
    assert set(described["settings"]) == set(described["origins"]) == set(BY_DOTTED)
    assert described["settings"]["telemetry.buffer_max_mb"] == 60
    assert described["origins"]["telemetry.buffer_max_mb"] == "environment SYNTRA_TELEMETRY__BUFFER_MAX_MB"


@pytest.mark.skipif(DEFAULT_PATH.exists(), reason="this machine has a configuration of its own")
def test_without_any_file_the_defaults_apply_and_show_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SYNTRA_CONFIG", raising=False)
    assert main(["config", "show"]) == 0
    assert f"# no file at {DEFAULT_PATH}, so defaults and the environment apply" in capsys.readouterr().out


def test_a_variable_that_is_no_setting_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("")
    monkeypatch.setenv("SYNTRA_GIZMO", "1")
    monkeypatch.setenv("SYNTRA_WITH_PROXY", "1")
    monkeypatch.setenv("SYNTRA_AGENT_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.2")
    assert main(["config", "check", "--config", str(config)]) == 0
    said = "SYNTRA_GIZMO is set in the environment, but no setting has that name; see `syntra-agent config show`"
    assert capsys.readouterr().err == f"warning: {said}\n"
