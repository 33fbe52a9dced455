"""The whole product, from an operator's call to the engine: control plane and agent as processes, real containers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane.client import ControlPlaneClientError
from tests.e2e.fleet import EventTape, Fleet, containers, enrolled, fleet, ids, inspect, states
from tests.e2e.served_images import served_images
from tests.engine import address_of, api, fetch, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet")) as whole:
        yield whole


@pytest.fixture
def product(shared: Fleet) -> Fleet:
    """The shared product, connected, whatever the test before has done."""
    if shared.plane.process is None or shared.plane.process.poll() is not None:
        shared.plane.start()
    if shared.agent.process is None or shared.agent.process.poll() is not None:
        shared.agent.start()
    shared.wait_connected()
    return shared


def served(service: str) -> set[str]:
    """What the service's running containers answer."""
    return {fetch(address_of(item["Id"]))[1].strip() for item in containers(service) if item["State"] == "running"}


# The life of a service


def test_an_update_replaces_every_replica_and_a_broken_one_touches_none(product: Fleet) -> None:
    service = product.service()
    two: dict[str, Any] = {"config": {"replicas": 2}}
    first = product.payload(service, **two)
    assert product.running(first)["container_id"] in ids(service)
    assert served(service) == {"v1"}
    old = ids(service)
    assert len(old) == 2

    second = product.payload(service, "v2", **two)
    with EventTape(service) as tape:
        product.running(second)
        stopped, started = tape.place("die", first["deployment_id"]), tape.place("start", second["deployment_id"])
        assert started < stopped, "a replica went before the first new one was up"
    assert served(service) == {"v2"}
    current = ids(service)
    assert len(current) == 2 and not current & old

    broken = product.deploy(product.payload(service, "v1", env_vars={"FAIL": "exit"}, **two))
    assert broken["status"] == "rolled_back"
    assert broken["error"]["code"] == "CONTAINER_CRASHED"
    assert broken["error_message"] in broken["message"]
    assert "failing as told" in broken["logs"]
    assert ids(service) == current
    assert served(service) == {"v2"}
    alerts = product.plane.client.alerts(product.server_id)["alerts"]
    assert [a["type"] for a in alerts if a.get("service_id") == service] == ["deployment_failed"]

    unhealthy = product.deploy(product.payload(service, "v1", env_vars={"FAIL": "unhealthy"}, **two))
    assert unhealthy["status"] == "rolled_back"
    assert unhealthy["error"]["code"] == "HEALTH_CHECK_FAILED"
    assert "404" in unhealthy["error"]["message"]
    assert ids(service) == current

    back = product.lasting("rollback", {"service_id": service})
    assert back["status"] == "running" and back["deployment_id"] == first["deployment_id"]
    assert served(service) == {"v1"}


def test_a_followed_log_goes_on_through_a_scale(product: Fleet) -> None:
    service = product.service()
    product.running(product.payload(service))
    response = product.send("logs_subscribe", {"service_id": service, "follow": True, "tail": 100})
    request = response["request_id"]
    scaled = product.lasting("scale", {"service_id": service, "replicas": 3})
    assert scaled["status"] == "running"
    assert states(service) == ["running"] * 3

    def lines() -> list[str]:
        return [line["message"] for line in product.plane.client.logs(request)["lines"]]

    wait_until(lambda: lines().count("starting v1") == 3, "the first line of every replica")
    assert product.lasting("scale", {"service_id": service, "replicas": 1})["status"] == "running"
    wait_until(lambda: lines().count("stopping v1") == 2, "the last lines of those that went")
    (left,) = containers(service)
    assert left["State"] == "running"
    assert product.send("logs_unsubscribe", {"service_id": service})["success"]
    heartbeat = product.plane.client.server(product.server_id)["services"]
    assert isinstance(heartbeat, list)


