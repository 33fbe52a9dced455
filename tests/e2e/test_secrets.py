"""Secrets through the user's door: the real command at a prompt and in a pipe, a real agent and engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.program import AGENT
from tests.e2e.pseudo_terminal import run_in_terminal
from tests.e2e.service_stage import Stage
from tests.engine import busybox_image, cleanup, new_token, require_engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

FIRST, SECOND = "postgres://u:first-of-two@db/app", "postgres://u:second-of-two@db/app"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    require_engine()
    token = new_token()
    busybox_image(f"{token}:v1", "v1")
    try:
        with AgentProcess(tmp_path, config="[runtime]\nmin_healthy_secs = 1\n") as agent:
            yield Stage(token=token, agent=agent)
    finally:
        cleanup(token)


def test_a_secret_is_set_used_replaced_and_removed(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "web.json"
    file.write_text(stage.file(env={"DATABASE_URL": {"secret": "db_url"}, "PLAIN": "x"}))
    refused = stage.run("deploy", str(file))
    assert refused.returncode != 0 and stage.containers() == []
    assert "DATABASE_URL needs secret db_url, which is not set" in refused.stderr
    assert "run `syntra-agent secrets set db_url`" in refused.stderr

    # At a prompt, without echo.
    argv = [*AGENT, "--socket", str(stage.agent.socket), "secrets", "set", "db_url"]
    asked = run_in_terminal(argv, answers=[("value of db_url (not shown): ", f"{FIRST}\n")])
    assert asked.code == 0 and "secret db_url set" in asked.text, asked.text
    assert FIRST not in asked.raw
    planned = stage.run("plan", str(file))
    assert planned.returncode == 0 and FIRST not in planned.stdout

    deployed = stage.run("deploy", str(file))
    assert deployed.returncode == 0, deployed.stderr
    assert f"DATABASE_URL={FIRST}" in stage.only()["Config"]["Env"]
    assert FIRST not in json.dumps(stage.only()["Config"]["Labels"])
    status = stage.run("status", "web", "--exit-zero").stdout
    assert "env PLAIN DATABASE_URL (secret db_url)" in " ".join(status.split()) and "env_secrets" not in status
    assert FIRST not in status + stage.run("status", "web", "--json", "--exit-zero").stdout
    assert stage.run("plan", str(file)).stdout == "web: no changes\n"

    # From a pipe; the line end is not part of it.
    replaced = stage.run("secrets", "set", "db_url", text=f"{SECOND}\n")
    assert replaced.stdout == "secret db_url replaced\n"
    assert replaced.stderr.startswith(f"warning: {stage.token}/web uses it: what runs keeps the earlier value")
    assert "env DATABASE_URL changed (secret db_url)" in stage.run("plan", str(file)).stdout
    assert stage.run("deploy", str(file)).returncode == 0
    assert f"DATABASE_URL={SECOND}" in stage.only()["Config"]["Env"]

    listed = stage.run("secrets", "list").stdout
    assert f"{stage.token}/web" in listed and SECOND not in listed
    removed = stage.run("secrets", "rm", "db_url")
    assert removed.stdout == "secret db_url removed\n"
    assert "uses it: what runs keeps the value, and the next deploy is refused" in removed.stderr
    assert stage.run("secrets", "rm", "db_url").returncode != 0

    # The deployment has its own value, which needs no secret any more.
    back = stage.run("rollback", "web", "--yes")
    assert back.returncode == 0, back.stderr
    assert f"DATABASE_URL={FIRST}" in stage.only()["Config"]["Env"]
    assert stage.run("rm", "web").returncode == 0


@pytest.mark.parametrize(
    ("words", "text", "said"),
    [
        (("set",), "x", "NAME is missing"),
        (("set", "a"), "", "the value is empty; type it at the prompt, or give it on stdin"),
        (("set", "a"), "x" * 70_000, "the value is longer than 64 KiB"),
        (("set", "a b"), "x", "name: is not a secret's name"),
        (("list", "a"), "", "list takes no NAME"),
        (("rm", "a"), "", "cannot remove secret a: it is not set"),
    ],
)
def test_a_wrong_use_is_said(stage: Stage, words: tuple[str, ...], text: str, said: str) -> None:
    ended = stage.run("secrets", *words, text=text)
    assert ended.returncode != 0
    assert said in ended.stderr
