"""What is routed stays true when the proxy, the engine, a container, the agent or the disk fails."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from syntra.networking.file_writer import FILE_NAME
from tests.e2e.private_engine import PrivateEngine
from tests.e2e.traffic_stage import Stage, staged, under_load
from tests.engine import api, missing, require_engine, start_container, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

FOLLOWED_SECS = 10.0
"""Routes follow within two seconds; a machine that is busy with other tests gets more. The figure is printed."""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    require_engine()
    with staged(tmp_path) as stage:
        yield stage


def follows(stage: Stage, happened: float, what: str) -> None:
    """Wait until the proxy routes to exactly what runs; tell how long after the event (wall clock) that was."""
    wait_until(lambda: stage.routed() == stage.addresses() != set(), f"the routes follow {what}", FOLLOWED_SECS)
    print(f"{what}: followed after {1000 * (time.time() - happened):.0f} ms")


def warnings(stage: Stage) -> str:
    return "\n".join(stage.agent.ask("status", {})["data"]["warnings"])


def started_at(stage: Stage) -> float:
    """When the youngest of the running containers was started, by the engine's own account (wall clock)."""
    texts = [
        stage.ask_engine("GET", f"/containers/{item['Id']}/json")["State"]["StartedAt"] for item in stage.replicas()
    ]
    return max(datetime.datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp() for text in texts)


# The proxy


def test_requests_fail_only_while_the_proxy_is_down(stage: Stage) -> None:
    stage.deployed("v1")
    with under_load(stage) as underway:
        wait_until(lambda: stage.served() == (200, "v1"), "the service answers")
        down = time.monotonic()
        stage.proxy.stop()
        wait_until(lambda: time.monotonic() > down + 1, "requests are refused for a second")
        stage.proxy.start()
        # Its API answers before it has read the file.
        wait_until(lambda: stage.routed() == stage.addresses(), "the routes are there again", 5)
        up = time.monotonic()
        stage.deployed("v2")
    report = underway.load.report
    first, last = report.failed_at
    print(f"down for {up - down:.2f} s, failures for {last - first:.2f} s")
    assert report.failed and first >= down and last <= up + 1, str(report)


def test_the_agent_notices_that_the_proxy_is_down_and_that_another_hand_had_its_file(stage: Stage) -> None:
    stage.deployed("v1")
    stage.proxy.stop()
    wait_until(lambda: "proxy" in warnings(stage), "the agent notices that the proxy is down", 60)
    (stage.proxy.directory / FILE_NAME).unlink()
    stage.proxy.start()
    wait_until(lambda: stage.routed() == stage.addresses(), "the routes are there again", 60)
    wait_until(lambda: "proxy" not in warnings(stage), "the agent notices that the proxy is back", 60)
    assert stage.served() == (200, "v1")


# The engine


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_no_request_fails_while_an_engine_with_live_restore_is_restarted(tmp_path: Path, how: str) -> None:
    with PrivateEngine(live_restore=True) as engine, staged(tmp_path, engine=engine) as stage:
        stage.deployed("v1")
        routes = stage.routed()
        with under_load(stage) as underway:
            engine.stop() if how == "stopped" else engine.kill()
            wait_until(lambda: not stage.agent.ask("status", {})["data"]["runtime"]["reachable"], "the agent sees it")
            engine.start()
            assert stage.routed() == stage.addresses() == routes
            wait_until(lambda: stage.agent.ask("status", {})["data"]["runtime"]["reachable"], "the engine is back")
            stage.deployed("v2")
        underway.check("v1", "v2")
        crash(stage)


def test_routes_follow_an_engine_that_stops_its_containers_and_starts_them_again(tmp_path: Path) -> None:
    with PrivateEngine() as engine, staged(tmp_path, engine=engine) as stage:
        stage.deployed("v1")
        engine.stop()
        wait_until(lambda: not stage.agent.ask("status", {})["data"]["runtime"]["reachable"], "the agent sees it")
        assert stage.served()[0] in {502, 503, 504}
        engine.start()
        wait_until(lambda: len(stage.replicas()) == 2, "the engine starts the containers again")
        follows(stage, started_at(stage), "the engine's restart")
        wait_until(lambda: stage.served() == (200, "v1"), "the service answers again")
        stage.deployed("v2")
        assert stage.served() == (200, "v2")


# A container


def crash(stage: Stage) -> None:
    """Kill the process of one of the containers, which stays down; the routes follow."""
    victim = stage.replicas()[0]["Id"]
    pid = stage.ask_engine("GET", f"/containers/{victim}/json")["State"]["Pid"]
    # What the engine starts again within a tenth of a second never leaves the routes.
    subprocess.run(
        [
            "docker",
            *(["-H", f"unix://{stage.engine.socket}"] if stage.engine else []),
            "update",
            "--restart=no",
            victim,
        ],
        check=True,
        capture_output=True,
    )
    there = stage.routed()
    os.kill(pid, signal.SIGKILL)
    killed = time.time()
    wait_until(lambda: len(stage.routed()) < len(there), "the routes leave the crashed container", FOLLOWED_SECS)
    print(f"crash: followed after {1000 * (time.time() - killed):.0f} ms")


