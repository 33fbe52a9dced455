"""From a Compose file to running services: `init`, `plan` and `deploy` of the folder, by the real command."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.program import AGENT
from tests.e2e.pseudo_terminal import run_in_terminal
from tests.e2e.service_stage import Stage
from tests.engine import api, busybox_image, cleanup, new_token, require_engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

COMPOSE = """\
name: {token}
services:
  web:
    image: {token}:${{TAG:-v1}}
    environment: {{GREETING: "${{GREETING}}"}}
    restart: always
  api:
    image: {token}:v1
    environment: {{FAIL: "${{FAIL:-}}"}}
"""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    require_engine()
    token = new_token()
    busybox_image(f"{token}:v1", "v1")
    try:
        with AgentProcess(tmp_path / "agent", config="[runtime]\nmin_healthy_secs = 1\n") as agent:
            yield Stage(token=token, agent=agent)
    finally:
        cleanup(token)


def test_a_compose_file_becomes_services_that_run(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE.format(token=stage.token))
    variables = tmp_path / "variables"
    variables.write_text("GREETING=hello\n")

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*AGENT, "--socket", str(stage.agent.socket), *words],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )

    refused = run("deploy", "compose.yaml")
    assert refused.returncode == 2
    assert "compose.yaml:2:1: services: this is a Compose file; `syntra-agent init --from FILE`" in refused.stderr
    made = run("init", "--from", "compose.yaml")
    assert made.returncode == 0, made.stderr
    assert made.stderr == "note: the files have variables; plan and deploy them with --expand\n"

    unset = run("deploy", "--expand", "services")
    assert unset.returncode == 2 and stage.containers() == []
    assert "services/web.yml:5:3: env.GREETING: needs the variable GREETING, which is not set" in unset.stderr
    assert unset.stderr.endswith("nothing was done with the other 1 files\n")

    expanding = ("--expand", "--env-file", str(variables), "services")
    planned = run("plan", *expanding)
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.index("api: new service") < planned.stdout.index("web: new service")
    assert stage.containers() == []

    # One fails, the other is deployed all the same.
    part = run("deploy", *expanding, FAIL="exit")
    assert part.returncode == 1, part
    assert [line.split()[::2] for line in part.stdout.splitlines()[-2:]] == [["api", "failed"], ["web", "deployed"]]
    [web] = stage.replicas()
    assert "GREETING=hello" in api("GET", f"/containers/{web['Id']}/json")["Config"]["Env"]

    seen = run_in_terminal(
        [*AGENT, "--socket", str(stage.agent.socket), "deploy", *expanding[:3], str(tmp_path / "services")]
    )
    assert seen.code == 0, seen.text
    assert "web: no changes" in seen.text
    results = [line.split() for line in seen.lines if line.split()[:1] in (["api"], ["web"])][-2:]
    assert [(row[0], row[2:]) for row in results] == [("api", ["deployed"]), ("web", ["no", "changes"])], seen.text
    assert len(stage.replicas()) == 2
