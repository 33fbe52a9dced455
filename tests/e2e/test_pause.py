"""Maintenance of one service: paused and resumed as a person does, over a restart of the agent."""

from __future__ import annotations

import json
import time

import pytest

from tests.e2e.service_stage import Stage, stage
from tests.engine import api, wait_until

__all__ = ["stage"]

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]


def test_a_paused_service_is_left_alone_over_a_restart_of_the_agent(stage: Stage) -> None:
    file = stage.file(port=8080)
    assert stage.run("deploy", "-", text=file).returncode == 0
    paused = stage.run("pause", "web", "--reason", "disk is moved")
    assert (paused.returncode, paused.stdout) == (0, "paused web; end it with `syntra-agent resume web`\n")
    assert stage.run("pause", "web", "--reason", "disk is moved").stdout == "web was paused already\n"
    assert "running (paused)" in stage.run("ps").stdout
    assert stage.run("status", "web").returncode == 0

    refused = stage.run("deploy", "-", text=stage.file(port=8080, env={"A": "1"}))
    assert refused.returncode == 1
    assert refused.stderr.startswith("cannot deploy web: it is paused since ")
    assert "(disk is moved); run `syntra-agent resume web` first (SERVICE_PAUSED)" in refused.stderr
    assert stage.run("scale", "web", "2").returncode == 1

    api("POST", f"/containers/{stage.only()['Id']}/stop", query={"t": "1"})
    stage.agent.kill()
    stage.agent.start()
    time.sleep(4)  # nothing is to happen: several rounds of the reconciler
    assert stage.only()["State"]["Status"] == "exited"
    status = stage.run("status", "web")
    assert status.returncode == 3 and "paused:        since " in status.stdout and ": disk is moved" in status.stdout
    assert "problem:       it is paused, and the agent restores no replica; end it with" in status.stdout

    resumed = stage.run("resume", "web")
    assert (resumed.returncode, resumed.stdout) == (0, "resumed web\n")
    wait_until(lambda: stage.only()["State"]["Status"] == "running", "the replica is started again", 20)
    assert stage.run("resume", "web").stdout == "nothing to resume: web is not paused\n"
    events = [json.loads(line) for line in stage.run("events", "web", "--json").stdout.splitlines()]
    kinds = [event["kind"] for event in events]
    assert kinds.index("pause") < kinds.index("resume") < kinds.index("restart")