@pytest.mark.parametrize("how", ["crashes", "is stopped", "is removed"])
def test_routes_leave_a_container_that(stage: Stage, how: str) -> None:
    stage.deployed("v1", replicas=3)
    if how == "crashes":
        crash(stage)
        return
    before, victim, happened = stage.routed(), stage.replicas()[0]["Id"], time.time()
    if how == "is stopped":
        api("POST", f"/containers/{victim}/stop", query={"t": "1"})
    else:
        api("DELETE", f"/containers/{victim}", query={"force": "1"})
    wait_until(lambda: len(stage.routed()) < len(before), "the routes leave it", FOLLOWED_SECS)
    print(f"{how}: followed after {1000 * (time.time() - happened):.0f} ms")
    assert stage.served() == (200, "v1")


def test_routes_follow_a_container_that_gets_another_address(stage: Stage) -> None:
    stage.deployed("v1")
    victim = stage.replicas()[0]
    network, before = next(iter(victim["NetworkSettings"]["Networks"].items()))
    api("POST", f"/networks/{network}/disconnect", {"Container": victim["Id"]})
    wait_until(lambda: before["IPAddress"] not in stage.routed(), "the routes leave what has no address", FOLLOWED_SECS)
    # Somebody else takes the address that it had.
    start_container(stage.token, f"{stage.token}:v1", host={"NetworkMode": network})
    api("POST", f"/networks/{network}/connect", {"Container": victim["Id"]})
    happened = time.time()
    assert before["IPAddress"] not in stage.addresses()
    follows(stage, happened, "a new address")
    assert [stage.served() for _ in range(10)] == [(200, "v1")] * 10


# The agent


def test_what_changed_while_the_agent_was_away_is_followed_when_it_is_back(stage: Stage) -> None:
    stage.deployed("v1", replicas=3)
    stage.agent.kill()
    assert stage.served() == (200, "v1"), "the routes outlive the agent"
    gone, moved, _ = stage.replicas()
    (network,) = moved["NetworkSettings"]["Networks"]
    api("DELETE", f"/containers/{gone['Id']}", query={"force": "1"})
    api("POST", f"/networks/{network}/disconnect", {"Container": moved["Id"]})
    start_container(stage.token, f"{stage.token}:v1", host={"NetworkMode": network})
    api("POST", f"/networks/{network}/connect", {"Container": moved["Id"]})
    begun = time.time()
    stage.agent.start()
    follows(stage, begun, "the agent's start")


# The disk


@contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    """A file system of a few pages."""
    if os.geteuid() != 0:
        missing("no right to mount a small file system; run as root")
    at.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "syntra-test", at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", at], check=True)


def fill(disk: Path) -> Path:
    """Take all the space that is left; the file to remove."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"x" * 512)
    return filler


def test_a_full_disk_fails_the_deploy_and_leaves_what_was(tmp_path: Path) -> None:
    require_engine()
    with small_disk(tmp_path / "proxy" / "dynamic") as disk, staged(tmp_path) as stage:
        stage.deployed("v1")
        before, serving = (disk / FILE_NAME).read_bytes(), {item["Id"] for item in stage.replicas()}
        with under_load(stage) as underway:
            filler = fill(disk)
            report = stage.carry_out("deploy", stage.payload("v2"))
            assert (report["status"], report["error"]["code"]) == ("rolled_back", "ROUTE_FAILED"), report
            assert "No space left on device" in report["error"]["message"]
            assert (disk / FILE_NAME).read_bytes() == before
            assert {item["Id"] for item in stage.replicas()} == serving
            filler.unlink()
            stage.deployed("v3")
        underway.check("v1", "v3")
        assert stage.served() == (200, "v3")


# Labels instead of a file


def test_labels_lead_a_real_docker_provider_to_the_service_and_do_not_drain(tmp_path: Path) -> None:
    """The labels work; that requests are lost in a switch is why they are not the default."""
    require_engine()
    with staged(tmp_path, labels=True) as stage:
        domains = [stage.host, f"www.{stage.host}"]
        stage.deployed("v1", networking={"domains": domains})
        wait_until(lambda: stage.served() == (200, "v1"), "the provider takes the labels up")
        assert stage.proxy.get(domains[1]).body.strip() == "v1"
        router, service = (f"traefik.http.{kind}.syn-{stage.service}" for kind in ("routers", "services"))
        labels = stage.replicas()[0]["Labels"]
        assert {name: value for name, value in labels.items() if name.startswith("traefik.")} == {
            "traefik.enable": "true",
            f"{router}.rule": f"Host(`{domains[0]}`) || Host(`{domains[1]}`)",
            f"{router}.entrypoints": "web",
            f"{router}.service": f"syn-{stage.service}",
            f"{service}.loadbalancer.server.port": "8080",
        }
        assert not (stage.proxy.directory / FILE_NAME).exists()
        with under_load(stage) as underway:
            stage.deployed("v2", networking={"domains": domains})
        wait_until(lambda: stage.served() == (200, "v2"), "the provider follows")
        print(f"by labels: {underway.load.report}")
        assert {"v1", "v2"} <= set(underway.load.report.answers)
        assert len(underway.load.report.ends) >= 20, "labels drain now: say so in the documentation"
