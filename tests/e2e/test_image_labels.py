"""Images with labels for Traefik: no service takes another's host, and each serves on its own, in a real Traefik."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.traffic_stage import Stage, staged
from tests.engine import busybox_image, require_engine, wait_until


def hostile(stage: Stage) -> dict[str, str]:
    """Labels that want the host of the stage's service, by every way that they can."""
    name, host = f"syn-{stage.service}", stage.host
    return {
        "traefik.enable": "true",
        "traefik.docker.network": "elsewhere",
        # The same names, so that Traefik merges or drops the victim's.
        f"traefik.http.routers.{name}.rule": f"Host(`{host}`)",
        f"traefik.http.routers.{name}.priority": "9000",
        f"traefik.http.services.{name}.loadbalancer.server.port": "8080",
        # Names of its own.
        "traefik.http.routers.grab.rule": f"Host(`{host}`)",
        "traefik.http.routers.grab.priority": "9999",
        "traefik.http.routers.grab.service": "grab",
        "traefik.http.routers.grab.tls.certresolver": "letsencrypt",
        "traefik.http.routers.grab.tls.domains[0].main": host,
        "traefik.HTTP.Routers.Late.Rule": f"Host(`{host}`)",
        "traefik.http.routers.norule.priority": "9998",
        "traefik.http.services.grab.loadbalancer.server.port": "8080",
        "traefik.http.middlewares.grab.redirectregex.regex": ".*",
        "traefik.http.middlewares.grab.redirectregex.replacement": "https://grab.example",
        # Everything that comes to the entrypoint.
        "traefik.tcp.routers.grab.rule": "HostSNI(`*`)",
        "traefik.tcp.routers.grab.service": "grab",
        "traefik.tcp.services.grab.loadbalancer.server.port": "8080",
        "traefik.udp.routers.grab.entrypoints": "web",
        "traefik.udp.services.grab.loadbalancer.server.port": "8080",
    }


def image_with(reference: str, labels: dict[str, str]) -> str:
    busybox_image(reference, changes=[f"LABEL {json.dumps(key)}={json.dumps(value)}" for key, value in labels.items()])
    return reference


def payload_of(stage: Stage, service: str, version: str, **changes: Any) -> dict[str, Any]:
    return {**stage.payload(version, replicas=2), "service_id": f"{service}-{stage.token}", **changes}


def routers(stage: Stage) -> dict[str, dict[str, Any]]:
    told: dict[str, Any] = json.loads(stage.proxy.works_with())
    return {
        name: entry for kind in ("routers", "tcpRouters", "udpRouters") for name, entry in told.get(kind, {}).items()
    }


def test_an_image_takes_no_host_but_its_own_service_s(tmp_path: Path) -> None:
    require_engine()
    with staged(tmp_path, labels=True) as stage:
        stage.deployed("victim")
        wait_until(lambda: stage.served() == (200, "victim"), "Traefik serves the first service")
        image = image_with(f"{stage.token}:hostile", hostile(stage))
        own = f"own-{stage.host}"
        report = stage.carry_out("deploy", payload_of(stage, "bad", "bad", image=image, networking={"domains": [own]}))
        assert report.get("status") == "running", report
        wait_until(lambda: stage.proxy.get(own).body.strip() == "bad", "the image's own service is served")
        assert {stage.served() for _ in range(20)} == {(200, "victim")}
        assert {stage.proxy.get(own).body.strip() for _ in range(20)} == {"bad"}
        # Without a domain it is not Traefik's at all.
        report = stage.carry_out("deploy", payload_of(stage, "none", "none", image=image, networking={}))
        assert report.get("status") == "running", report
        release = {"release_command": ["sh", "-c", "sleep 3"]}
        quiet = payload_of(stage, "rel", "rel", image=image, networking={})
        quiet["config"] |= release
        assert stage.carry_out("deploy", quiet).get("status") == "running"
        known = {f"syn-{stage.service}@docker", f"syn-bad-{stage.token}@docker"}
        # Requests can match only these; what is left of the image's matches none.
        for name, entry in routers(stage).items():
            if name.endswith("@docker") and name not in known:
                assert entry["status"] == "disabled" or entry["rule"] == "PathPrefix(`/`) && !PathPrefix(`/`)", (
                    name,
                    entry,
                )
                assert "tls" not in entry, (name, entry)
        assert {stage.served() for _ in range(20)} == {(200, "victim")}


def test_a_label_that_stays_a_route_refuses_the_deploy_and_the_service_serves_on(tmp_path: Path) -> None:
    require_engine()
    with staged(tmp_path, labels=True) as stage:
        stage.deployed("v1")
        wait_until(lambda: stage.served() == (200, "v1"), "Traefik serves the first version")
        label = "traefik.tls.stores.default.defaultgeneratedcert.resolver"
        image = image_with(f"{stage.token}:tls", {label: "letsencrypt"})
        report = stage.carry_out("deploy", stage.payload("v2", image=image))
        assert (report["status"], report["error"]["code"]) == ("rolled_back", "ROUTE_FAILED"), report
        assert repr(label) in report["error"]["message"]
        assert "remove it from the image" in report["error"]["message"]
        assert {stage.served() for _ in range(10)} == {(200, "v1")}


@pytest.mark.parametrize("routed", [True, False], ids=["routed", "internal"])
def test_where_the_file_makes_the_routes_a_traefik_that_reads_labels_too_ignores_the_containers(
    tmp_path: Path, routed: bool
) -> None:
    require_engine()
    with staged(tmp_path, reads_labels=True) as stage:
        stage.deployed("victim")
        wait_until(lambda: stage.served() == (200, "victim"), "Traefik serves the first service")
        image = image_with(f"{stage.token}:hostile", hostile(stage))
        own = f"own-{stage.host}"
        networking = {"domains": [own]} if routed else {}
        report = stage.carry_out("deploy", payload_of(stage, "bad", "bad", image=image, networking=networking))
        assert report.get("status") == "running", report
        if routed:
            wait_until(lambda: stage.proxy.get(own).body.strip() == "bad", "the image's own service is served")
        assert not [name for name in routers(stage) if name.endswith("@docker")]
        assert {stage.served() for _ in range(20)} == {(200, "victim")}
