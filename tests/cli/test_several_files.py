"""Several service files and folders in one command: their order, one report, the worst exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.fake_agent import Cli, FakeAgent, Peer, Script, deploying


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    for name in ("web.yaml", "api.yml", "db.toml", "cache.json"):
        (folder / name).write_text({"toml": 'image = "x"', "json": '{"image": "x"}'}.get(name[-4:], "image: x"))
    (folder / ".web.yaml").write_text("broken: [")
    (folder / "notes.txt").write_text("no service")
    (folder / "more.yaml").mkdir()
    return folder


def failing(*names: str) -> Script:
    """Deploys these fail, all others run."""

    def script(peer: Peer) -> None:
        name = peer.payload["service_name"]
        service = {"service_id": peer.payload["service_id"]}
        bad = {"status": "failed", "message": "it broke", "error": {"code": "START_FAILED", "message": "it broke"}}
        deploying({**service, **(bad if name in names else {"status": "running", "message": "deployed"})})(peer)

    return script


def order(agent: FakeAgent, kind: str) -> list[str]:
    return [each["payload"]["service_name"] for each in agent.requests if each["type"] == kind]


def test_a_folder_is_deployed_by_name_with_one_report(folder: Path, cli: Cli) -> None:
    with FakeAgent(cli.path, deploy=failing()) as agent:
        code, shown, err = cli("deploy", str(folder))
        assert order(agent, "deploy") == ["api", "cache", "db", "web"]
    assert (code, err) == (0, "")
    report = [line.split() for line in shown.splitlines()[-5:]]
    assert report[0] == ["SERVICE", "FILE", "RESULT"]
    assert [(row[0], row[-1]) for row in report[1:]] == [(n, "deployed") for n in ("api", "cache", "db", "web")]


def test_the_rest_is_tried_when_one_fails_and_the_worst_exit_code_is_the_whole_ones(folder: Path, cli: Cli) -> None:
    def plan(peer: Peer) -> None:
        if peer.payload["service_name"] == "cache":
            peer.refuse("INVALID_PAYLOAD", "cannot plan cache: no")
        else:
            action = "none" if peer.payload["service_name"] == "db" else "deploy"
            peer.respond({"service_id": "s", "action": action, "changes": [], "steps": []})

    with FakeAgent(cli.path, plan=plan, deploy=failing("api")) as agent:
        code, shown, err = cli("deploy", str(folder))
        assert order(agent, "deploy") == ["api", "web"]
        lines = cli("deploy", str(folder), "--json")[1].splitlines()
    assert code == 2
    assert "cannot plan cache: no" in err and "cannot deploy api: it broke" in err
    ends = {line.split()[0]: line.split("  ")[-1].strip() for line in shown.splitlines()[-4:]}
    assert ends == {"api": "failed", "cache": "failed", "db": "no changes", "web": "deployed"}

    results = json.loads(lines[-1])["results"]
    assert [(one["service_name"], one["result"], one["exit_code"]) for one in results] == [
        ("api", "failed", 1),
        ("cache", "failed", 2),
        ("db", "no changes", 0),
        ("web", "deployed", 0),
    ]


def test_the_rest_is_not_tried_when_the_engine_is_away(folder: Path, cli: Cli) -> None:
    with FakeAgent(cli.path, plan=lambda peer: peer.refuse("RUNTIME_UNAVAILABLE", "cannot reach the engine")) as agent:
        code, shown, err = cli("deploy", str(folder))
        assert order(agent, "plan") == ["api"]
    assert code == 69
    assert "the rest was not tried, because the agent or its engine cannot be reached" in err
    assert shown.count("not tried") == 3


def test_a_mistake_in_one_file_keeps_all_from_being_used(folder: Path, cli: Cli) -> None:
    (folder / "api.yml").write_text("imge: x\n")
    (folder / "db.toml").write_text("image = 'x'\nport = 0\n")
    for verb in ("deploy", "plan"):
        # No agent is asked: there is none.
        code, shown, err = cli(verb, str(folder))
        assert (code, shown) == (2, "")
        assert err.splitlines() == [
            f"cannot use service file {folder}/api.yml:1:1: imge: unknown key, did you mean image?",
            f"cannot use service file {folder}/db.toml:2:1: port: 0 is out of range (1–65535)",
            "nothing was done with the other 2 files",
        ]


def test_files_and_folders_are_ordered_together_and_taken_once(folder: Path, tmp_path: Path, cli: Cli) -> None:
    other = tmp_path / "bus.yaml"
    other.write_text("image: x\n")
    with FakeAgent(cli.path) as agent:
        code, shown, _ = cli("plan", str(folder / "web.yaml"), str(folder), str(other))
        assert order(agent, "plan") == ["api", "bus", "cache", "db", "web"]
    assert code == 0 and "SERVICE" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-", "web.yaml"], "cannot read standard input beside other files; give `-` alone"),
        (["empty"], "has no file named .yaml, .yml, .toml or .json"),
        (["one.yaml", "two.yaml"], "one.yaml is about the same service, default/web; change one of the names"),
        (["none"], "there is no such file; check the path"),
    ],
)
def test_what_cannot_be_read_together_is_said(
    words: list[str], said: str, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("web.yaml", "one.yaml", "two.yaml"):
        (tmp_path / name).write_text("name: web\nimage: x\n")
    with FakeAgent(cli.path) as agent:
        code, _, err = cli("deploy", *words)
        assert agent.requests == []
    assert code == 2 and said in err, err
