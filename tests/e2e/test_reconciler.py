"""What another hand takes away comes back, what is unhealthy is restarted, and people hear of it once: a real agent."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.engine import api, busybox_image, cleanup, new_token, require_engine, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

# A file decides whether it is healthy; `die` and `eat` let it crash or run out of memory.
PROGRAM = """
trap 'exit 0' TERM
echo "serving $VERSION"
while :; do
  [ -e /tmp/die ] && { rm /tmp/die; echo "cannot go on: the disk of $VERSION is gone" >&2; exit 7; }
  [ -e /tmp/eat ] && { rm /tmp/eat; exec tail /dev/zero; }
  sleep 0.1 & wait $!
done
"""
CHECK = {
    "type": "exec",
    "command": ["test", "!", "-e", "/tmp/sick"],
    "interval_seconds": 0.5,
    "timeout_seconds": 5,
    "retries": 2,
}


@dataclass(slots=True)
class Stage:
    token: str
    agent: AgentProcess

    @property
    def service(self) -> str:
        return f"svc-{self.token}"

    def deploy(self, version: str = "v1", service: str = "", **config: Any) -> None:
        report = self.agent.carry_out(
            "deploy",
            {
                "service_id": service or self.service,
                "deployment_id": f"d-{uuid.uuid4().hex[:10]}",
                "service_name": service or "web",
                "project_name": self.token,
                "image": f"{self.token}:v1",
                "config": {
                    "port": 8080,
                    "replicas": 1,
                    "command": ["/bin/sh", "-c", PROGRAM],
                    "env_vars": {"VERSION": version},
                    **config,
                },
                "timeout_seconds": 60,
            },
            timeout=90,
        )
        assert report["status"] == "running", report

    def containers(self, service: str = "") -> list[dict[str, Any]]:
        query = {"all": "1", "filters": json.dumps({"label": [f"syntra.service_id={service or self.service}"]})}
        found: list[dict[str, Any]] = api("GET", "/containers/json", query=query)
        return sorted(found, key=lambda item: str(item["Labels"]["syntra.replica"]))

    def up(self) -> list[str]:
        return [str(item["Id"]) for item in self.containers() if item["State"] == "running"]

    def until_up(self, count: int = 1, timeout: float = 20.0) -> list[str]:
        wait_until(
            lambda: len(self.up()) == count, f"{count} replicas up; the log: {self.agent.text()[-2000:]}", timeout
        )
        return self.up()

    def run_in(self, container: str, *argv: str) -> None:
        made = api("POST", f"/containers/{container}/exec", {"Cmd": [*argv]})
        api("POST", f"/exec/{made['Id']}/start", {"Detach": True})

    def started_at(self, container: str) -> str:
        return str(api("GET", f"/containers/{container}/json")["State"]["StartedAt"])

    def status(self) -> dict[str, Any]:
        data: dict[str, Any] = self.agent.ask("status", {})["data"]
        return data

    def alerts(self, kind: str) -> list[dict[str, Any]]:
        return [alert for alert in self.status()["alerts"] if alert["type"] == kind]

    def health(self) -> list[str]:
        [service] = [s for s in self.status()["services"] if s["service_id"] == self.service]
        return [container["health"] for container in service["containers"]]

    def told(self, kind: str) -> list[str]:
        """The log's lines about alerts of a kind."""
        lines = [json.loads(line) for line in self.agent.text().splitlines() if line.startswith("{")]
        return [line["message"] for line in lines if line.get("kind") == kind and "alert" in line.get("message", "")]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    require_engine()
    token = new_token()
    busybox_image(f"{token}:v1")
    try:
        with AgentProcess(tmp_path / "agent") as agent:
            yield Stage(token=token, agent=agent)
    finally:
        cleanup(token)


def test_what_another_hand_removes_or_stops_comes_back(stage: Stage) -> None:
    stage.deploy(replicas=2)
    first, second = stage.until_up(2)
    api("DELETE", f"/containers/{first}", query={"force": "1"})
    wait_until(lambda: first not in stage.up() and len(stage.up()) == 2, "the removed replica is made again", 20)
    assert sorted(item["Labels"]["syntra.replica"] for item in stage.containers()) == ["1", "2"]
    api("POST", f"/containers/{second}/stop", query={"t": "5"})
    wait_until(lambda: second in stage.up(), "the stopped replica is started again", 20)
    assert len(stage.containers()) == 2


def test_what_is_stopped_by_command_stays_down_also_for_an_agent_that_starts_again(stage: Stage) -> None:
    stage.deploy()
    beside = f"beside-{stage.token}"
    stage.deploy(service=beside)
    [other] = stage.containers(beside)
    assert stage.agent.ask("stop", {"service_id": stage.service, "timeout_seconds": 2})["success"]
    stage.agent.kill()
    api("POST", f"/containers/{other['Id']}/stop", query={"t": "5"})
    stage.agent.start()
    # Both are down; the keeper has looked at them together once the one that was not asked for is up again.
    wait_until(lambda: stage.containers(beside)[0]["State"] == "running", "the other service is kept", 20)
    assert [item["State"] for item in stage.containers()] == ["exited"]


