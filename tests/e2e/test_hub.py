"""The deployed hub, as it speaks, against a whole agent on a real engine: its rows must come out true."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.contract.scripted_plane import ScriptedPlane
from tests.e2e.agent_process import AgentProcess
from tests.e2e.canaries import Canaries
from tests.e2e.hub import Hub
from tests.engine import (
    api,
    busybox_image,
    cleanup,
    containers_of,
    new_token,
    require_engine,
    start_container,
    wait_until,
)
from tests.networking.own_certificates import peer_certificate, self_signed
from tests.networking.real_traefik import RealTraefik

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]


@dataclass
class Stage:
    token: str
    plane: ScriptedPlane
    hub: Hub
    agent: AgentProcess

    @property
    def service(self) -> str:
        return f"svc-{self.token}"

    @property
    def image(self) -> str:
        return f"{self.token}:v1"

    def deploy(self, **fields: Any) -> str:
        beside = {"project_name": self.token, **fields.pop("beside", {})}
        return self.hub.deploy(self.service, self.image, beside=beside, **fields)

    def running(self, **fields: Any) -> str:
        deployment = self.deploy(**fields)
        self.hub.until(deployment, "running")
        return deployment

    def containers(self) -> list[dict[str, Any]]:
        # Without what a failed deployment has left.
        found = [item for item in containers_of(self.token) if not item["Names"][0].endswith("-failed")]
        return [item for item in found if item["Labels"].get("syntra.service_id") == self.service]

    def container(self) -> dict[str, Any]:
        [item] = self.containers()
        found: dict[str, Any] = api("GET", f"/containers/{item['Id']}/json")
        return found


def made(folder: Path, token: str, plane: ScriptedPlane, networking: str = "") -> AgentProcess:
    config = f'[control_plane]\nendpoint = "{plane.endpoint}"\ntoken = "syn_agt_hub"\n'
    config += networking and f"[networking]\n{networking}"
    return AgentProcess(folder, config=config)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    require_engine()
    token = new_token()
    try:
        busybox_image(f"{token}:v1", "v1")
        with ScriptedPlane() as plane, made(tmp_path / "agent", token, plane) as agent:
            hub = Hub(plane)
            hub.accept()
            yield Stage(token=token, plane=plane, hub=hub, agent=agent)
            assert plane.problems == []
    finally:
        cleanup(token)


def test_one_good_deploy_is_announced_once_and_a_bad_one_never(stage: Stage) -> None:
    good = stage.running()
    assert stage.hub.announcements(good) == 1
    assert stage.hub.statuses(good)[-1].payload["container_id"] == stage.container()["Id"]
    bad = stage.deploy(env_vars={"FAIL": "exit"})
    stage.hub.until(bad, "failed")
    assert stage.hub.announcements(bad) == 0
    assert stage.hub.reason(bad).startswith(f"syn-{stage.service}-"), stage.hub.reason(bad)
    # It was rolled back: what ran before runs.
    assert stage.container()["Config"]["Labels"]["syntra.deployment_id"] == good
    assert stage.hub.row(good) == "running" and stage.hub.announcements(good) == 1


def test_two_services_of_one_name_are_both_deployed_and_reached_by_names_of_their_own(stage: Stage) -> None:
    first = stage.running(name="api")
    other = str(uuid.uuid4())
    second = stage.hub.deploy(other, stage.image, beside={"project_name": stage.token}, name="api")
    stage.hub.until(second, "running")
    later = f"api-{other[:8]}"
    assert f"reach it as {later}" in stage.hub.statuses(second)[-1].payload["message"]
    again = stage.running(name="api")
    assert "reach it as" not in stage.hub.statuses(again)[-1].payload["message"]
    found = {item["service_id"]: item for item in stage.agent.ask("list_services", {})["data"]["services"]}
    assert found[stage.service]["service_name"] == "api"
    assert found[other]["service_name"] == later
    assert stage.hub.announcements(first) == stage.hub.announcements(second) == 1
    # From inside the project each name leads to its own service.
    [container] = [item for item in containers_of(stage.token) if item["Labels"]["syntra.service_id"] == other]
    asked = {"service_id": stage.service, "command": ["nslookup", later]}
    address = container["NetworkSettings"]["Networks"][f"syntra-{stage.token}"]["IPAddress"]
    wait_until(lambda: address in stage.hub.ask("exec", asked)["data"]["stdout"], "the later name resolves", 30)


def test_every_refused_deploy_ends_its_row(stage: Stage) -> None:
    git = {"repo_url": "https://example.com/shop.git", "branch": "main"}
    unbuilt = stage.deploy(docker_image=None, source_type="git", beside={"git": git, "docker": None})
    stage.hub.until(unbuilt, "failed")
    assert "does not build from `git`" in stage.hub.reason(unbuilt)
    nonsense = stage.deploy(port=70_000)
    stage.hub.until(nonsense, "failed")
    assert stage.hub.reason(nonsense) == "service.port: 70000 is out of range (1–65535)"
    assert stage.containers() == []


def test_a_scale_is_answered_and_changes_no_row(stage: Stage) -> None:
    deployment = stage.running()
    answer = stage.hub.ask("scale", {"service_id": stage.service, "replicas": 2})
    assert answer["success"]
    wait_until(lambda: len(stage.containers()) == 2, "two replicas")
    stage.hub.link.settle()
    assert stage.hub.announcements(deployment) == 1


def test_containers_are_restarted_and_stopped_only_where_they_are_ours(stage: Stage) -> None:
    foreign = start_container(stage.token, stage.image, labels={"syntra.service_id": "not-ours"})
    stage.running()
    ours = stage.container()
    for kind, more in (("container_restart", {"container_name": "web"}), ("container_stop", {"timeout_seconds": 1})):
        refused = stage.hub.ask(kind, {"container_id": foreign, **more})
        assert refused["error"]["code"] == "CONTAINER_NOT_FOUND"
    refused = stage.hub.ask("stop_container", {"container_id": foreign, "deployment_id": "nobodys"})
    assert refused["error"]["code"] == "CONTAINER_NOT_FOUND"
    left = api("GET", f"/containers/{foreign}/json")["State"]
    assert left["Running"] and left["StartedAt"]
    restarted = stage.hub.ask("container_restart", {"container_id": ours["Id"], "container_name": "web"})
    assert restarted["success"], restarted
    [after] = stage.containers()
    again = api("GET", f"/containers/{after['Id']}/json")
    assert again["State"]["Running"] and again["State"]["StartedAt"] > ours["State"]["StartedAt"]
    stopped = stage.hub.ask("container_stop", {"container_id": again["Id"], "timeout_seconds": 1})
    assert stopped["success"], stopped
    assert [item["State"] for item in stage.containers()] == ["exited"]
    removed = stage.hub.ask("container_stop", {"container_id": again["Id"], "remove": True})
    assert removed["success"], removed
    assert stage.containers() == []
    assert api("GET", f"/containers/{foreign}/json")["State"] == left


def test_stop_container_means_the_service_or_what_was_replaced(stage: Stage) -> None:
    first = stage.running()
    old = stage.container()["Id"]
    second = stage.running(env_vars={"VERSION": "v2"})
    # The hub cleans up after each deploy: the old container is gone already, and the new one is left alone.
    cleaned = stage.hub.ask("stop_container", {"container_id": old, "deployment_id": first})
    assert cleaned["success"], cleaned
    assert stage.container()["State"]["Running"]
    stale = stage.hub.ask("stop", {"request_id": str(uuid.uuid4()), "deployment_id": first})
    assert stale["success"] and stage.container()["State"]["Running"]
    stopped = stage.hub.ask("stop", {"request_id": str(uuid.uuid4()), "deployment_id": second})
    assert stopped["success"], stopped
    assert [item["State"] for item in stage.containers()] == ["exited"]
    unknown = stage.hub.ask("stop", {"request_id": str(uuid.uuid4()), "deployment_id": "d-unknown"})
    assert unknown["error"]["code"] == "DEPLOYMENT_NOT_FOUND"


def test_a_cancelled_deploy_ends_as_failed_and_what_ran_before_runs(stage: Stage) -> None:
    first = stage.running()
    slow = stage.deploy(
        env_vars={"FAIL": "slow", "SLOW": "40"},
        health_check={"path": "/health", "interval_seconds": 1, "start_period_seconds": 60},
    )
    wait_until(lambda: stage.hub.row(slow) == "starting", "the slow deploy starts")
    stage.hub.send("cancel_deploy", {"deployment_id": slow})
    stage.hub.until(slow, "failed")
    assert "was cancelled" in stage.hub.reason(slow) and stage.hub.announcements(slow) == 0
    assert stage.container()["Config"]["Labels"]["syntra.deployment_id"] == first
    # Too late: the hub believes it cancelled, and is told that it runs.
    late = stage.hub.ask("cancel_deploy", {"deployment_id": first})
    assert late["error"]["code"] == "ALREADY_DEPLOYED"
    wait_until(lambda: stage.hub.announcements(first) == 2, "the row is said to be running")
    never = str(uuid.uuid4())
    stage.hub.send("cancel_deploy", {"deployment_id": never})
    stage.hub.until(never, "failed")


def test_traffic_goes_to_a_kept_deployment_and_nowhere_else(stage: Stage) -> None:
    first = stage.running()
    second = stage.running(env_vars={"VERSION": "v2"})
    given = {"service_id": stage.service, "strategy": "blue_green"}
    refused = stage.hub.ask("traffic_switch", {**given, "active_deployment_id": "d-unknown"})
    assert refused["error"]["code"] == "DEPLOYMENT_NOT_FOUND"
    already = stage.hub.ask("traffic_switch", {**given, "active_deployment_id": second})
    assert already["success"], already
    back = stage.hub.ask("traffic_switch", {**given, "active_deployment_id": first})
    assert back["success"], back

    def is_back() -> bool:
        labels = [item["Labels"]["syntra.deployment_id"] for item in stage.containers()]
        return labels == [first]

    wait_until(is_back, "the first deployment runs again")
    split = {"service_id": stage.service, "canary_deployment_id": second, "weight": 10}
    assert stage.hub.ask("traffic_split", split)["error"]["code"] == "NO_CANARY"
    none = {"service_id": stage.service, "canary_deployment_id": None, "weight": 0}
    assert stage.hub.ask("traffic_split", none)["success"]


def test_milliseconds_durations_and_stubs_are_understood(stage: Stage) -> None:
    stage.running()
    ran = stage.hub.ask("exec", {"service_id": stage.service, "command": ["echo", "hello"], "timeout": 60_000})
    assert ran["data"]["stdout"] == "hello\n", ran
    since = stage.hub.ask("logs", {"service_id": stage.service, "lines": 2, "since": "1h"})
    assert since["success"], since
    stage.agent.stop()
    stage.agent.start()
    stub = {"deployment_id": str(uuid.uuid4()), "service_id": stage.service, "queued_at": "2026-11-27T00:49:00Z"}
    stage.hub.accept(stub)
    stage.hub.link.settle()
    assert stage.hub.statuses(stub["deployment_id"]) == []
    assert "pending deployment names no image; skipped" in stage.agent.text()


def test_the_dialect_is_remembered_so_that_the_first_messages_are_right(stage: Stage) -> None:
    """What waits in the outbox over a restart of the agent is told in the hub's words, before the hub says anything."""
    stage.running()
    assert stage.agent.ask("status", {})["data"]["control_plane"]["dialect"] == "hub"
    slow = stage.deploy(
        env_vars={"FAIL": "slow", "SLOW": "5"},
        health_check={"path": "/health", "interval_seconds": 1, "start_period_seconds": 60},
    )
    wait_until(lambda: stage.hub.row(slow) == "starting", "the slow deploy starts")
    stage.agent.kill()
    stage.agent.start()
    stage.hub.accept()
    stage.hub.until(slow, "running")
    assert stage.hub.announcements(slow) == 1


