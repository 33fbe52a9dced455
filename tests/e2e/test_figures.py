"""Figures of host and containers, as the control plane, the hub and the command line have them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.scripted_plane import ScriptedPlane
from tests.e2e.agent_process import AgentProcess
from tests.e2e.fleet import Fleet, containers, fleet
from tests.e2e.hub import Hub
from tests.e2e.telemetry_stage import ARRIVES_SECS, free_ports, stored
from tests.engine import busybox_image, cleanup, new_token, require_engine, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

REPLICAS = 20
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    grpc, http = free_ports(2)
    config = f"[telemetry]\notlp_grpc_port = {grpc}\notlp_http_port = {http}\nbatch_interval_secs = 1\n"
    config += "[telemetry.figures]\ninterval_secs = 1\n"
    with fleet(tmp_path_factory.mktemp("figures"), config=config) as whole:
        yield whole


def points(product: Fleet, service: str, name: str) -> list[dict[str, Any]]:
    return [item for item in stored(product.plane, "metrics", 1, service=service) if item["name"] == name]


def test_the_host_has_its_figures_under_the_agents_name(product: Fleet) -> None:
    wait_until(lambda: points(product, "syntra-agent", "system.uptime"), "figures of the host", ARRIVES_SECS)
    uptime = points(product, "syntra-agent", "system.uptime")[0]["value"]
    assert abs(uptime - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60
    names = {item["name"] for item in stored(product.plane, "metrics", 40, service="syntra-agent")}
    assert names >= {
        *("system.cpu.time", "system.cpu.logical.count", "system.cpu.load_average.1m", "system.memory.usage"),
        *("system.memory.limit", "system.paging.faults", "system.disk.io", "system.network.io"),
        *("system.filesystem.usage", "system.filesystem.limit", "system.process.count", "system.process.created"),
    }
    limit = points(product, "syntra-agent", "system.memory.limit")[0]
    assert limit["value"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_twenty_containers_have_the_same_figures_at_every_door(product: Fleet) -> None:
    service = product.service()
    product.running(product.payload(service, config={"replicas": REPLICAS, "memory_limit": "64m"}))
    found = {item["Id"] for item in containers(service)}
    assert len(found) == REPLICAS

    def measured() -> dict[str, dict[str, Any]]:
        listed = product.agent.ask("metrics", {"service_id": service})["data"]["containers"]
        return {item["container_id"]: item for item in listed}

    assert measured().keys() == found
    for one in measured().values():
        assert one["memory_limit_mb"] == 64 and 0 < one["memory_used_mb"] < 64 and one["pids"] >= 1
    # A container that works hard is seen to.
    product.exec(service, "sh", "-c", "timeout 6 sh -c 'while :; do :; done' >/dev/null 2>&1 &", timeout=20)
    wait_until(lambda: max(one["cpu_percent"] for one in measured().values()) > 10, "a busy container", 20)

    working = "container.memory.working_set"
    wait_until(lambda: len(points(product, service, working)) >= 2 * REPLICAS, "a point of each", ARRIVES_SECS)
    names = {item["name"] for item in product.plane.client.all_telemetry("metrics", service=service)}
    assert names >= {
        *("container.uptime", "container.cpu.time", "container.cpu.usage", "container.memory.usage", working),
        *("container.memory.available", "container.memory.rss", "container.paging.faults", "container.network.io"),
        *("container.pids.count", "container.restarts", "container.memory.oom_kills"),
    }
    told = {item["value"] for item in points(product, service, working)}
    assert all(0 < value < 64 * MIB for value in told)
    # The heartbeat, `ps` and `metrics` read the same samples.
    heartbeat = product.plane.client.server(product.server_id)
    assert heartbeat["connected"]
    services = product.agent.ask("list_services", {})["data"]["services"]
    [listed] = [one for one in services if one["service_id"] == service]
    for one in listed["containers"]:
        assert one["memory_mb"] == pytest.approx(measured()[one["container_id"]]["memory_used_mb"], abs=2)


def test_the_hub_gets_them_in_its_own_shape(tmp_path: Path) -> None:
    require_engine()
    token = new_token()
    try:
        busybox_image(f"{token}:v1", "v1")
        with ScriptedPlane() as plane:
            link = f'[control_plane]\nendpoint = "{plane.endpoint}"\ntoken = "syn_agt_hub"\ndialect = "hub"\n'
            # Also without a telemetry process.
            config = f'{link}[telemetry]\nreceivers = "off"\n[telemetry.figures]\ninterval_secs = 1\n'
            with AgentProcess(tmp_path / "agent", config=config):
                hub = Hub(plane)
                hub.accept()
                service = f"svc-{token}"
                deployment = hub.deploy(service, f"{token}:v1", beside={"project_name": token})
                hub.until(deployment, "running")

                def batches() -> list[dict[str, Any]]:
                    found = [dict(frame.payload) for frame in hub.link.of("telemetry_batch")]
                    return [one for one in found if one.get("metrics", {}).get("containers")]

                wait_until(lambda: len(batches()) >= 2, "batches with figures", 30)
                last = batches()[-1]
                server, [container] = last["metrics"]["server"], last["metrics"]["containers"]
                assert (last["logs"], last["events"], last["compression"]) == ([], [], "none")
                assert server["cpu_cores"] == os.cpu_count() and server["container_count"] == 1
                assert 0 < server["memory_percent"] < 100 and 0 < server["disk_percent"] <= 100
                assert server["uptime_seconds"] > 0 and server["network_rx_bytes_per_sec"] >= 0
                assert (container["service_id"], container["status"]) == (service, "running")
                assert container["memory_used_mb"] > 0 and container["pids"] >= 1
    finally:
        cleanup(token)


def test_figures_can_be_turned_off(tmp_path: Path) -> None:
    require_engine()
    grpc, http = free_ports(2)
    config = f"[telemetry]\notlp_grpc_port = {grpc}\notlp_http_port = {http}\n"
    config += '[telemetry.figures]\ncollect = "off"\ninterval_secs = 1\n'
    with AgentProcess(tmp_path / "agent", config=config) as agent:
        wait_until(lambda: agent.ask("telemetry_status", {})["success"], "the telemetry process")
        time.sleep(3)
        status = agent.ask("telemetry_status", {})["data"]
        assert [row for row in status["signals"] if row["signal"] == "metrics"] == []