def test_an_agent_that_was_away_brings_back_what_went_meanwhile(stage: Stage) -> None:
    stage.deploy()
    [container] = stage.up()
    stage.agent.kill()
    api("DELETE", f"/containers/{container}", query={"force": "1"})
    stage.agent.start()
    stage.until_up()
    # Between the two calls for the next one: created and not started.
    [container] = stage.up()
    stage.agent.kill()
    api("POST", f"/containers/{container}/stop", query={"t": "0"})
    stage.agent.start()
    assert stage.until_up() == [container]


def test_an_unhealthy_replica_is_restarted_where_the_spec_asks_for_it(stage: Stage) -> None:
    stage.deploy(replicas=2, health_check={**CHECK, "restart_unhealthy": True})
    sick, well = stage.until_up(2)
    before, other = stage.started_at(sick), stage.started_at(well)

    stage.run_in(sick, "touch", "/tmp/sick")
    wait_until(lambda: stage.alerts("health_check_failed"), "the alert", 20)
    wait_until(lambda: stage.started_at(sick) != before, "the restart", 20)
    assert stage.started_at(well) == other
    stage.run_in(sick, "rm", "/tmp/sick")
    wait_until(lambda: stage.health() == ["healthy", "healthy"], "both are healthy again", 30)
    [alert] = stage.alerts("health_check_failed")
    assert (alert["subject"], alert["service_id"]) == ("web replica 1", stage.service)


def test_a_crash_is_told_once_with_its_code_and_last_lines_however_often_it_comes(stage: Stage) -> None:
    stage.deploy()
    [container] = stage.up()
    for times in (1, 2):
        stage.run_in(container, "touch", "/tmp/die")

        def crashed(times: int = times) -> bool:
            return [alert["times"] for alert in stage.alerts("container_crash")] == [times]

        wait_until(crashed, f"crash {times}: {stage.agent.text()[-1500:]}", 20)
        stage.until_up()
    assert stage.told("container_crash") == ["alert"]
    assert "exited with code 7" in stage.agent.text()
    [shown] = stage.agent.ask("list_services", {})["data"]["services"]
    assert (shown["status"], shown["status_detail"], shown["restarts"]) == ("restarting", "exit 7, 2 times", 2), shown
    assert shown["replicas"] == {"desired": 1, "running": 0}, "what runs between two crashes does not count"
    assert stage.alerts("container_crash")[0]["exit_code"] == 7
    # An agent that starts again knows of it and does not tell it again.
    stage.agent.kill()
    stage.agent.start()
    stage.until_up()
    assert [a["is_ending"] for a in stage.alerts("container_crash")] == [False], "it ran for seconds only"
    assert stage.told("container_crash") == ["alert"]
    # What is asked for is no crash.
    assert stage.agent.ask("restart", {"service_id": stage.service, "timeout_seconds": 2})["success"]
    stage.deploy("v2")
    assert [alert["times"] for alert in stage.alerts("container_crash")] == [2]
    assert stage.agent.ask("stop", {"service_id": stage.service, "remove_container": True})["success"]
    wait_until(lambda: stage.alerts("container_crash") == [], "the alert is over with its service", 20)
    assert stage.told("container_crash") == ["alert", "alert is over"]


def test_a_replica_that_runs_out_of_memory_is_told_of_as_that(stage: Stage) -> None:
    stage.deploy(memory_limit="16m")
    [container] = stage.up()
    stage.run_in(container, "touch", "/tmp/eat")
    wait_until(lambda: stage.alerts("container_crash"), "the crash is told", 30)
    assert "ran out of memory" in stage.agent.text()


def test_a_check_is_changed_live_and_takes_effect_at_once(stage: Stage) -> None:
    stage.deploy(health_check=CHECK)
    [container] = stage.up()
    wait_until(lambda: stage.health() == ["healthy"], "healthy by its own check", 20)
    # Nothing listens on the service's port.
    change = {"service_id": stage.service, "path": "/health", "interval": 0.5, "timeout": 0.5, "retries": 2}
    response = stage.agent.ask("configure_health_check", change)
    assert response["success"], response
    assert response["data"]["health_check"]["type"] == "http"
    wait_until(lambda: stage.health() == ["unhealthy"], "unhealthy by the changed one", 20)
    stage.agent.kill()
    stage.agent.start()
    wait_until(lambda: stage.health() == ["unhealthy"], "the change outlives the agent", 20)
    report = stage.agent.carry_out("scale", {"service_id": stage.service, "replicas": 1})
    assert (report["status"], stage.up()) == ("rolled_back", [container]), "it is proven by the changed check"
    stage.run_in(container, "httpd", "-p", "8080", "-h", "/")
    change = {"service_id": stage.service, "path": "/etc/passwd"}
    assert stage.agent.ask("configure_health_check", change)["success"]
    wait_until(lambda: stage.health() == ["healthy"], "healthy again", 20)
    report = stage.agent.carry_out("scale", {"service_id": stage.service, "replicas": 1})
    assert (report["status"], stage.up()) == ("running", [container]), "no container is replaced for it"
