"""The disk of data_dir is full: answers and stops need none, people are told at once, and everything resumes."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.fleet import Fleet, fleet, ids
from tests.e2e.private_engine import PrivateEngine
from tests.engine import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

SIZE = "6m"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder for an agent whose `data` is a small file system."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    data = tmp_path / "agent" / "data"
    data.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(data)], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "-l", str(data)], check=True)


def fill(data: Path) -> Path:
    """Take all the space there is."""
    ballast = data / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


def alerts(product: Fleet) -> list[str]:
    found = product.plane.client.alerts(product.server_id)["alerts"]
    return [alert["title"] for alert in found if "disk" in alert["title"]]


def test_with_a_full_disk_everything_is_answered_and_stopped_and_all_resumes_with_space(small: Path) -> None:
    with fleet(small) as product:
        keeps, goes, removed = (product.service(name) for name in ("keeps", "goes", "removed"))
        for service in (keeps, goes, removed):
            product.running(product.payload(service))
        ballast = fill(product.agent.data_dir)

        refused = product.send("deploy", product.payload(keeps, "v2"))
        assert refused["success"] is False
        assert "check the disk's free space" in refused["error"]["message"]
        for _ in range(10):
            assert product.send("status", {})["success"]
        wait_until(lambda: alerts(product), "the alert", 20)
        [warning] = [w for w in product.status()["warnings"] if "is full" in w]
        assert str(product.agent.data_dir) in warning

        stopped = product.send("stop", {"service_id": goes, "timeout_seconds": 1})
        assert stopped["success"], stopped
        assert warning in stopped["data"]["notes"]
        assert product.send("stop", {"service_id": removed, "timeout_seconds": 1, "remove_container": True})["success"]
        assert not ids(removed)
        shown = {service["service_id"]: service["status"] for service in product.status()["services"]}
        assert (shown[keeps], shown[goes]) == ("running", "stopped")
        assert removed not in shown

        ballast.unlink()
        wait_until(lambda: not [w for w in product.status()["warnings"] if "is full" in w], "no warning", 20)
        product.running(product.payload(keeps, "v2"))
        product.agent.kill()
        product.agent.start()
        product.wait_connected()
        shown = {service["service_id"]: service["status"] for service in product.status()["services"]}
        assert (shown[keeps], shown[goes]) == ("running", "stopped")
        assert removed not in shown
        assert product.status()["journal"] == {"outbox": 0, "dropped": 0}


def test_a_deploy_under_way_waits_for_space_and_a_stop_gets_past_it(small: Path) -> None:
    with fleet(small) as product:
        waits, stopped = product.service("waits"), product.service("stopped")
        for service in (waits, stopped):
            product.running(product.payload(service))
        slow = {
            "env_vars": {"FAIL": "slow", "SLOW": "3"},
            "config": {"health_check": {"type": "http", "path": "/health"}},
        }
        first = product.begin(product.payload(waits, "v2", **slow))
        product.begin(product.payload(stopped, "v2", **slow))
        ballast = fill(product.agent.data_dir)
        answer = product.send("stop", {"service_id": stopped, "timeout_seconds": 1})
        assert answer["success"], answer
        ballast.unlink()
        assert product.outcome(first)["status"] == "running"


@pytest.fixture
def engine_on_a_small_disk() -> Iterator[PrivateEngine]:
    """An engine whose own files are on a file system of 64 MB."""
    engine = PrivateEngine()
    data = engine.folder / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(data)], check=True)
    try:
        with engine:
            engine.image("app:v1", "v1")
            yield engine
            subprocess.run(["umount", "-l", str(data)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(data)], check=False, capture_output=True)


def test_a_service_is_stopped_while_the_disk_of_the_engine_is_full(
    engine_on_a_small_disk: PrivateEngine, tmp_path: Path
) -> None:
    engine = engine_on_a_small_disk
    service = f"svc-{uuid.uuid4().hex[:8]}"
    payload = {
        "deployment_id": "d-1",
        "service_id": service,
        "project_name": "full",
        "image": "app:v1",
        "config": {"port": 8080, "replicas": 1},
        "timeout_seconds": 60,
    }
    with AgentProcess(tmp_path, engine_socket=str(engine.socket)) as agent:
        assert agent.carry_out("deploy", payload)["status"] == "running"
        ballast = fill(engine.folder / "data")
        stopped = agent.carry_out("stop", {"service_id": service, "timeout_seconds": 1})
        assert stopped["success"], stopped
        # The engine's list is of what it could write; its inspection is of what is.
        [container] = engine.containers(service)
        state = engine.api("GET", f"/containers/{container['Id']}/json")["State"]
        assert not state["Running"], state
        ballast.unlink()
        assert agent.ask("status", {})["data"]["services"][0]["status"] == "stopped"
