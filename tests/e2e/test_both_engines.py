"""One service's life with the same commands on Docker and on Podman: a real agent, real engines, the command line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.service_stage import Stage
from tests.engine import api, busybox_image, cleanup, fetch, new_token, require_engine, wait_until
from tests.podman import PodmanService, podman_service, speaking_to_podman

__all__ = ["podman_service"]

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

PORT = 8080
# Podman's own resolver has port 53 of every network, so it answers for names.
NAMES = {"docker": "agent", "podman": "docker-alias"}
HEALTH = {"type": "http", "path": "/health", "port": PORT, "interval_seconds": 1, "timeout_seconds": 2, "retries": 2}


@pytest.fixture(params=["docker", "podman"])
def product(request: pytest.FixtureRequest) -> Iterator[str]:
    """The product that the helpers of `tests.engine` speak to."""
    if request.param == "docker":
        require_engine()
        yield "docker"
    else:
        with speaking_to_podman(request.getfixturevalue("podman_service")):
            yield "podman"


@pytest.fixture
def stage(product: str, tmp_path: Path) -> Iterator[Stage]:
    token = new_token()
    for version in ("v1", "v2"):
        busybox_image(f"{token}:{version}", version)
    try:
        with AgentProcess(tmp_path, config=_names(product)) as agent:
            yield Stage(token=token, agent=agent)
    finally:
        cleanup(token)


def _names(product: str) -> str:
    return f'[networking]\nproxy = "off"\ndns.mode = "{NAMES[product]}"\n'


def succeeds(stage: Stage, *words: str, text: str = "") -> str:
    ended = stage.run(*words, text=text)
    assert ended.returncode == 0, ended
    return ended.stdout


def deploys(stage: Stage, version: str, **keys: Any) -> None:
    file = stage.file(image=f"{stage.token}:{version}", port=PORT, health_check=HEALTH, **keys)
    succeeds(stage, "deploy", "-", text=file)


def versions(stage: Stage) -> list[str]:
    """What each running replica serves at its own address."""
    found = []
    for item in stage.replicas():
        if item["State"] == "running":
            networks = api("GET", f"/containers/{item['Id']}/json")["NetworkSettings"]["Networks"]
            found.append(fetch(networks[f"syntra-{stage.token}"]["IPAddress"], PORT)[1].strip())
    return sorted(found)


def serves(stage: Stage, version: str) -> bool:
    """Whether all running replicas answer with the version; a program that has just started may not listen yet."""
    try:
        return versions(stage) == [version]
    except OSError:
        return False


def test_the_life_of_a_service(stage: Stage, product: str) -> None:
    status = json.loads(succeeds(stage, "status", "--json"))
    assert (status["runtime"]["name"], status["runtime"]["reachable"]) == (product, True)
    assert status["runtime"]["reason"] == "DOCKER_HOST names an engine"

    assert succeeds(stage, "secrets", "set", "db_url", text="kept apart\n") == "secret db_url set\n"
    deploys(stage, "v1", env={"DATABASE_URL": {"secret": "db_url"}})
    assert versions(stage) == ["v1"]
    assert succeeds(stage, "exec", "web", "--", "sh", "-c", "echo $DATABASE_URL") == "kept apart\n"
    assert "kept apart" not in succeeds(stage, "status", "web", "--json")
    deploys(stage, "v2")
    assert versions(stage) == ["v2"]

    for failure, said in (("exit", "exited with code 3"), ("unhealthy", "404")):
        keys: dict[str, Any] = {"env": {"FAIL": failure}, "timeout": 20}
        failed = stage.run("deploy", "-", text=stage.file(port=PORT, health_check=HEALTH, **keys))
        assert failed.returncode == 1
        assert said in failed.stderr, failed.stderr
        assert versions(stage) == ["v2"], "the version before still serves"
        assert len(stage.containers()) == 2, "the failed one is kept"

    succeeds(stage, "scale", "web", "3")
    assert versions(stage) == ["v2", "v2", "v2"]
    succeeds(stage, "scale", "web", "1")
    assert versions(stage) == ["v2"]

    before = stage.only()
    succeeds(stage, "restart", "web")
    after = stage.only()
    assert (after["Id"], after["State"]["Running"]) == (before["Id"], True)
    assert after["State"]["StartedAt"] > before["State"]["StartedAt"]

    assert "serving v2 on 8080" in succeeds(stage, "logs", "web")
    told = stage.run("exec", "web", "--", "sh", "-c", "echo to you; echo aside >&2; exit 7")
    assert (told.returncode, told.stdout, told.stderr) == (7, "to you\n", "aside\n")
    piped = stage.run("exec", "-i", "web", "--", "sh", "-c", "tr a-z A-Z", text="shout\n")
    assert (piped.returncode, piped.stdout) == (0, "SHOUT\n")

    assert succeeds(stage, "exec", "web", "--", "wget", "-qO-", f"http://web:{PORT}/") == "v2\n"

    succeeds(stage, "rollback", "web")
    wait_until(lambda: versions(stage) == ["v1"], "the version before serves again")

    succeeds(stage, "stop", "web")
    assert [item["State"] for item in stage.replicas()] == ["exited"]
    succeeds(stage, "stop", "web", "--remove")
    assert stage.containers() == []
    warnings = json.loads(succeeds(stage, "status", "--json"))["warnings"]
    assert warnings == []


def test_a_crashed_replica_comes_back_and_a_stopped_one_stays_down(stage: Stage) -> None:
    deploys(stage, "v1")
    first = stage.only()
    stage.run_in(first["Id"], "sh", "-c", "kill -9 1; kill 1; busybox killall httpd")
    wait_until(lambda: stage.only()["RestartCount"] >= 1 and serves(stage, "v1"), "it is restarted")
    assert stage.only()["Id"] == first["Id"]
    succeeds(stage, "stop", "web")
    time.sleep(2)
    assert versions(stage) == []


def test_an_agent_that_is_killed_finds_its_services_again(stage: Stage) -> None:
    deploys(stage, "v1")
    before = stage.only()["Id"]
    stage.agent.kill()
    stage.agent.start()
    deploys(stage, "v2")
    assert versions(stage) == ["v2"]
    assert before not in [item["Id"] for item in stage.containers()]


def test_containers_outlive_podmans_service(podman_service: PodmanService, tmp_path: Path) -> None:
    """Podman's socket may go and come, as systemd's socket activation has it; nothing is redeployed."""
    with speaking_to_podman(podman_service):
        token = new_token()
        busybox_image(f"{token}:v1", "v1")
        try:
            with AgentProcess(tmp_path, config=_names("podman")) as agent:
                stage = Stage(token=token, agent=agent)
                deploys(stage, "v1")
                before = stage.only()
                podman_service.stop()
                wait_until(lambda: "not reachable" in stage.run("status").stdout, "the agent notices")
                podman_service.start()
                wait_until(lambda: ", reachable" in stage.run("status").stdout, "the agent finds it again")
                after = stage.only()
                assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])
                assert versions(stage) == ["v1"]
        finally:
            cleanup(token)
