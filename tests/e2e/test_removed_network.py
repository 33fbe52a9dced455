"""A project's network that was removed while its replicas were down is made again with them: a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.named_services import Stage
from tests.engine import api, busybox_image, cleanup, new_token, require_engine, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]


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


def running(stage: Stage, *, count: int) -> bool:
    [service] = [s for s in stage.agent.ask("list_services", {})["data"]["services"] if s["service_name"] == "web"]
    return bool(service["replicas"]["running"] == count and service["status"] == "running")


def remove_network(stage: Stage) -> None:
    api("DELETE", f"/networks/syntra-{stage.token}")


def stopped_and_pruned(stage: Stage, service: dict[str, Any]) -> None:
    """The service is stopped by command, so that nothing but the next command can start it, and its network is gone."""
    assert stage.agent.ask("stop", {"service_id": service["service_id"], "timeout_seconds": 1})["success"]
    remove_network(stage)


def test_replicas_that_went_down_come_back_with_their_network(stage: Stage) -> None:
    stage.deploy("web", replicas=2)
    stage.agent.kill()
    for container in stage.containers("web"):
        api("POST", f"/containers/{container['Id']}/stop", query={"t": "0"})
    remove_network(stage)
    stage.agent.start()
    wait_until(lambda: running(stage, count=2), f"both run again: {stage.agent.text()[-2000:]}", 40)
    assert f"web.{stage.token}.internal" in stage.inside("web", f"nslookup web.{stage.token}.internal")
    assert stage.inside("web", "wget -q -O- http://web:8080/").strip() == "v1"


@pytest.mark.parametrize(("kind", "payload", "count"), [("restart", {}, 2), ("scale", {"replicas": 3}, 3)])
def test_a_command_makes_the_network_again(stage: Stage, kind: str, payload: dict[str, Any], count: int) -> None:
    service = stage.deploy("web", replicas=2)
    stopped_and_pruned(stage, service)
    answer = stage.agent.carry_out(kind, {"service_id": service["service_id"], **payload}, timeout=150)
    assert answer.get("status") == "running" or answer.get("success"), answer
    assert running(stage, count=count)
    wait_until(lambda: len(stage.resolver("web").look_up(f"web.{stage.token}.internal")[0]) == count, "names", 20)
    assert stage.inside("web", "wget -q -O- http://web:8080/").strip() == "v1"
    assert api("GET", f"/networks/syntra-{stage.token}")["IPAM"]["Config"][0]["Gateway"] == stage.gateway()


def test_a_rollback_makes_the_network_again(stage: Stage) -> None:
    stage.deploy("web", "v1")
    service = stage.deploy("web", "v2")
    stopped_and_pruned(stage, service)
    stage.carry_out("rollback", {"service_id": service["service_id"]})
    assert running(stage, count=1)
    assert stage.inside("web", "wget -q -O- http://web:8080/").strip() == "v1"


def test_a_restart_creates_what_was_removed(stage: Stage) -> None:
    service = stage.deploy("web", replicas=2)
    assert stage.agent.ask("stop", {"service_id": service["service_id"], "timeout_seconds": 1})["success"]
    for container in stage.agent.ask("list_services", {})["data"]["services"][0]["containers"]:
        api("DELETE", f"/containers/{container['container_id']}", query={"force": "1"})
    remove_network(stage)
    answer = stage.agent.ask("restart", {"service_id": service["service_id"]})
    assert answer["success"], answer
    assert running(stage, count=2)
