"""No request fails while a service in a cluster changes: a real Traefik is its ingress, for each kind of routes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, cluster, cluster_token
from tests.cluster_images import load_web_image
from tests.cluster_routes import GATEWAY_API, TRAEFIK, install
from tests.e2e.agent_process import AgentProcess
from tests.e2e.load import Load
from tests.e2e.test_canary_deploy import begun, decide_canary
from tests.e2e.test_traffic import killed_once
from tests.e2e.traffic_stage import Stage
from tests.engine import wait_until
from tests.networking.real_traefik import RealTraefik

__all__ = ["cluster", "cluster_token"]

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

LONG_SECS = 600
PROVIDERS = {
    "ingress": "kubernetesIngress",
    "ingress_route": "kubernetesCRD",
    "http_route": "kubernetesGateway",
}
Held = tuple[int, float]


@pytest.fixture(scope="module")
def web(cluster: Cluster) -> str:
    """The image of the service."""
    return load_web_image(cluster)


@contextmanager
def staged(cluster: Cluster, token: str, web: str, folder: Path, routes: str) -> Iterator[Stage]:
    """An agent and a Traefik on routes of this kind, with version v1 of the service as two replicas."""
    gateway = ""
    if routes == "ingress_route":
        install(cluster, TRAEFIK)
    if routes == "http_route":
        install(cluster, GATEWAY_API)
        gateway = f"edge-{token}/edge"
    view = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
    at, user = view["clusters"][0]["cluster"], view["users"][0]["user"]
    provider: dict[str, object] = {
        "endpoint": at["server"],
        "token": user["token"],
        "certAuthFilePath": at["certificate-authority"],
        "namespaces": [f"syntra-{token}", *([f"edge-{token}"] if gateway else [])],
    }
    with RealTraefik(folder / "proxy", others={PROVIDERS[routes]: provider}) as proxy:
        if gateway:
            cluster.kubectl("create", "namespace", f"edge-{token}")
            cluster.apply(gateway_objects(token, proxy.web))
        config = (
            f'[runtime]\nruntime_type = "kubernetes"\nkubernetes_config = "{cluster.kubeconfig}"\n'
            "min_healthy_secs = 0\n"
            f'[kubernetes]\nroutes = "{routes}"\ngateway = "{gateway}"\nscale_down_delay_seconds = 2\n'
            '[networking]\nentrypoints = ["web"]\ncert_resolver = ""\nhttps_redirect_entrypoint = ""\n'
        )
        with AgentProcess(folder / "agent", config=config) as agent:
            stage = Stage(token=token, agent=agent, proxy=proxy, image=web)
            stage.deployed("v1")
            wait_until(lambda: stage.served() == (200, "v1"), f"the ingress answers; its log: {proxy.log()[-2000:]}")
            yield stage


def gateway_objects(token: str, port: int) -> list[dict[str, object]]:
    """A Gateway at the ingress's port for the test's namespace. Its class may be another test's too."""
    group = "gateway.networking.k8s.io"
    return [
        {
            "apiVersion": f"{group}/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "traefik"},
            "spec": {"controllerName": "traefik.io/gateway-controller"},
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": f"edge-{token}"},
            "spec": {
                "gatewayClassName": "traefik",
                "listeners": [
                    {
                        "name": "web",
                        "protocol": "HTTP",
                        "port": port,
                        "allowedRoutes": {"namespaces": {"from": "All"}},
                    }
                ],
            },
        },
    ]


@pytest.fixture
def stage(
    request: pytest.FixtureRequest, cluster: Cluster, cluster_token: str, web: str, tmp_path: Path
) -> Iterator[Stage]:
    with staged(cluster, cluster_token, web, tmp_path, request.param) as stage:
        yield stage


def load(stage: Stage, rate: float = 100) -> Load:
    """Requests, each tenth of which takes three seconds. A pod that ends cuts its websockets, so there are none."""
    return Load(stage.proxy.web, stage.host, rate=rate, websockets=0)


def canary(stage: Stage, version: str, *steps: Held) -> dict[str, Any]:
    asked = [{"percent": percent, "hold_seconds": secs} for percent, secs in steps]
    return stage.payload(version, strategy="canary", canary={"steps": asked})