def test_a_certificate_that_is_sent_is_served_and_its_key_shows_nowhere(tmp_path: Path) -> None:
    require_engine()
    token = new_token()
    host, service = f"{token}.example.com", f"svc-{token}"
    certificate, key = self_signed(host)
    try:
        busybox_image(f"{token}:v1", "v1")
        with RealTraefik(tmp_path / "proxy") as proxy, ScriptedPlane() as plane:
            networking = (
                f'traefik_dynamic_dir = "{proxy.directory}"\ntraefik_api = "{proxy.api_url}"\n'
                'entrypoints = ["websecure"]\nhttps_redirect_entrypoint = ""\n'
            )
            with made(tmp_path / "agent", token, plane, networking) as agent:
                hub = Hub(plane)
                hub.accept()
                beside = {"project_name": token, "domains": [host]}
                hub.until(hub.deploy(service, f"{token}:v1", beside=beside), "running")
                sent = {"domain": host, "certificate": certificate, "private_key": key, "service_id": service}
                foreign = hub.ask("deploy_certificate", {**sent, "domain": "elsewhere.example.com"})
                assert foreign["error"]["code"] == "ROUTE_NOT_FOUND"
                _, other_key = self_signed(host)
                mismatched = hub.ask("deploy_certificate", {**sent, "private_key": other_key})
                assert mismatched["error"]["code"] == "INVALID_CERTIFICATE"
                assert served_certificate(proxy, host) != certificate
                installed = hub.ask("deploy_certificate", {**sent, "request_id": str(uuid.uuid4())})
                assert installed["success"] and installed["data"]["applied"], installed
                assert served_certificate(proxy, host) == certificate
                assert proxy.ask(proxy.websecure, "/", host=host, tls=True).body.strip() == "v1"
                # The agent's next run serves it again, and a renewed one takes its place.
                agent.stop()
                agent.start()
                hub.accept()
                assert served_certificate(proxy, host) == certificate
                renewed, renewed_key = self_signed(host)
                again = hub.ask("deploy_certificate", {**sent, "certificate": renewed, "private_key": renewed_key})
                assert again["success"], again
                assert served_certificate(proxy, host) == renewed
            kept = list((tmp_path / "agent/data/traefik/certificates").iterdir())
            assert len(kept) == 2 and {path.stat().st_mode & 0o777 for path in kept} == {0o600}
            canaries = Canaries({f"line {n}": line for n, line in enumerate(secret_lines(key, renewed_key, other_key))})
            for path in kept:
                path.unlink()
            assert canaries.found_below(tmp_path) == []
            assert canaries.found_in(json.dumps([dict(f.message) for f in hub.link.frames]).encode(), "frames") == []
    finally:
        cleanup(token)


def secret_lines(*keys: str) -> list[str]:
    # The first line of a key's body is the same for every key of the kind.
    return [line for key in keys for line in key.splitlines()[2:-1] if len(line) > 20]


def served_certificate(proxy: RealTraefik, host: str) -> str:
    return peer_certificate(proxy.websecure, host)
