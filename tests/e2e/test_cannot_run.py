"""What should run and cannot is said, with the reason, until it runs: a real agent and a real engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.named_services import Stage
from tests.engine import PORT, api, busybox_image, cleanup, new_token, require_engine, wait_until
from tests.networking.real_traefik import free_ports

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


def alerts(stage: Stage, kind: str) -> list[str]:
    found = stage.agent.ask("status", {})["data"]["alerts"]
    return [alert["subject"] for alert in found if alert["type"] == kind]


def test_a_replica_that_cannot_start_is_a_warning_and_an_alert_until_it_runs(stage: Stage) -> None:
    [port] = free_ports(1)
    networking = {"internal_hostname": "web.lan", "expose_port": port}
    service = stage.deploy("web", networking=networking)
    [container] = stage.containers("web")
    stage.agent.kill()
    api("POST", f"/containers/{container['Id']}/stop", query={"t": "0"})
    squatter = api(
        "POST",
        "/containers/create",
        {
            "Image": f"{stage.token}:v1",
            "ExposedPorts": {f"{PORT}/tcp": {}},
            "HostConfig": {"PortBindings": {f"{PORT}/tcp": [{"HostPort": str(port)}]}},
        },
        query={"name": f"{stage.token}-squatter"},
    )["Id"]
    api("POST", f"/containers/{squatter}/start")
    stage.agent.start()

    about = f"service web ({stage.token}/{service['service_id']}): cannot restore replica 1: "
    wait_until(lambda: any(w.startswith(about) for w in stage.warnings()), f"warning: {stage.agent.text()[-900:]}", 30)
    [warning] = [w for w in stage.warnings() if w.startswith(about)]
    assert "; next try at " in warning
    assert f"host port {port} is taken by container {stage.token}-squatter" in warning, warning
    # A replica that was stopped outside the agent is an alert of its own kind; this one is about the service.
    wait_until(lambda: "web" in alerts(stage, "container_crash"), "the alert", 30)
    told = [json.loads(line) for line in stage.agent.text().splitlines() if '"web cannot be restored"' in line]
    assert "next try at" in told[0]["reason"], told

    api("DELETE", f"/containers/{squatter}", query={"force": "1"})
    wait_until(lambda: len(stage.containers("web")) == 1, "it runs again", 60)
    wait_until(lambda: "web" not in alerts(stage, "container_crash"), "the alert is over", 30)
    assert [w for w in stage.warnings() if w.startswith(about)] == []


def test_domains_without_a_proxy_are_a_note_of_plan_and_deploy(stage: Stage) -> None:
    wanted = stage.payload("web", networking={"domains": ["shop.example.com"]})
    note = "nothing routes shop.example.com yet: networking.proxy is "
    [planned] = stage.agent.ask("plan", wanted)["data"]["notes"]
    assert planned.startswith(note) and planned.endswith("syntra-agent proxy up"), planned
    report = stage.agent.carry_out("deploy", wanted)
    assert report["status"] == "running", report
    assert planned in report["message"]
    assert "nothing routes" not in stage.agent.carry_out("deploy", stage.payload("plain"))["message"]


def test_a_proxy_that_does_not_answer_is_a_note_too(tmp_path: Path) -> None:
    require_engine()
    token = new_token()
    busybox_image(f"{token}:v1")
    [port] = free_ports(1)
    config = f'[networking]\ntraefik_api = "http://127.0.0.1:{port}"\n'
    try:
        with AgentProcess(tmp_path / "agent", config=config) as agent:
            stage = Stage(token=token, agent=agent)
            wanted = stage.payload("web", networking={"domains": ["shop.example.com"]})
            [note] = stage.agent.ask("plan", wanted)["data"]["notes"]
            assert note.startswith("nothing routes shop.example.com yet: cannot ask the proxy"), note
            assert note.endswith("; run syntra-agent proxy up"), note
    finally:
        cleanup(token)
