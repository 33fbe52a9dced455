"""A deploy without one failed request: a real Traefik in front, requests all the while."""

from __future__ import annotations

import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.traffic_stage import Stage, staged, under_load
from tests.engine import api, require_engine, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    require_engine()
    with staged(tmp_path) as stage:
        yield stage


CANARY = [{"percent": 10, "hold_seconds": 1}, {"percent": 50, "hold_seconds": 1}]
Change = tuple[str, dict[str, Any]]


def changes(stage: Stage, first: Mapping[str, Any]) -> list[Change]:
    """Every way in which a service that runs as version v1 with two replicas becomes another; the last is v1 again."""
    return [
        ("deploy", stage.payload("v2")),
        ("deploy", stage.payload("v3", strategy="blue_green")),
        ("deploy", stage.payload("v4", strategy="canary", canary={"steps": CANARY})),
        ("scale", {"service_id": stage.service, "replicas": 4}),
        ("scale", {"service_id": stage.service, "replicas": 1}),
        ("rollback", {"service_id": stage.service, "target_deployment_id": first["deployment_id"]}),
    ]


def test_no_request_fails_while_the_service_changes_in_every_way(stage: Stage) -> None:
    first = stage.payload("v1")
    assert stage.carry_out("deploy", first)["status"] == "running"
    assert stage.served() == (200, "v1")
    with under_load(stage) as underway:
        for kind, payload in changes(stage, first):
            report = stage.carry_out(kind, payload)
            assert report["status"] == "running", report
    underway.check("v1", "v2", "v3", "v4")
    assert stage.served() == (200, "v1")


def test_no_request_fails_when_the_agent_is_killed_in_the_middle_of_changes(stage: Stage) -> None:
    first = stage.payload("v1")
    assert stage.carry_out("deploy", first)["status"] == "running"
    # The seconds after which it is killed: when the new is begun, a canary held, the old drained.
    kills = {0: 0.3, 2: 2.0, 4: 2.0}
    with under_load(stage) as underway:
        for number, (kind, payload) in enumerate(changes(stage, first)):
            after = kills.get(number)
            report = stage.carry_out(kind, payload) if after is None else killed_once(stage, kind, payload, after)
            assert report["status"] == "running", report
    underway.check("v1", "v2", "v3", "v4")
    assert stage.served() == (200, "v1")


def killed_once(stage: Stage, kind: str, payload: dict[str, Any], after: float) -> dict[str, Any]:
    """The command's report, with the agent killed and started again some seconds after the command was given."""
    request = f"req-{uuid.uuid4()}"
    killer = threading.Timer(after, stage.agent.kill)
    killer.start()
    with pytest.raises(ConnectionError):
        stage.agent.carry_out(kind, payload, request_id=request, timeout=150)
    killer.join()
    stage.agent.start()
    return stage.agent.carry_out(kind, payload, request_id=request, timeout=150)


def test_no_request_fails_when_a_new_version_is_refused(stage: Stage) -> None:
    assert stage.carry_out("deploy", stage.payload("v1"))["status"] == "running"
    with under_load(stage) as underway:
        broken = stage.carry_out("deploy", stage.payload("v2", env={"FAIL": "unhealthy"}))
        assert broken["status"] == "rolled_back", broken
    underway.check("v1")
    assert stage.served() == (200, "v1")


def test_routes_follow_a_container_that_crashes_and_a_service_that_stops(stage: Stage) -> None:
    assert stage.carry_out("deploy", stage.payload("v1"))["status"] == "running"
    filters = f'{{"label":["syntra.service_id={stage.service}"]}}'
    victim = api("GET", "/containers/json", query={"filters": filters})[0]
    address = next(iter(victim["NetworkSettings"]["Networks"].values()))["IPAddress"]
    routes = stage.proxy.directory / "syntra.yml"
    assert f"//{address}:8080" in routes.read_text()
    api("POST", f"/containers/{victim['Id']}/kill")
    wait_until(lambda: f"//{address}:8080" not in stage.proxy.works_with(), "the routes leave the crashed container", 2)
    assert [stage.served() for _ in range(20)] == [(200, "v1")] * 20
    assert stage.carry_out("stop", {"service_id": stage.service, "timeout_seconds": 2})["success"]
    assert stage.served()[0] == 503
    assert stage.carry_out("stop", {"service_id": stage.service, "remove_container": True})["success"]
    wait_until(lambda: stage.served()[0] == 404, "the routes of a removed service go", 5)


def test_health_that_fails_right_after_a_deploy_leaves_the_routes_and_is_alerted_in_the_time_of_its_check(
    stage: Stage,
) -> None:
    interval, retries = 2, 3
    payload = stage.payload("v1")
    payload["config"]["health_check"] |= {"interval_seconds": interval, "retries": retries}
    assert stage.carry_out("deploy", payload)["status"] == "running"
    sick, well = sorted(stage.addresses())
    begun = time.monotonic()
    urllib.request.urlopen(f"http://{sick}:8080/sicken", timeout=5).close()

    def alerted() -> bool:
        alerts = stage.agent.ask("status", {})["data"]["alerts"]
        return any(alert["type"] == "health_check_failed" for alert in alerts)

    left = interval * retries + 1
    wait_until(lambda: stage.routed() == {well}, "the routes leave the sick replica", left)
    wait_until(alerted, "the alert", max(left - (time.monotonic() - begun), 0.1))
    assert [stage.served() for _ in range(20)] == [(200, "v1")] * 20


def test_a_domain_that_another_service_has_is_refused_by_its_name(stage: Stage) -> None:
    assert stage.carry_out("deploy", stage.payload("v1", replicas=1))["status"] == "running"
    other = {**stage.payload("v1"), "service_id": f"other-{stage.token}"}
    refused = stage.agent.ask("deploy", other)
    assert (refused["success"], refused["error"]["code"]) == (False, "ROUTE_CONFLICT")
    assert stage.service in refused["error"]["message"]


def test_that_holds_where_labels_make_the_routes_until_the_first_is_removed(tmp_path: Path) -> None:
    with staged(tmp_path, labels=True) as stage:
        assert stage.carry_out("deploy", stage.payload("v1", replicas=1))["status"] == "running"
        other = {**stage.payload("v2", replicas=1), "service_id": f"other-{stage.token}"}

        def refused() -> bool:
            answer = stage.agent.ask("deploy", other)
            return not answer["success"] and answer["error"]["code"] == "ROUTE_CONFLICT"

        assert refused()
        wait_until(lambda: stage.served() == (200, "v1"), "Traefik serves the first", 10)
        assert stage.carry_out("stop", {"service_id": stage.service, "timeout_seconds": 2})["success"]
        assert refused(), "it may be started again"
        # Its own domain is no obstacle to the service itself.
        stage.deployed("v3", replicas=1)
        assert stage.carry_out("stop", {"service_id": stage.service, "remove_container": True})["success"]
        assert stage.carry_out("deploy", other)["status"] == "running"
        wait_until(lambda: stage.served() == (200, "v2"), "Traefik serves the other", 10)
