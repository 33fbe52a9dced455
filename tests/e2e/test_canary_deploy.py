"""Canaries behind a real Traefik: shares as asked for, and an end by time, by hand, by errors or after a kill."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent_process import AgentProcess, LocalClient
from tests.e2e.load import Load
from tests.e2e.program import AGENT
from tests.e2e.traffic_stage import Stage
from tests.engine import busybox_tar, cleanup, new_token, progress, raw, require_engine, wait_until
from tests.networking.real_traefik import RealTraefik

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

# Answers with its version, or, when told to, with a 500.
ANSWER = (
    b'#!/bin/sh\n[ -n "$BROKEN" ] && printf "HTTP/1.0 500 Broken\\r\\n\\r\\nbroken\\n" && exit\n'
    b'printf "Content-Type: text/plain\\r\\n\\r\\n$VERSION\\n"\n'
)
LONG_SECS = 600
SPREAD = 400  # requests that end long before a step of 30 s does, also on a busy machine


@dataclass(slots=True)
class Deploying:
    """A deploy that is followed on a connection of its own."""

    client: LocalClient
    heard: list[dict[str, Any]] = field(default_factory=list)

    def until(self, text: str) -> dict[str, Any]:
        """The first status from here on whose message has the text."""
        while True:
            message = self.client.receive()
            if message["type"] == "deploy_status":
                self.heard.append(message["payload"])
                if text in message["payload"]["message"]:
                    return self.heard[-1]

    def end(self) -> dict[str, Any]:
        """The terminal status."""
        while not self.heard or self.heard[-1]["status"] not in ("running", "failed", "rolled_back"):
            message = self.client.receive()
            if message["type"] == "deploy_status":
                self.heard.append(message["payload"])
        return self.heard[-1]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """An agent that knows the proxy's metrics, and version v1 with two replicas."""
    require_engine()
    token = new_token()
    files = {"bin/answer": ANSWER, "www/cgi-bin/keep": b""}
    start = "cp /bin/answer /www/cgi-bin/answer; exec /bin/service"
    query = {
        "fromSrc": "-",
        "repo": token,
        "tag": "v1",
        "changes": [f'CMD ["/bin/sh", "-c", "{start}"]', "ENV PATH=/bin"],
    }
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
                stage = Stage(token=token, agent=agent, proxy=proxy)
                assert stage.carry_out("deploy", stage.payload("v1"))["status"] == "running"
                yield stage
    finally:
        cleanup(token)


def canary(stage: Stage, *steps: tuple[int, float], version: str = "v2", **changes: Any) -> dict[str, Any]:
    asked = {"steps": [{"percent": percent, "hold_seconds": secs} for percent, secs in steps]}
    asked |= changes.pop("canary", {})
    return stage.payload(version, strategy="canary", canary=asked, **changes)


def requests(stage: Stage) -> Load:
    """Quick ones at a steady rate; slow ones and websockets are in the tests of every change."""
    return Load(stage.proxy.web, stage.host, rate=100, slow_every=0, websockets=0)


def begun(client: LocalClient, payload: dict[str, Any]) -> Deploying:
    answer = client.ask("deploy", payload)
    assert answer["success"], answer
    return Deploying(client)


def spread(stage: Stage, count: int) -> Counter[str]:
    """Who answers so many requests, each on a connection of its own."""
    found: Counter[str] = Counter()
    for _ in range(count):
        answer = stage.proxy.get(stage.host, "/cgi-bin/answer")
        found[answer.body.strip() if answer.status == 200 else str(answer.status)] += 1
    return found


def decide_canary(stage: Stage, kind: str) -> dict[str, Any]:
    return stage.agent.ask(kind, {"service_id": stage.service})