def changes(stage: Stage, routes: str) -> list[tuple[str, dict[str, Any], float | None]]:
    """Each way in which the service becomes another, and after how many seconds the agent is killed, if it is."""
    found: list[tuple[str, dict[str, Any], float | None]] = [
        ("deploy", stage.payload("v2"), 0.5),
        ("deploy", stage.payload("v3", strategy="blue_green"), 2.0),
        ("scale", {"service_id": stage.service, "replicas": 4}, None),
        ("scale", {"service_id": stage.service, "replicas": 1}, 0.2),
        ("rollback", {"service_id": stage.service}, 1.0),
    ]
    if routes != "ingress":
        found.append(("deploy", canary(stage, "v4", (10, 1), (50, 2)), 3.5))
        found.append(("deploy", stage.payload("v5", strategy="blue_green", replicas=1), None))
    return found


def spread(stage: Stage, count: int = 300) -> Counter[tuple[int, str]]:
    """Who answers so many requests, each on a connection of its own."""
    return Counter(stage.served() for _ in range(count))


def wait_share(stage: Stage, version: str, least: int, most: int) -> None:
    """The version answers between `least` and `most` of 300 requests; the ingress learns of it a moment later."""
    wait_until(lambda: least <= spread(stage)[(200, version)] <= most, f"{version} answers {least} to {most} of 300")


@pytest.mark.parametrize("stage", ["ingress_route"], indirect=True)
def test_no_request_fails_during_a_deploy_and_a_canary_with_the_agent_killed_in_between(stage: Stage) -> None:
    with load(stage) as underway:
        report = killed_once(stage, "deploy", stage.payload("v2", strategy="blue_green"), 1.0)
        assert report["status"] == "running", report
        report = killed_once(stage, "deploy", canary(stage, "v3", (50, 2)), 4.0)
        assert report["status"] == "running", report
    assert underway.report.failed == 0, str(underway.report)
    assert set(underway.report.answers) == {"v1", "v2", "v3"}


@pytest.mark.soak
@pytest.mark.parametrize(
    ("stage", "routes"), [(routes, routes) for routes in PROVIDERS], indirect=["stage"], ids=[*PROVIDERS]
)
def test_no_request_fails_while_the_service_changes_in_every_way_and_the_agent_is_killed(
    stage: Stage, routes: str
) -> None:
    with load(stage) as underway:
        for kind, payload, after in changes(stage, routes):
            report = stage.carry_out(kind, payload) if after is None else killed_once(stage, kind, payload, after)
            assert report["status"] == "running", report
    print(underway.report)
    assert underway.report.failed == 0, str(underway.report)


@pytest.mark.soak
@pytest.mark.parametrize("stage", ["ingress_route", "http_route"], indirect=True)
def test_a_canary_gets_its_share_and_all_when_it_is_promoted(stage: Stage) -> None:
    with load(stage) as underway, stage.agent.client(150) as client:
        deploy = begun(client, canary(stage, "v2", (10, 30), (50, LONG_SECS)))
        deploy.until("10 % of the requests, held for ")
        wait_share(stage, "v2", 20, 40)
        deploy.until("50 % of the requests, held for ")
        wait_share(stage, "v2", 130, 170)
        assert decide_canary(stage, "promote")["success"]
        report = deploy.end()
    assert report["status"] == "running", report
    assert underway.report.failed == 0, str(underway.report)
    assert spread(stage, 50) == {(200, "v2"): 50}


@pytest.mark.soak
@pytest.mark.parametrize("stage", ["ingress_route", "http_route"], indirect=True)
def test_an_aborted_canary_leaves_what_served_before(stage: Stage) -> None:
    with load(stage) as underway, stage.agent.client(150) as client:
        deploy = begun(client, canary(stage, "v2", (30, LONG_SECS)))
        deploy.until("30 % of the requests, held for ")
        wait_until(lambda: (200, "v2") in spread(stage, 20), "the canary answers")
        assert decide_canary(stage, "abort")["success"]
        report = deploy.end()
    assert (report["status"], report["error"]["code"]) == ("rolled_back", "ABORTED")
    assert underway.report.failed == 0, str(underway.report)
    assert spread(stage, 50) == {(200, "v1"): 50}


@pytest.mark.soak
@pytest.mark.parametrize("stage", ["ingress", "ingress_route", "http_route"], indirect=True)
@pytest.mark.parametrize("strategy", ["rolling", "blue_green"])
def test_no_request_fails_when_a_new_version_is_refused(stage: Stage, strategy: str) -> None:
    with load(stage) as underway:
        broken = stage.carry_out("deploy", stage.payload("v2", env={"FAIL": "unhealthy"}, strategy=strategy))
        assert broken["status"] == "rolled_back", broken
    assert underway.report.failed == 0, str(underway.report)
    assert set(underway.report.answers) == {"v1"}
