"""`doctor` beside a real agent, engine and container."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.program import AGENT
from tests.e2e.pseudo_terminal import run_in_terminal
from tests.e2e.service_stage import Stage, stage

__all__ = ["stage"]

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]


def test_the_machine_the_engine_and_a_container_are_checked(stage: Stage) -> None:
    config = ["--config", str(stage.agent.config)]
    assert stage.run("deploy", "-", text=stage.file(port=8080)).returncode == 0
    found: dict[str, dict[str, Any]] = {
        one["check"]: one for one in json.loads(stage.run(*config, "doctor", "--json").stdout)["checks"]
    }
    assert found["agent"]["state"] == found["engine"]["state"] == "ok", found
    assert found["engine's disk"]["detail"].startswith("/"), found
    assert found["dns"]["detail"] == "web resolves in a container of web", found
    assert found["journal"]["state"] == "ok", found
    shown = run_in_terminal([*AGENT, *config, "doctor"], columns=120)
    wrong = [line for line in shown.lines if line.startswith("✗")]
    assert shown.code == (3 if wrong else 0), shown.text
    assert sum(line.startswith("✓") for line in shown.lines) >= 8, shown.text

    stage.agent.stop()
    after = stage.run(*config, "doctor")
    assert after.returncode == 3
    assert "agent" in after.stdout and "run `syntra-agent start`" in after.stdout, after.stdout


def test_a_stopped_service_is_started_again_as_it_was(stage: Stage) -> None:
    assert stage.run("deploy", "-", text=stage.file(replicas=2)).returncode == 0
    assert stage.run("stop", "web").returncode == 0
    assert "start it with `syntra-agent up web`" in stage.run("status", "web").stdout
    started = stage.run("up", "web")
    assert started.returncode == 0, started.stdout + started.stderr
    assert stage.kinds() == [None, None] or stage.kinds() == ["", ""], stage.kinds()
    assert stage.run("up", "web").stdout == "web is up already, 2/2 replicas\n"
    assert stage.run("rm", "web").stdout.startswith("removed web\n")
    assert stage.containers() == []
