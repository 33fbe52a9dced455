"""`plan` and `deploy`: what they send, what they print, and how they end."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from syntra.cli.person import person
from tests.cli.fake_agent import SERVICE, Cli, FakeAgent, answering, deploying
from tests.cli.shown import RUNNING, Terminal


@pytest.fixture
def service_file(tmp_path: Path) -> str:
    path = tmp_path / "api.yaml"
    path.write_text("image: registry.example/api:1\nproject: shop\nport: 80\n")
    return str(path)


PLANNED: dict[str, Any] = {
    "service_id": "svc_shop_api",
    "action": "deploy",
    "strategy": "rolling",
    "changes": [
        {"setting": "image", "text": "image registry.example/api:1 → :2"},
        {"setting": "env A", "text": "env A changed"},
    ],
    "steps": [{"phase": "pull_image", "text": "pull registry.example/api:1"}, {"text": "create replica 0"}],
    "notes": ["stop first, because the volume has one writer"],
}


def test_plan_prints_changes_steps_and_notes(cli: Cli, service_file: str) -> None:
    with FakeAgent(cli.path, plan=answering(PLANNED)) as agent:
        code, out, _ = cli("plan", service_file)
        assert json.loads(cli("plan", service_file, "--json")[1]) == PLANNED
        assert agent.last("plan")["service_id"] == "svc_shop_api"
        assert agent.last("plan")["force"] is False
        # The same view, and nothing is deployed without a yes.
        code, shown, err = cli("deploy", service_file, "--plan")
    assert (code, err) == (0, "nothing was deployed; add --yes to deploy it\n")
    assert shown == out
    assert out.splitlines() == [
        "api: rolling, 2 steps",
        "  image registry.example/api:1 → :2",
        "  env A changed",
        "  1. pull registry.example/api:1",
        "  2. create replica 0",
        "note: stop first, because the volume has one writer",
    ]


def test_a_file_that_changes_nothing_is_not_deployed_unless_forced(cli: Cli, service_file: str) -> None:
    unchanged = answering({"service_id": "svc_shop_api", "action": "none", "changes": [], "steps": []})
    with FakeAgent(cli.path, plan=unchanged) as agent:
        assert cli("plan", service_file)[1] == "api: no changes\n"
        assert cli("deploy", service_file) == (0, "api: no changes; --force deploys it again\n", "")
        assert json.loads(cli("deploy", service_file, "--json")[1])["status"] == "unchanged"
        assert not [each for each in agent.requests if each["type"] == "deploy"]
    cli.path.unlink()
    with FakeAgent(cli.path, plan=answering(PLANNED), deploy=deploying(RUNNING)) as agent:
        code, out, _ = cli("deploy", service_file, "--force")
        assert agent.last("plan")["force"] is True
    assert code == 0
    assert out.startswith("api: image registry.example/api:1 → :2, env A changed\n")


def test_a_changed_number_of_replicas_only_scales(cli: Cli, service_file: str) -> None:
    data = {**PLANNED, "action": "scale", "replicas": 3, "changes": [{"setting": "replicas", "text": "replicas 2 → 3"}]}
    with FakeAgent(cli.path, plan=answering(data), scale=deploying(RUNNING)) as agent:
        assert cli("plan", service_file)[1].splitlines()[:2] == ["api: scale only, 2 steps", "  replicas 2 → 3"]
        assert cli("deploy", service_file, "--plan", "--yes")[0] == 0
        assert agent.last("scale") | {"request_id": ""} == {
            "request_id": "",
            "service_id": "svc_shop_api",
            "replicas": 3,
            "strategy": "rolling",
            "requested_by": person(),
        }


PULLING = {"status": "pulling", "phase": "pull_image", "progress_percent": 10, "message": "pulling"}


FAILED = {
    "status": "failed",
    "progress_percent": 60,
    "message": "failed",
    "error": {"code": "HEALTH_CHECK_FAILED", "message": "GET /health answered 500"},
    "logs": [f"line {n}\x1b[2J" for n in range(30)],
}


def unstamped(out: str) -> str:
    """The lines without their times, and without how long it took."""
    lines = [line.partition("Z ")[2] for line in out.splitlines()]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line.partition("Z ")[0]) for line in out.splitlines())
    return re.sub(r" in \d+\.\d s$", " in 0 s", "\n".join(lines))


def test_deploy_in_a_pipe_prints_a_line_per_change_and_ends_well(cli: Cli, service_file: str) -> None:
    service = {**SERVICE, "urls": ["https://api.example"]}
    known = answering({"services": [service]})
    with FakeAgent(cli.path, deploy=deploying(PULLING, PULLING, RUNNING), list_services=known) as agent:
        code, out, err = cli("deploy", service_file)
    assert (code, err) == (0, "")
    last = "100% api registry.example/api:1, 2 replicas serve, https://api.example in 0 s"
    assert unstamped(out) == f" 10% pulling: pulling\n{last}"
    sent = agent.last("deploy")
    assert sent["service_id"] == "svc_shop_api"
    assert sent["image"] == {"registry": "registry.example", "repository": "api", "tag": "1"}
    assert "registry_auth" not in sent


def test_how_far_a_step_is_is_said_and_percentages_only_rise(cli: Cli, service_file: str) -> None:
    far = {**PULLING, "detail": "2/3 layers", "progress_percent": 30}
    back = {"status": "creating", "message": "create replica 1", "progress_percent": 5}
    with FakeAgent(cli.path, deploy=deploying(PULLING, far, back, RUNNING)):
        out = unstamped(cli("deploy", service_file)[1])
    assert out.splitlines()[:3] == [
        " 10% pulling: pulling",
        " 30% pulling: pulling, 2/3 layers",
        " 30% creating: create replica 1",
    ]


def test_a_deploy_is_not_waited_for_when_it_is_detached(cli: Cli, service_file: str) -> None:
    with FakeAgent(cli.path, deploy=deploying(PULLING, RUNNING)) as agent:
        code, out, err = cli("deploy", service_file, "--detach", "--timeout", "20")
        assert agent.last("deploy")["timeout_seconds"] == 20
        assert json.loads(cli("deploy", service_file, "-d", "--json")[1])["accepted"] is True
    assert (code, out, err) == (0, "the deploy of api continues in the background; see `syntra-agent ps`\n", "")


def test_the_last_phases_are_called_what_they_are(cli: Cli, service_file: str) -> None:
    stopping = {"status": "starting", "phase": "stop_old", "message": "stop old", "progress_percent": 80}
    commit = {"status": "health_checking", "phase": "cleanup", "message": "commit", "progress_percent": 90}
    with FakeAgent(cli.path, deploy=deploying(stopping, commit, RUNNING)):
        out = unstamped(cli("deploy", service_file)[1])
    assert out.startswith(" 80% stopping: stop old\n 90% finishing: commit\n100% api")


def test_deploy_json_prints_one_event_per_line(cli: Cli, service_file: str) -> None:
    with FakeAgent(cli.path, deploy=deploying(PULLING, RUNNING)):
        code, out, _ = cli("deploy", service_file, "--json")
    assert code == 0
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["pulling", "running"]


def test_a_failed_deploy_says_why_once_with_the_last_lines_and_what_to_type(cli: Cli, service_file: str) -> None:
    with FakeAgent(cli.path, deploy=deploying(PULLING, FAILED)):
        code, out, err = cli("deploy", service_file)
    assert code == 1
    lines = err.splitlines()
    assert lines[0] == "cannot deploy api: GET /health answered 500 (HEALTH_CHECK_FAILED)"
    assert lines[1] == "  | line 10\\x1b[2J"
    assert lines[21:] == ["next: syntra-agent status api"]
    assert "GET /health" not in out


def test_a_reason_is_without_the_page_of_a_web_server_and_names_the_service_as_typed(
    cli: Cli, service_file: str
) -> None:
    page = "<!DOCTYPE html>\n<html><style>p{}</style><body><h1>502 Bad Gateway</h1>\x1b[31m</body></html>"
    kept = "; the failed container is kept for a day: see `syntra-agent logs api --deployment dep_1`"
    message = f"cannot pull api of svc_shop_api: {page}"
    failed = {"status": "failed", "message": f"{message}{kept}", "error": {"code": "X", "message": message}}
    with FakeAgent(cli.path, deploy=deploying(failed)):
        err = cli("deploy", service_file)[2]
    assert err == (
        "cannot deploy api: cannot pull api of api: 502 Bad Gateway (X)\n"
        "next: syntra-agent logs api --deployment dep_1\n"
    )


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ({"status": "failed"}, "no reason given"),
        ({"status": "failed", "error_message": "older name"}, "older name"),
        ({"status": "rolled_back", "message": "went back"}, "went back; the previous version is running again"),
    ],
)
def test_only_running_is_success(last: dict[str, object], said: str, cli: Cli, service_file: str) -> None:
    with FakeAgent(cli.path, deploy=deploying(last)):
        code, _, err = cli("deploy", service_file)
    assert code == 1
    assert said in err


def test_an_engine_that_is_away_is_exit_code_69(cli: Cli, service_file: str) -> None:
    with FakeAgent(
        cli.path, deploy=deploying({"status": "failed", "error": {"code": "RUNTIME_UNAVAILABLE", "message": "gone"}})
    ):
        assert cli("deploy", service_file)[0] == 69


def test_a_refused_deploy_prints_the_refusal(cli: Cli, service_file: str) -> None:
    with FakeAgent(cli.path, deploy=lambda peer: peer.refuse("BUSY", "another deployment runs")):
        assert cli("deploy", service_file) == (75, "", "another deployment runs (BUSY)\n")


def test_an_agent_that_goes_away_in_the_middle_is_an_error(cli: Cli, service_file: str) -> None:
    with FakeAgent(cli.path, deploy=deploying(PULLING)):
        code, _, err = cli("deploy", service_file)
    assert code == 69
    assert "the deploy of api continues in the background" in err
    assert "closed the connection" in err


def test_a_wrong_service_file_is_exit_code_2_and_asks_no_agent(tmp_path: Path, cli: Cli) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("imge: nginx")
    for verb in ("deploy", "plan"):
        code, _, err = cli(verb, str(path))
        assert code == 2
        assert "x.yaml:1:1: imge: unknown key, did you mean image?" in err


def test_deploy_in_a_terminal_has_a_line_for_each_step_with_its_time(
    cli: Cli, service_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    long = {"status": "creating", "message": "create " + "x" * 50}
    far = {**PULLING, "detail": "1/3 layers, 1.0 of 3.0 MB"}
    with FakeAgent(cli.path, deploy=deploying(PULLING, far, long, RUNNING)):
        assert cli("deploy", service_file)[0] == 0
    drawn = terminal.getvalue().replace("\n", "\r").split("\r")
    assert all(len(line.removeprefix("\x1b[2K")) < 40 for line in drawn), drawn
    shown = [re.sub(r"\d+\.\d s", "0 s", line.rpartition("\x1b[2K")[2]) for line in terminal.getvalue().split("\n")]
    assert shown[0] == "+ pulling  0 s"
    assert re.fullmatch(r"\+ create x+…  0 s", shown[1])
    assert " ".join(shown[2:]).split() == [
        "+",
        "api",
        "registry.example/api:1,",
        "2",
        "replicas",
        "serve",
        "in",
        "0",
        "s",
    ]
    assert any("1/3 layers, 1.0" in line for line in drawn)


def test_the_registry_password_comes_from_stdin_or_the_environment(
    cli: Cli, service_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeAgent(cli.path, deploy=deploying(RUNNING)) as agent:
        monkeypatch.setattr(sys, "stdin", io.StringIO("hunter2\n"))
        assert cli("deploy", service_file, "--registry-user", "u", "--registry-password-stdin")[0] == 0
        assert agent.last("deploy")["registry_auth"] == {"username": "u", "password": "hunter2"}
        monkeypatch.setenv("SYNTRA_REGISTRY_PASSWORD", "hunter3")
        assert cli("deploy", service_file, "--registry-user", "u")[0] == 0
        assert agent.last("deploy")["registry_auth"] == {"username": "u", "password": "hunter3"}
        assert cli("deploy", service_file)[0] == 0
        assert "registry_auth" not in agent.last("deploy")
    monkeypatch.delenv("SYNTRA_REGISTRY_PASSWORD")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    for argv in (["--registry-user", "u"], ["--registry-password-stdin"]):
        code, _, err = cli("deploy", service_file, *argv)
        assert code == 2
        assert "cannot use the registry password" in err
    assert cli("deploy", service_file, "--registry-user", "u", "--registry-password-stdin")[0] == 2


def test_standard_input_is_either_the_service_file_or_the_password(cli: Cli) -> None:
    code, _, err = cli("deploy", "-", "--registry-user", "u", "--registry-password-stdin")
    assert code == 2
    assert "cannot read both the service file and the password from stdin; set SYNTRA_REGISTRY_PASSWORD" in err