def test_an_exec_passes_on_exit_code_and_output_and_ends_with_its_time(product: Fleet) -> None:
    service = product.service()
    product.running(product.payload(service))
    result = product.exec(service, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert result == {"exit_code": 7, "stdout": "out\n", "stderr": "err\n"}
    assert product.exec(service, "no-such-program")["exit_code"] in {126, 127}
    late = product.send("exec", {"service_id": service, "command": ["sleep", "4321"], "timeout_seconds": 1})
    assert late["error"]["code"] == "EXEC_TIMEOUT"
    processes = json.dumps(api("GET", f"/containers/{inspect(service)['Id']}/top"))
    assert "httpd" in processes and "sleep 4321" not in processes


def test_a_service_is_restarted_in_place_and_stopped_for_good(product: Fleet) -> None:
    service = product.service()
    product.running(product.payload(service))
    before = inspect(service)
    assert product.send("restart", {"service_id": service, "timeout_seconds": 5})["success"]
    after = inspect(service)
    assert before["Id"] == after["Id"] and before["State"]["StartedAt"] != after["State"]["StartedAt"]
    assert product.send("stop", {"service_id": service, "timeout_seconds": 5})["success"]
    assert states(service) == ["exited"]
    assert product.send("stop", {"service_id": service, "remove_container": True})["data"]["removed"] is True
    assert containers(service) == []
    gone = product.send("restart", {"service_id": service})
    assert gone["error"]["code"] == "SERVICE_NOT_FOUND"


# Interruptions


def test_a_control_plane_that_restarts_in_mid_deploy_gets_the_report(product: Fleet) -> None:
    service = product.service()
    deployment = product.begin(product.payload(service, env_vars={"FAIL": "slow", "SLOW": "1"}))
    product.plane.stop()
    wait_until(lambda: states(service) == ["running"], "the deploy goes on alone")
    product.plane.start()
    assert product.outcome(deployment)["status"] == "running"
    assert [e["status"] for e in product.plane.client.deployment(deployment)["events"]].count("running") == 1


def test_reports_outlive_a_kill_of_the_disconnected_agent(product: Fleet) -> None:
    service, broken = product.service(), product.service()
    kept = product.begin(product.payload(service, env_vars={"FAIL": "slow", "SLOW": "1"}))
    failing = product.begin(product.payload(broken, env_vars={"FAIL": "unhealthy"}))
    product.plane.stop()
    wait_until(lambda: not _unfinished(product, service, broken), "both deploys end")
    wait_until(lambda: product.status()["control_plane"]["state"] != "ready", "the connection is gone")
    assert product.status()["journal"]["outbox"] > 0
    product.agent.kill()
    product.agent.start()
    assert product.status()["journal"]["outbox"] > 0
    product.plane.start()
    assert product.outcome(kept)["status"] == "running"
    assert product.outcome(failing)["status"] == "failed"
    wait_until(lambda: product.status()["journal"]["outbox"] == 0, "the outbox is empty")


def _unfinished(product: Fleet, good: str, bad: str) -> bool:
    services = {item["service_id"]: item for item in product.agent.ask("list_services", {})["data"]["services"]}
    is_up = services.get(good, {}).get("replicas", {}) == {"desired": 1, "running": 1}
    return not (is_up and containers(bad) == [])


def test_deploys_queued_while_the_agent_was_away_run_once(product: Fleet) -> None:
    services = [product.service(), product.service()]
    assert product.agent.stop() == 0
    wait_until(lambda: not product.plane.is_connected(product.server_id), "the control plane sees it")
    payloads = [product.payload(service) for service in services]
    for payload in payloads:
        view = product.plane.client.command(product.server_id, "deploy", payload)
        assert view["state"] == "queued"
    product.agent.start()
    for payload in payloads:
        assert product.outcome(payload["deployment_id"])["status"] == "running"
    before = [ids(service) for service in services]
    assert [len(found) for found in before] == [1, 1]
    product.plane.stop()
    product.plane.start()
    product.wait_connected()
    assert [ids(service) for service in services] == before


def test_a_refused_token_is_said_and_the_agent_serves_on(product: Fleet, tmp_path: Path) -> None:
    service = product.service()
    with enrolled(tmp_path, product.plane, server_id="srv_refused", token="syn_agt_wrong") as agent:

        def detail() -> str:
            return str(agent.ask("status", {})["data"]["control_plane"]["detail"])

        wait_until(lambda: detail().startswith("the token was refused"), "the refusal in status")
        assert "syn_agt_wrong" not in agent.text() + detail()
        payload = product.payload(service)
        assert agent.carry_out("deploy", payload)["status"] == "running"
        assert agent.carry_out("stop", {"service_id": service, "remove_container": True})["success"]
        assert agent.stop() == 0


# Strategies


def test_instant_stops_the_old_before_it_starts_the_new(product: Fleet) -> None:
    service = product.service()
    first, second = product.payload(service), product.payload(service, "v2", strategy="instant")
    product.running(first)
    with EventTape(service) as tape:
        product.running(second)
        assert tape.place("die", first["deployment_id"]) < tape.place("start", second["deployment_id"])
        assert tape.place("start", second["deployment_id"]) < tape.place("destroy", first["deployment_id"])
    assert served(service) == {"v2"}

    third = product.payload(service, "v1", strategy="instant", env_vars={"FAIL": "exit"})
    assert product.deploy(third)["status"] == "rolled_back"
    assert served(service) == {"v2"}


def test_blue_green_has_all_new_ones_up_before_an_old_one_stops(product: Fleet) -> None:
    service = product.service()
    two: dict[str, Any] = {"config": {"replicas": 2}}
    first = product.payload(service, **two)
    second = product.payload(service, "v2", strategy="blue_green", **two)
    product.running(first)
    with EventTape(service) as tape:
        product.running(second)
        last_start = tape.place("start", second["deployment_id"], last=True)
        assert last_start < tape.place("die", first["deployment_id"])
    assert served(service) == {"v2"}
    assert len(ids(service)) == 2


def test_a_host_port_moves_from_the_old_to_the_new_and_the_message_says_how(product: Fleet) -> None:
    service = product.service()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    networking = {"domains": [], "expose_port": port}
    first = product.payload(service, networking=networking)
    assert "stops before" not in product.running(first)["message"]
    assert fetch("127.0.0.1", port)[1].strip() == "v1"
    second = product.payload(service, "v2", networking=networking)
    with EventTape(service) as tape:
        outcome = product.running(second)
        assert tape.place("die", first["deployment_id"]) < tape.place("start", second["deployment_id"])
    assert f"the old container stops before the new one starts: host port {port}" in outcome["message"]
    assert fetch("127.0.0.1", port)[1].strip() == "v2"
    broken = product.deploy(product.payload(service, "v1", networking=networking, env_vars={"FAIL": "exit"}))
    assert broken["status"] == "rolled_back"
    assert fetch("127.0.0.1", port)[1].strip() == "v2"


# What a container gets


def test_a_named_volume_has_one_writer_and_keeps_its_content(product: Fleet) -> None:
    service = product.service()
    name = f"data-{service}"
    volume = f"{product.token}_{name}"
    config = {"volumes": [{"name": name, "container_path": "/data", "read_only": False}]}
    product.running(product.payload(service, config=config))
    product.exec(service, "sh", "-c", "echo kept > /data/file")
    outcome = product.running(product.payload(service, "v2", config=config))
    assert f"volume {volume} has a single writer" in outcome["message"]
    assert product.exec(service, "cat", "/data/file")["stdout"] == "kept\n"
    assert product.send("stop", {"service_id": service, "remove_container": True})["success"]
    assert any(item["Name"] == volume for item in api("GET", "/volumes")["Volumes"]), "a volume is never removed"


def test_volumes_are_mounted_as_asked(product: Fleet, tmp_path: Path) -> None:
    service = product.service()
    (tmp_path / "given").write_text("from the host\n")
    (tmp_path / "open").mkdir(mode=0o777)
    volumes = [
        {"name": f"named-{service}", "container_path": "/named", "read_only": False},
        {"name": "given", "host_path": str(tmp_path), "container_path": "/given", "read_only": True},
        {"name": "open", "host_path": str(tmp_path / "open"), "container_path": "/open", "read_only": False},
    ]
    product.running(product.payload(service, config={"volumes": volumes}))
    assert product.exec(service, "cat", "/given/given")["stdout"] == "from the host\n"
    refused = product.exec(service, "touch", "/given/new")
    assert refused["exit_code"] != 0 and "Read-only" in refused["stderr"]
    assert product.exec(service, "sh", "-c", "echo back > /open/file; echo x > /named/file")["exit_code"] == 0
    assert (tmp_path / "open/file").read_text() == "back\n"


def test_environment_labels_and_limits_arrive(product: Fleet) -> None:
    service = product.service()
    payload = product.payload(
        service,
        env_vars={"PLAIN": "a b=c", "EMPTY": "", "UNICODE": "grün"},
        config={"labels": {"team": "shop", "tier": ""}, "cpu_limit": "0.25", "memory_limit": "48m"},
    )
    product.running(payload)
    found = inspect(service)
    assert {"PLAIN=a b=c", "EMPTY=", "UNICODE=grün"} <= set(found["Config"]["Env"])
    assert f"SYNTRA_SERVICE_ID={service}" in found["Config"]["Env"]
    assert f"SYNTRA_DEPLOYMENT_ID={payload['deployment_id']}" in found["Config"]["Env"]
    assert product.exec(service, "sh", "-c", 'printf "%s|%s" "$PLAIN" "$UNICODE"')["stdout"] == "a b=c|grün"
    labels = found["Config"]["Labels"]
    assert labels["team"] == "shop" and labels["tier"] == ""
    assert labels["syntra.service_id"] == service and labels["syntra.project"] == product.token
    assert found["HostConfig"]["Memory"] == 48 * 1024 * 1024
    assert found["HostConfig"]["NanoCpus"] == 250_000_000
    assert found["Name"].startswith(f"/syn-{service}-")
    with pytest.raises(ControlPlaneClientError, match=r"'syntra\.managed' is reserved"):
        product.send("deploy", product.payload(service, config={"labels": {"syntra.managed": "false"}}))


# Images


def test_registry_credentials_come_with_the_command(product: Fleet, tmp_path: Path) -> None:
    with served_images(tmp_path, user="deployer", password="right") as private:
        service = product.service()
        image = private.image()
        absent = product.deploy(product.payload(service, image=image))
        assert (absent["status"], absent["error"]["code"]) == ("failed", "PULL_FAILED")
        wrong = {"username": "deployer", "password": "wrong"}
        refused = product.deploy(product.payload(service, image=image, registry_auth=wrong))
        assert (refused["status"], refused["error"]["code"]) == ("failed", "PULL_FAILED")
        assert "credentials" in refused["error"]["message"]
        assert containers(service) == []
        right = {"username": "deployer", "password": "right"}
        product.running(product.payload(service, image=image, registry_auth=right))
        again = product.deploy(product.payload(service, image=private.image("v2"), registry_auth=wrong))
        assert (again["status"], again["error"]["code"]) == ("rolled_back", "PULL_FAILED")
        assert served(service) == {"v1"}
        assert product.send("stop", {"service_id": service, "remove_container": True})["success"]


def test_a_registry_that_is_down_does_not_stop_a_deploy_of_an_image_that_is_here(product: Fleet) -> None:
    service = product.service()
    product.running(product.payload(service))
    product.images.registry.stop()
    try:
        outcome = product.running(product.payload(service, env_vars={"VERSION": "again"}))
        assert "the local image is used" in outcome["message"]
        assert served(service) == {"again"}
        missing = product.images.image("v1") | {"tag": "never-pulled"}
        failed = product.deploy(product.payload(service, image=missing))
        assert (failed["status"], failed["error"]["code"]) == ("rolled_back", "PULL_FAILED")
        assert served(service) == {"again"}
    finally:
        product.images.registry.start()


def test_a_digest_pins_the_image_whatever_the_tag_says(product: Fleet) -> None:
    service = product.service()
    image = product.images.image("v2", digest=True) | {"tag": "v1"}
    product.running(product.payload(service, image=image))
    assert served(service) == {"v2"}
    wrong = image | {"digest": "sha256:" + "0" * 64}
    failed = product.deploy(product.payload(service, image=wrong))
    assert (failed["status"], failed["error"]["code"]) == ("rolled_back", "PULL_FAILED")
    assert served(service) == {"v2"}


# Several at once


def test_services_do_not_wait_for_each_other(product: Fleet) -> None:
    slow, fast = product.service("slow"), product.service("fast")
    patient = product.payload(slow, env_vars={"FAIL": "slow", "SLOW": "30"})
    patient["config"]["health_check"]["start_period_seconds"] = 50
    waiting = product.begin(patient)
    product.running(product.payload(fast))
    assert product.plane.client.deployment(waiting)["status"] not in {"running", "failed", "rolled_back"}
    # A stop supersedes what goes on.
    assert product.send("stop", {"service_id": slow, "timeout_seconds": 1, "remove_container": True})["success"]
    assert product.outcome(waiting)["error"]["code"] == "SUPERSEDED"
    assert containers(slow) == []


def test_a_newer_deploy_takes_the_place_of_one_under_way(product: Fleet) -> None:
    service = product.service()
    product.running(product.payload(service))
    patient = product.payload(service, "v1", env_vars={"FAIL": "slow", "SLOW": "30"})
    patient["config"]["health_check"]["start_period_seconds"] = 50
    older = product.begin(patient)
    newer = product.payload(service, "v2")
    product.running(newer)
    superseded = product.outcome(older)
    assert superseded["error"]["code"] == "SUPERSEDED"
    assert served(service) == {"v2"}
    assert {item["Labels"]["syntra.deployment_id"] for item in containers(service)} == {newer["deployment_id"]}


def test_a_deploy_that_takes_too_long_is_unwound(product: Fleet) -> None:
    service = product.service()
    first = product.payload(service)
    product.running(first)
    before = ids(service)
    patient = product.payload(service, "v2", env_vars={"FAIL": "slow", "SLOW": "40"}, timeout_seconds=2)
    patient["config"]["health_check"]["start_period_seconds"] = 50
    late = product.deploy(patient)
    assert (late["status"], late["error"]["code"]) == ("rolled_back", "DEADLINE")
    assert "timeout_seconds" in late["error"]["message"]
    assert ids(service) == before
    assert served(service) == {"v1"}


def test_what_health_checks_find_arrives_as_telemetry(product: Fleet) -> None:
    def batches() -> int:
        return int(product.plane.client.server(product.server_id)["telemetry"]["batches"])

    before = batches()
    product.running(product.payload(product.service()))
    wait_until(lambda: batches() > before, "a batch arrives", 20)
