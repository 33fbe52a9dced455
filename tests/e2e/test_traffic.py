"""A deploy without one failed request: a real Traefik in front, requests all the while."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.engine import api, busybox_tar, cleanup, new_token, progress, raw, require_engine, wait_until
from tests.networking.real_traefik import RealTraefik

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

SLOW = b"#!/bin/sh\nsleep 3\nprintf 'Content-Type: text/plain\\r\\n\\r\\nslow\\n'\n"
RATE = 100  # quick requests a second
SLOW_AT_ONCE = 6


@dataclass(slots=True)
class Load:
    """Requests through the proxy until told to stop: quick ones at a steady rate, slow ones always under way."""

    port: int
    host: str
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        for number in range(4):
            self._threads.append(threading.Thread(target=self._quick, name=f"quick {number}"))
        for number in range(SLOW_AT_ONCE):
            self._threads.append(threading.Thread(target=self._slow, name=f"slow {number}"))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _quick(self) -> None:
        pause = 4 / RATE
        while not self._over.wait(pause):
            self._ask("/", 5)

    def _slow(self) -> None:
        while not self._over.is_set():
            self._ask("/cgi-bin/slow", 20)

    def _ask(self, path: str, timeout: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path, headers={"Host": self.host})
            answer = connection.getresponse()
            body = answer.read().decode().strip()
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(f"{time.monotonic():.3f} {path}: {type(error).__name__} {error}")
            return
        finally:
            connection.close()
        if answer.status != 200:
            self.failures.append(f"{time.monotonic():.3f} {path}: {answer.status} {body[:80]}")
        else:
            self.answers[body] += 1


@dataclass(slots=True)
class Stage:
    token: str
    agent: AgentProcess
    proxy: RealTraefik

    @property
    def service(self) -> str:
        return f"svc-{self.token}"

    @property
    def host(self) -> str:
        return f"{self.token}.example.com"

    def payload(self, version: str, **changes: Any) -> dict[str, Any]:
        return {
            "service_id": self.service,
            "deployment_id": f"d-{uuid.uuid4().hex[:10]}",
            "project_name": self.token,
            "image": f"{self.token}:v1",
            "config": {
                "port": 8080,
                "replicas": changes.pop("replicas", 2),
                "env_vars": {"VERSION": version, **changes.pop("env", {})},
                "health_check": {"path": "/health", "interval_seconds": 1, "timeout_seconds": 1, "retries": 3},
            },
            "networking": {"domains": [self.host]},
            "timeout_seconds": 120,
            **changes,
        }

    def carry_out(self, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        return self.agent.carry_out(kind, payload, timeout=150)

    def served(self) -> tuple[int, str]:
        answer = self.proxy.get(self.host)
        return answer.status, answer.body.strip()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    require_engine()
    token = new_token()
    files = {"bin/slow": SLOW, "www/cgi-bin/keep": b""}
    changes = ['CMD ["/bin/sh", "-c", "cp /bin/slow /www/cgi-bin/slow; exec /bin/service"]', "ENV PATH=/bin"]
    query = {"fromSrc": "-", "repo": token, "tag": "v1", "changes": changes}
    progress(
        raw("POST", "/images/create", busybox_tar(files), query=query, headers={"Content-Type": "application/x-tar"})
    )
    try:
        with RealTraefik(tmp_path / "proxy") as proxy:
            config = (
                "[runtime]\nmin_healthy_secs = 0.2\n[networking]\n"
                f'traefik_dynamic_dir = "{proxy.directory}"\ntraefik_api = "{proxy.api_url}"\n'
                'entrypoints = ["web"]\ncert_resolver = ""\nhttps_redirect_entrypoint = ""\ndrain_seconds = 10\n'
            )
            with AgentProcess(tmp_path / "agent", config=config) as agent:
                yield Stage(token=token, agent=agent, proxy=proxy)
    finally:
        cleanup(token)


def test_no_request_fails_while_the_service_changes_in_every_way(stage: Stage) -> None:
    first = stage.payload("v1")
    assert stage.carry_out("deploy", first)["status"] == "running"
    assert stage.served() == (200, "v1")
    with Load(stage.proxy.web, stage.host) as load:
        for kind, payload in (
            ("deploy", stage.payload("v2")),
            ("deploy", stage.payload("v3", strategy="blue_green")),
            ("scale", {"service_id": stage.service, "replicas": 4}),
            ("scale", {"service_id": stage.service, "replicas": 1}),
            ("rollback", {"service_id": stage.service, "target_deployment_id": first["deployment_id"]}),
        ):
            report = stage.carry_out(kind, payload)
            assert report["status"] == "running", report
    assert load.failures == [], f"{len(load.failures)} of {load.answers.total()}: {load.failures[:5]}"
    assert set(load.answers) == {"v1", "v2", "v3", "slow"}
    assert stage.served() == (200, "v1")


def test_no_request_fails_when_a_new_version_is_refused_or_the_agent_is_killed(stage: Stage) -> None:
    assert stage.carry_out("deploy", stage.payload("v1"))["status"] == "running"
    with Load(stage.proxy.web, stage.host) as load:
        broken = stage.carry_out("deploy", stage.payload("v2", env={"FAIL": "unhealthy"}))
        assert broken["status"] == "rolled_back", broken
        for number in range(3):
            request, wanted = f"req-{uuid.uuid4()}", stage.payload(f"k{number}")
            killer = threading.Timer(0.3 + 0.8 * number, stage.agent.kill)
            killer.start()
            with contextlib.suppress(OSError):
                stage.agent.carry_out("deploy", wanted, request_id=request, timeout=150)
            killer.join()
            stage.agent.start()
            report = stage.agent.carry_out("deploy", wanted, request_id=request, timeout=150)
            assert report["status"] == "running", report
    assert load.failures == [], f"{len(load.failures)} of {load.answers.total()}: {load.failures[:5]}"
    assert stage.served() == (200, "k2")


def test_routes_follow_a_container_that_crashes_and_a_service_that_stops(stage: Stage) -> None:
    assert stage.carry_out("deploy", stage.payload("v1"))["status"] == "running"
    filters = f'{{"label":["syntra.service_id={stage.service}"]}}'
    victim = api("GET", "/containers/json", query={"filters": filters})[0]
    address = next(iter(victim["NetworkSettings"]["Networks"].values()))["IPAddress"]
    routes = stage.proxy.directory / "syntra.yml"
    assert f"//{address}:8080" in routes.read_text()
    api("POST", f"/containers/{victim['Id']}/kill")

    def works_with() -> str:
        return stage.proxy.ask(stage.proxy.internal, "/api/rawdata", host="localhost").body

    wait_until(lambda: f"//{address}:8080" not in works_with(), "the routes leave the crashed container", 2)
    assert [stage.served() for _ in range(20)] == [(200, "v1")] * 20
    assert stage.carry_out("stop", {"service_id": stage.service, "timeout_seconds": 2})["success"]
    assert stage.served()[0] == 503
    assert stage.carry_out("stop", {"service_id": stage.service, "remove_container": True})["success"]
    wait_until(lambda: stage.served()[0] == 404, "the routes of a removed service go", 5)


def test_a_domain_that_another_service_has_is_refused_by_its_name(stage: Stage) -> None:
    assert stage.carry_out("deploy", stage.payload("v1", replicas=1))["status"] == "running"
    other = {**stage.payload("v1"), "service_id": f"other-{stage.token}"}
    refused = stage.agent.ask("deploy", other)
    assert (refused["success"], refused["error"]["code"]) == (False, "ROUTE_CONFLICT")
    assert stage.service in refused["error"]["message"]
