"""A deployment that failed can be looked at until it is replaced or removed: a real agent, engine and command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.service_stage import Stage
from tests.engine import EngineRefused, api, busybox_image, cleanup, new_token, require_engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

EXITS: dict[str, Any] = {"port": 8080, "env": {"FAIL": "exit"}}
LOG = ["failing as told", "starting v1"]
HEALTH = {"path": "/health", "interval_seconds": 0.5, "timeout_seconds": 1, "retries": 2}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    require_engine()
    token = new_token()
    busybox_image(f"{token}:v1", "v1")
    try:
        with AgentProcess(tmp_path, config="[runtime]\nmin_healthy_secs = 2\n") as agent:
            yield Stage(token=token, agent=agent)
    finally:
        cleanup(token)


def deploy_fails(stage: Stage, **keys: Any) -> str:
    ended = stage.run("deploy", "-", text=stage.file(**keys))
    assert ended.returncode == 1, ended
    return ended.stderr


def listed(stage: Stage) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(stage.run("ps", "--json").stdout)["services"]
    [service] = found
    return service


def alerts(stage: Stage) -> list[str]:
    return [alert["type"] for alert in json.loads(stage.run("status", "--json").stdout)["alerts"]]


def names(stage: Stage) -> list[str]:
    return [item["Names"][0] for item in stage.containers()]


def pins(stage: Stage) -> list[str]:
    images = api("GET", "/images/json", query={"all": "1"})
    image_id = api("GET", f"/images/{stage.token}:v1/json")["Id"]
    [mine] = [image for image in images if image["Id"] == image_id]
    return [tag for tag in mine["RepoTags"] if tag.startswith("syntra-keep/")]


def test_a_failed_first_deploy_is_there_to_be_looked_at_until_it_is_removed(stage: Stage) -> None:
    said = deploy_fails(stage, **EXITS)
    service = listed(stage)
    failed = service["failed"]
    deployment = failed["deployment_id"]
    assert "exited with code 3" in said and "see its log" in said
    assert said.endswith(f"next: syntra-agent logs web --deployment {deployment}\n")
    assert (service["status"], failed["state"], failed["exit_code"]) == ("failed", "failed", 3)
    assert "exited with code 3" in failed["reason"]
    [container] = [api("GET", f"/containers/{item['Id']}/json") for item in stage.containers()]
    assert container["Name"] == f"/{failed['container_name']}" and container["Name"].endswith("-failed")
    assert container["State"]["Running"] is False
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "no"

    logs = stage.run("logs", "web")
    assert sorted(logs.stdout.splitlines()[:2]) == LOG, logs
    assert f"the log of deployment {deployment}, which failed:" in logs.stderr
    status = stage.run("status", "web").stdout
    assert f"failed:        deployment {deployment}, exit 3" in status
    assert "alert:         warning deployment_failed, web" in status
    assert "web" not in stage.run("ps").stdout
    assert "failed (exit 3)" in stage.run("ps", "-a").stdout
    assert len(pins(stage)) == 1

    refused = stage.run("stop", "web")
    assert refused.returncode == 1
    assert "its deployment failed; remove it (stop --remove)" in refused.stderr
    assert alerts(stage) == ["deployment_failed"]
    removed = stage.run("stop", "web", "--remove")
    assert (removed.returncode, removed.stdout) == (0, "removed web\n")
    assert (stage.containers(), alerts(stage), pins(stage)) == ([], [], [])
    assert json.loads(stage.run("ps", "--json").stdout)["services"] == []
    with pytest.raises(EngineRefused):
        api("GET", f"/networks/syntra-{stage.token}")


def test_a_failed_second_deploy_is_kept_beside_the_version_that_serves_until_the_next_one(stage: Stage) -> None:
    assert stage.run("deploy", "-", text=stage.file(port=8080)).returncode == 0
    serving = names(stage)
    deploy_fails(stage, **EXITS)
    service = listed(stage)
    first = service["failed"]["deployment_id"]
    assert service["status"] == "running" and service["deployment_id"] != first
    assert len(service["containers"]) == 1
    assert "serving v1 on 8080" in stage.run("logs", "web").stdout
    assert sorted(stage.run("logs", "web", "--deployment", first).stdout.splitlines()[:2]) == LOG
    assert "running, health" in stage.run("status", "web").stdout

    # A newer failure takes its place, an agent that is killed and started again leaves it.
    deploy_fails(stage, env={"FAIL": "unhealthy"}, port=8080, health_check=HEALTH)
    second = listed(stage)["failed"]["deployment_id"]
    assert second != first
    assert len(stage.containers()) == 2
    stage.agent.kill()
    stage.agent.start()
    assert listed(stage)["failed"]["deployment_id"] == second
    assert set(serving) < set(names(stage))
    missing = stage.run("logs", "web", "--deployment", first)
    assert missing.returncode == 1 and f"it has no container of deployment {first}" in missing.stderr

    assert stage.run("deploy", "-", text=stage.file(port=8080, env={"V": "2"})).returncode == 0
    assert listed(stage)["failed"] is None
    assert len(stage.containers()) == 1 and not names(stage)[0].endswith("-failed")
    assert alerts(stage) == []


def test_a_failed_release_command_is_kept_and_an_image_that_is_nowhere_leaves_an_alert_to_remove(stage: Stage) -> None:
    said = deploy_fails(stage, release_command=["sh", "-c", "echo migrating; exit 4"])
    assert "the release command exited with code 4" in said
    assert stage.run("logs", "web").stdout == "migrating\n"
    assert listed(stage)["failed"]["exit_code"] == 4
    assert stage.run("stop", "web", "--remove").returncode == 0
    assert (stage.containers(), alerts(stage)) == ([], [])

    deploy_fails(stage, image="127.0.0.1:1/shop/nothing:v1")
    service = listed(stage)
    assert (service["status"], service["failed"]["container_id"]) == ("failed", None)
    assert service["failed"]["reason"].startswith("cannot pull 127.0.0.1:1/shop/nothing:v1: ")
    assert stage.run("stop", "web", "--remove").returncode == 0
    assert alerts(stage) == []