def test_requests_are_shared_out_as_asked_until_the_canary_is_promoted(stage: Stage) -> None:
    with requests(stage) as load, stage.agent.client(150) as client:
        deploy = begun(client, canary(stage, (10, 30), (50, LONG_SECS)))
        held = deploy.until("10 % of the requests, held for ")
        assert (held["status"], held["phase"]) == ("health_checking", "health_check")
        tenth = spread(stage, SPREAD)
        deploy.until("50 % of the requests, held for ")
        half = spread(stage, SPREAD)
        # As a person does it.
        command = [*AGENT, "--config", str(stage.agent.config), "promote", stage.service]
        told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert (told.returncode, "will get all traffic once it is healthy" in told.stdout) == (0, True), told
        report = deploy.end()
    assert 0.08 * SPREAD <= tenth["v2"] <= 0.12 * SPREAD, tenth
    assert 0.45 * SPREAD <= half["v2"] <= 0.55 * SPREAD, half
    assert report["status"] == "running", report
    assert load.report.failed == 0, str(load.report)
    assert spread(stage, 50) == {"v2": 50}
    assert decide_canary(stage, "promote")["error"]["code"] == "NO_CANARY"


def test_an_aborted_canary_leaves_what_served_before(stage: Stage) -> None:
    with requests(stage) as load, stage.agent.client(150) as client:
        deploy = begun(client, canary(stage, (30, LONG_SECS)))
        deploy.until("30 % of the requests, held for ")
        assert spread(stage, 100)["v2"] > 10
        answer = decide_canary(stage, "abort")
        assert answer["success"], answer
        report = deploy.end()
        assert spread(stage, 50) == {"v1": 50}
    assert (report["status"], report["error"]["code"]) == ("rolled_back", "ABORTED")
    assert load.report.failed == 0, str(load.report)
    assert decide_canary(stage, "abort")["error"]["code"] == "NO_CANARY"


def test_a_canary_that_answers_with_errors_is_rolled_back(stage: Stage) -> None:
    with stage.agent.client(150) as client:
        payload = canary(stage, (50, LONG_SECS), canary={"max_error_percent": 5}, env={"BROKEN": "1"})
        deploy = begun(client, payload)
        deploy.until("50 % of the requests, held for ")
        seen = spread(stage, 100)
        report = deploy.end()
    assert seen["500"] > 20
    assert (report["status"], report["error"]["code"]) == ("rolled_back", "CANARY_FAILED"), report
    assert "answers were 5xx, more than 5 %" in report["error"]["message"]
    assert spread(stage, 50) == {"v1": 50}


def test_a_canary_that_answers_well_passes_its_limit_of_errors(stage: Stage) -> None:
    with stage.agent.client(150) as client:
        deploy = begun(client, canary(stage, (50, 8), canary={"max_error_percent": 5}))
        deploy.until("50 % of the requests, held for ")
        assert spread(stage, 200).keys() == {"v1", "v2"}
        report = deploy.end()
    assert report["status"] == "running"
    assert "not judged" not in report["message"]


def test_a_canary_that_turns_unhealthy_is_rolled_back(stage: Stage) -> None:
    with requests(stage) as load, stage.agent.client(150) as client:
        payload = canary(stage, (50, LONG_SECS))
        deploy = begun(client, payload)
        deploy.until("50 % of the requests, held for ")
        unhealthy = {"service_id": stage.service, "command": ["rm", "/www/health"]}
        assert stage.agent.ask("exec", unhealthy)["data"]["exit_code"] == 0
        report = deploy.end()
    assert (report["status"], report["error"]["code"]) == ("rolled_back", "HEALTH_CHECK_FAILED"), report
    assert load.report.failed == 0, str(load.report)


def test_a_killed_agent_leaves_the_shares_and_goes_on_where_it_was(stage: Stage) -> None:
    with requests(stage) as load:
        with stage.agent.client(150) as client:
            deploy = begun(client, canary(stage, (10, 1), (30, LONG_SECS)))
            deploy.until("30 % of the requests, held for ")
            stage.agent.kill()
        alone = spread(stage, 300)
        stage.agent.start()
        wait_until(lambda: "operation resumed" in stage.agent.text(), "the canary goes on")
        again = spread(stage, 300)
        assert stage.agent.text().count("operation finished") == 1, "the first deploy only"
        answer = decide_canary(stage, "promote")
        assert answer["success"], answer
        wait_until(lambda: spread(stage, 20) == {"v2": 20}, "every request gets the new version", 60)
        wait_until(lambda: decide_canary(stage, "abort").get("error", {}).get("code") == "NO_CANARY", "the deploy ends")
    for found in (alone, again):
        assert 70 <= found["v2"] <= 110, found
    assert load.report.failed == 0, str(load.report)
