"""A deployment is one image for ever: its tag moves at every engine call, and images are pruned in between."""

from __future__ import annotations

import http.client
import json
import sqlite3
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.kill_proxy import KillProxy, _Gate
from tests.e2e.served_images import ServedImages, served_images
from tests.engine import EngineRefused, api, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
TAG = "live"


@dataclass(slots=True)
class Meddler:
    """What a registry and other people do to the tag. A pull of it finds `version`, anything else the other one."""

    images: ServedImages
    version: str = "v1"
    prune_before_create: bool = False
    moves: int = 0
    manifests: dict[str, bytes] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    # Of the images that are this test's; one may have lost its last name.
    ids: set[str] = field(default_factory=set)
    # The agent's calls come on a thread of their own, also after an operation.
    lock: threading.Lock = field(default_factory=threading.Lock)

    def before(self, line: str) -> None:
        """The agent is about to make this call."""
        if not line.startswith(("POST", "DELETE")):
            return
        is_pull = "/images/create" in line
        self.move(self.version if is_pull else {"v1": "v2", "v2": "v1"}[self.version])
        if "/containers/create" in line and self.prune_before_create:
            self.prune_before_create = False
            self.prune()

    def move(self, version: str) -> None:
        """The tag stands for this version from now on, in the registry and on the engine where that has it."""
        with self.lock:
            self.moves += 1
            if version not in self.manifests:
                self.manifests[version] = self._registry("GET", version)
            if version not in self.forgotten:
                self._registry("PUT", TAG, self.manifests[version])
        with suppress(EngineRefused):  # it was pruned
            target = quote(f"{self.images.repository}@{self.images.digests[version]}", safe="")
            api("POST", f"/images/{target}/tag", query={"repo": self.images.repository, "tag": TAG})

    def prune(self) -> None:
        """What `docker image prune -a` does, to the images of this test."""
        used = {item["ImageID"] for item in api("GET", "/containers/json", query={"all": "1"})}
        token = self.images.token
        for image in api("GET", "/images/json"):
            names = [*(image["RepoTags"] or []), *(image["RepoDigests"] or [])]
            ours = [name for name in names if token in name or token.encode().hex() in name]
            if (ours or image["Id"] in self.ids) and image["Id"] not in used:
                api("DELETE", f"/images/{image['Id']}", query={"force": "1"})

    def forget(self, version: str) -> None:
        """The registry has this version no more."""
        with self.lock:
            self.forgotten.add(version)
            self._registry("DELETE", self.images.digests[version])
            # An engine may remember the manifest; without the image's configuration that is of no use.
            config = json.loads(self.manifests[version])["config"]["digest"]
            self._registry("DELETE", config, kind="blobs")

    def _registry(self, method: str, reference: str, body: bytes | None = None, *, kind: str = "manifests") -> bytes:
        connection = http.client.HTTPConnection(self.images.registry.address, timeout=10)
        try:
            headers = {"Accept": MANIFEST, "Content-Type": MANIFEST}
            connection.request(method, f"/v2/{self.images.token}/{kind}/{reference}", body, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        assert answer.status < 300, content
        return content


class MeddledEngine(KillProxy):
    """The engine with a meddler before each call."""

    meddler: Meddler | None = None

    def _count(self, line: str, gate: _Gate) -> bool:
        if self.meddler is not None:
            self.meddler.before(line)
        return False


@dataclass(slots=True)
class Stage:
    images: ServedImages
    agent: AgentProcess
    meddler: Meddler
    ids: dict[str, set[str]] = field(default_factory=dict)

    @property
    def service(self) -> str:
        return f"svc-{self.images.token}"

    def carry_out(self, kind: str, **payload: Any) -> dict[str, Any]:
        report = self.agent.carry_out(kind, {"service_id": self.service, **payload}, timeout=120)
        self.look()
        return report

    def deploy(self, version: str, replicas: int = 2) -> str:
        self.meddler.version = version
        deployment = f"d-{uuid.uuid4().hex[:10]}"
        report = self.carry_out(
            "deploy",
            deployment_id=deployment,
            project_name=self.images.token,
            image=self.images.image(TAG),
            config={"port": 8080, "replicas": replicas},
            timeout_seconds=90,
        )
        assert report["status"] == "running", report
        return deployment

    def containers(self) -> list[dict[str, Any]]:
        query = {"all": "1", "filters": json.dumps({"label": [f"syntra.service_id={self.service}"]})}
        found: list[dict[str, Any]] = api("GET", "/containers/json", query=query)
        return found

    def look(self) -> None:
        """Remember which images each deployment was ever made of."""
        for item in self.containers():
            self.ids.setdefault(item["Labels"]["syntra.deployment_id"], set()).add(item["ImageID"])
            self.meddler.ids.add(item["ImageID"])

    def running(self, deployment: str) -> int:
        return sum(
            item["Labels"]["syntra.deployment_id"] == deployment and item["State"] == "running"
            for item in self.containers()
        )

    def unpin(self) -> None:
        """Every pin of the service is removed by a person."""
        for image in api("GET", "/images/json"):
            for name in image["RepoTags"] or []:
                if name.startswith("syntra-keep/") and self.service.encode().hex() in name:
                    # The last name of an image that a container uses is removed only by force.
                    api("DELETE", f"/images/{name}", query={"noprune": "1", "force": "1"})


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with (
        served_images(tmp_path / "registry") as images,
        tempfile.TemporaryDirectory(prefix="syn-", dir="/tmp") as sockets,
    ):
        engine = MeddledEngine(Path(sockets) / "engine.sock")
        meddler = engine.meddler = Meddler(images=images)
        with (
            engine,
            AgentProcess(tmp_path / "agent", engine_socket=f"{sockets}/engine.sock") as agent,
        ):
            yield Stage(images=images, agent=agent, meddler=meddler)


def test_every_replica_of_a_deployment_is_made_of_the_image_that_its_deploy_found(stage: Stage) -> None:
    meddler = stage.meddler
    first = stage.deploy("v1")
    # Whatever adds replicas later finds the tag moved, and the pins gone.
    meddler.version = "v2"
    stage.unpin()
    assert stage.carry_out("scale", replicas=3)["status"] == "running"
    meddler.prune_before_create = True
    stage.unpin()
    assert stage.carry_out("scale", replicas=4)["status"] == "running"
    assert stage.carry_out("restart", timeout_seconds=2)["success"]
    stage.unpin()
    api("DELETE", f"/containers/{stage.containers()[0]['Id']}", query={"force": "1"})
    wait_until(lambda: stage.running(first) == 4, f"the keeper repairs it: {stage.agent.text()[-2000:]}", 30)
    stage.look()

    second = stage.deploy("v2")
    assert stage.ids[first].isdisjoint(stage.ids[second])
    meddler.prune()
    meddler.prune_before_create = True
    assert stage.carry_out("rollback", target_deployment_id=first)["status"] == "running"
    assert stage.running(first) == 2
    meddler.prune()
    # An agent that lost its journal knows it from the containers.
    stage.agent.stop()
    for file in stage.agent.data_dir.glob("journal.db*"):
        file.unlink()
    stage.agent.start()
    wait_until(lambda: stage.agent.ask("status", {})["data"]["services"], "the journal is rebuilt", 20)
    meddler.version = "v2"
    stage.unpin()
    assert stage.carry_out("scale", replicas=3)["status"] == "running"
    third = stage.deploy("v2")
    meddler.prune()
    assert stage.carry_out("rollback", target_deployment_id=first)["status"] == "running"
    assert {deployment: len(ids) for deployment, ids in stage.ids.items()} == {first: 1, second: 1, third: 1}
    assert stage.ids[second] == stage.ids[third]
    assert meddler.moves > 50


def test_what_is_neither_here_nor_at_the_registry_is_refused_and_what_runs_runs_on(stage: Stage) -> None:
    first = stage.deploy("v1")
    stage.meddler.forget("v1")
    # While a replica runs its image is here, whatever the registry has.
    stage.unpin()
    stage.meddler.version = "v2"
    assert stage.carry_out("scale", replicas=3)["status"] == "running"
    second = stage.deploy("v2")
    stage.meddler.prune()
    report = stage.carry_out("rollback", target_deployment_id=first)
    assert report["status"] != "running", report
    said = json.dumps(report)
    assert "IMAGE_NOT_FOUND" in said or "PULL_FAILED" in said, report
    assert stage.images.digests["v1"] in said, report
    assert stage.running(second) == 2
    assert {deployment: len(ids) for deployment, ids in stage.ids.items()} == {first: 1, second: 1}


def test_a_deployment_of_an_agent_that_recorded_no_image_is_recorded_at_the_start(stage: Stage) -> None:
    first = stage.deploy("v1", replicas=1)
    stage.deploy("v2", replicas=1)
    stage.agent.stop()
    with closing(sqlite3.connect(stage.agent.data_dir / "journal.db")) as journal, journal:
        journal.execute("UPDATE deployments SET image_id = '', image_digest = ''")
    stage.agent.start()
    wait_until(lambda: "images of earlier deployments recorded" in stage.agent.text(), "the images are recorded", 20)
    stage.unpin()
    stage.meddler.prune()
    assert stage.carry_out("rollback", target_deployment_id=first)["status"] == "running"
    assert stage.running(first) == 1
    assert all(len(ids) == 1 for ids in stage.ids.values())
