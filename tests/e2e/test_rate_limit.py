"""A registry that answers 429: a real agent, a real engine, and a real registry behind the one that has the limit."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.limited_registry import SAID, LimitedRegistry
from tests.e2e.served_images import ServedImages, served_images

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]


@dataclass(slots=True)
class Stage:
    images: ServedImages
    registry: LimitedRegistry
    agent: AgentProcess

    def payload(self, tag: str, timeout: float = 60) -> dict[str, Any]:
        return {
            "service_id": f"svc-{self.images.token}",
            "deployment_id": f"d-{uuid.uuid4().hex[:10]}",
            "project_name": self.images.token,
            "image": {"registry": self.registry.address, "repository": self.images.token, "tag": tag},
            "config": {"port": 8080, "replicas": 1},
            "timeout_seconds": timeout,
        }

    def deploy(self, tag: str, timeout: float = 60) -> dict[str, Any]:
        return self.agent.carry_out("deploy", self.payload(tag, timeout), timeout=90)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with (
        served_images(tmp_path / "registry") as images,
        LimitedRegistry(images.registry.address) as registry,
        AgentProcess(tmp_path / "agent") as agent,
    ):
        yield Stage(images, registry, agent)


def test_a_deploy_waits_for_the_registry_and_says_so(stage: Stage) -> None:
    with stage.agent.client() as client:
        assert client.ask("deploy", stage.payload("v1"))["success"]
        while "the registry limits pulls; it is asked again in 5 s" not in str(client.receive()):
            continue
        stage.registry.limited = False
        while (status := client.receive()["payload"].get("status")) not in ("running", "failed", "rolled_back"):
            continue
        assert status == "running"


def test_a_limit_that_outlasts_the_deploy_is_named_with_what_to_do(stage: Stage) -> None:
    report = stage.deploy("v1", timeout=9)
    assert (report["status"], report["error"]["code"]) == ("failed", "PULL_FAILED"), report
    message = report["error"]["message"]
    assert SAID in message
    assert "the registry limits how often this server may pull: wait until it allows it again, or give" in message
    assert stage.registry.refusals >= 2, "asked again"


def test_the_image_that_is_here_serves_at_once(stage: Stage) -> None:
    stage.registry.limited = False
    assert stage.deploy("v1")["status"] == "running"
    stage.registry.limited = True
    report = stage.deploy("v1", timeout=20)
    assert report["status"] == "running", report
    assert "the local image is used" in report["message"]
