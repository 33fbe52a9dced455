"""Completion in a real bash: what the Tab key shows, from a scripted agent, from none, and from one that is mute."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.cli.fake_agent import SERVICE, FakeAgent, answering
from tests.e2e.program import AGENT
from tests.e2e.pseudo_terminal import run_in_terminal
from tests.engine import missing

SERVICES = {
    "services": [
        {**SERVICE, "service_id": "svc_shop_web", "service_name": "web"},
        {**SERVICE, "service_id": "svc_blog_web", "service_name": "web", "project_name": "blog"},
        {**SERVICE, "service_id": "svc_shop_cron", "service_name": "cron"},
    ]
}
DEPLOYMENTS = {"deployments": [{"deployment_id": "dep_2"}, {"deployment_id": "dep_1"}], "rollback_to": "dep_1"}


@pytest.fixture
def shell(tmp_path: Path) -> list[str]:
    """The beginning of a script in which `syntra-agent` is the program under test, and has its completion."""
    shim = tmp_path / "bin" / "syntra-agent"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {shlex.join(AGENT)} "$@"\n')
    shim.chmod(0o755)
    return [
        f"cd {shlex.quote(str(Path(__file__).parents[2]))}",
        f"PATH={shlex.quote(str(shim.parent))}:$PATH",
        "source <(syntra-agent completion bash)",
    ]


def suggested(shell: list[str], line: str) -> list[str]:
    """What bash gets for a line with the cursor at its end."""
    script = [
        *shell,
        f"COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)} COMP_TYPE=9",
        "_python_argcomplete syntra-agent",
        'printf "%s\\n" "${COMPREPLY[@]}"',
    ]
    ended = subprocess.run(
        ["bash", "--norc", "-c", "\n".join(script)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return sorted(word.strip() for word in ended.stdout.splitlines() if word.strip())


def test_verbs_services_and_deployments_are_completed(shell: list[str], tmp_path: Path) -> None:
    assert suggested(shell, "syntra-agent depl") == ["deploy", "deployments"]
    assert {"--watch", "--json"} <= set(suggested(shell, "syntra-agent ps --"))
    assert suggested(shell, "syntra-agent proxy ") == ["down", "status", "up"]
    assert {"logs", "ps"} <= set(suggested(shell, "syntra-agent controlplane "))
    agent = FakeAgent(tmp_path / "s", list_services=answering(SERVICES), list_deployments=answering(DEPLOYMENTS))
    with agent:
        begin = f"syntra-agent --socket {agent.path}"
        assert suggested(shell, f"{begin} ps ") == ["blog/web", "cron", "shop/web"]
        assert suggested(shell, f"{begin} logs cron c") == ["cron"]
        assert suggested(shell, f"{begin} rollback cron --to ") == ["dep_1", "dep_2"]
        assert suggested(shell, f"{begin} logs shop/web --deployment dep_2") == ["dep_2"]
        assert suggested(shell, f"{begin} rollback nope --to ") == []
    (tmp_path / "web.yaml").write_text("")
    assert suggested(shell, f"syntra-agent deploy {tmp_path}/we") == [f"{tmp_path}/web.yaml"]


def test_the_tab_key_of_a_terminal_completes(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "rc").write_text("\n".join([*shell, "PS1='ready> '"]))
    with FakeAgent(tmp_path / "s", list_services=answering(SERVICES)) as agent:
        typed = f"syntra-agent --socket {agent.path} ps cr\t"
        ended = run_in_terminal(
            ["bash", "--rcfile", str(tmp_path / "rc"), "-i"],
            columns=200,
            answers=[("ready> ", typed), (" ps cron ", "\x15exit\n")],
        )
    assert ended.code == 0 and " ps cron " in ended.raw, ended.raw


def test_without_an_agent_there_is_no_output_and_a_mute_one_is_not_waited_for(shell: list[str], tmp_path: Path) -> None:
    assert suggested(shell, f"syntra-agent --socket {tmp_path}/none ps ") == []
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute"))
        mute.listen()
        assert suggested(shell, f"syntra-agent --socket {tmp_path}/mute ps ") == []


@pytest.mark.parametrize("name", ["zsh", "fish"])
def test_the_other_shells_have_theirs(name: str) -> None:
    ended = subprocess.run([*AGENT, "completion", name], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0 and "syntra-agent" in ended.stdout and "_ARGCOMPLETE" in ended.stdout
    wrong = subprocess.run([*AGENT, "completion", "tcsh"], capture_output=True, text=True, check=False, timeout=60)
    assert wrong.returncode == 2 and "is not one of bash, zsh, fish" in wrong.stderr


@pytest.mark.soak
def test_zsh_completes(shell: list[str], tmp_path: Path) -> None:
    require_program("zsh")
    path, _ = shell[1], shell[2]
    lines = [path, "autoload -Uz compinit; compinit -D -u", "source <(syntra-agent completion zsh)", "PS1='ready> '"]
    (tmp_path / ".zshrc").write_text("\n".join([*lines, "unsetopt prompt_sp", ""]))
    with FakeAgent(tmp_path / "s", list_services=answering(SERVICES)) as agent:
        typed = f"syntra-agent --socket {agent.path} ps cr\t"
        ended = run_in_terminal(
            ["zsh", "-i"],
            columns=200,
            environment={"ZDOTDIR": str(tmp_path)},
            answers=[("ready> ", typed), (" ps cron", "\x15exit 0\n")],
        )
    assert ended.code == 0 and " ps cron" in ended.raw, ended.raw


@pytest.mark.soak
def test_fish_completes(shell: list[str], tmp_path: Path) -> None:
    require_program("fish")
    agent_line = [f"set -x PATH {tmp_path}/bin $PATH", "syntra-agent completion fish | source"]

    def offered(line: str) -> list[str]:
        script = "; ".join([*agent_line, f"complete -C {shlex.quote(line)}"])
        environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
        ended = subprocess.run(
            ["fish", "-c", script], capture_output=True, text=True, check=False, timeout=60, env=environment
        )
        assert ended.returncode == 0, ended.stderr
        return sorted(line.split("\t")[0].strip() for line in ended.stdout.splitlines())

    assert offered("syntra-agent depl") == ["deploy", "deployments"]
    with FakeAgent(tmp_path / "s", list_services=answering(SERVICES)) as agent:
        assert offered(f"syntra-agent --socket {agent.path} ps ") == ["blog/web", "cron", "shop/web"]


def require_program(name: str) -> None:
    if shutil.which(name) is None:
        missing(f"{name} is not installed")
