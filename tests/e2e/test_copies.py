"""Copies that people make of replicas (`docker commit`) and run by hand: they keep their files, come what may."""

from __future__ import annotations

import io
import json
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.engine import (
    TOKEN_LABEL,
    api,
    busybox_image,
    cleanup,
    network_of,
    new_token,
    raw,
    require_engine,
    wait_until,
)

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]


@dataclass(slots=True)
class Stage:
    token: str
    agent: AgentProcess

    @property
    def service(self) -> str:
        return f"svc-{self.token}"

    def deploy(self, image: str = "", replicas: int = 1) -> str:
        deployment = f"d-{uuid.uuid4().hex[:10]}"
        report = self.agent.carry_out(
            "deploy",
            {
                "service_id": self.service,
                "deployment_id": deployment,
                "service_name": "web",
                "project_name": self.token,
                "image": image or f"{self.token}:v1",
                "config": {"port": 8080, "replicas": replicas},
                "timeout_seconds": 60,
            },
            timeout=90,
        )
        assert report["status"] == "running", report
        return deployment

    def replicas(self) -> list[str]:
        """What `ps` counts, by id."""
        answer = self.agent.ask("status", {})["data"]
        return [
            container["container_id"]
            for service in answer["services"]
            if service["service_id"] == self.service
            for container in service["containers"]
        ]

    def warnings(self) -> list[str]:
        found: list[str] = self.agent.ask("status", {})["data"]["warnings"]
        return found

    def copy(self, container: str, name: str, *, network: str = "", start: bool = True, index: str = "") -> str:
        """A container by hand from an image of another one, with a file of somebody's in it; its id."""
        repository = f"{self.token}-copy-{name}"
        api("POST", "/commit", query={"container": container, "repo": repository, "tag": "mine", "pause": "1"})
        body = {
            "Image": f"{repository}:mine",
            "Labels": {"syntra.replica": index} if index else {},
            "HostConfig": {"NetworkMode": network or network_of(self.token)},
        }
        made = str(api("POST", "/containers/create", body, query={"name": f"{name}-{self.token}"})["Id"])
        raw("PUT", f"/containers/{made}/archive", _tar(), query={"path": "/tmp"})
        if start:
            api("POST", f"/containers/{made}/start")
        return made


def _tar() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        entry = tarfile.TarInfo("precious")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"mine"))
    return target.getvalue()


def is_untouched(container: str, state: str) -> bool:
    """Whether it is as it was left, with the file in it."""
    raw("GET", f"/containers/{container}/archive", query={"path": "/tmp/precious"})
    now = api("GET", f"/containers/{container}/json")
    return bool(now["State"]["Status"] == state and now["RestartCount"] == 0)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    require_engine()
    token = new_token()
    busybox_image(f"{token}:v1")
    busybox_image(f"{token}:v2", "2")
    try:
        with AgentProcess(tmp_path / "agent") as agent:
            yield Stage(token=token, agent=agent)
    finally:
        cleanup(token)


def test_copies_of_replicas_are_never_counted_nor_stopped_nor_removed(stage: Stage) -> None:
    first = stage.deploy()
    [old] = stage.replicas()
    of_older = stage.copy(old, "older")
    stage.deploy(f"{stage.token}:v2")
    [replica] = stage.replicas()
    copies = {
        of_older: "running",
        stage.copy(replica, "running"): "running",
        stage.copy(replica, "created", start=False): "created",
        stage.copy(replica, "lonely", network="none"): "running",
        # What somebody adds makes it no replica either.
        stage.copy(replica, "numbered", index="2"): "running",
    }
    names = {"older", "running", "created", "lonely", "numbered"}

    def said() -> set[str]:
        return {name for name in names for line in stage.warnings() if f"container {name}-{stage.token} " in line}

    def all_as_before() -> bool:
        return all(is_untouched(container, state) for container, state in copies.items())

    wait_until(lambda: said() == names, "status names all of them", 10)
    assert stage.replicas() == [replica]
    report = stage.agent.carry_out("scale", {"service_id": stage.service, "replicas": 2})
    assert report["status"] == "running"
    assert len(stage.replicas()) == 2
    assert all_as_before()
    # The next deploy takes away all that was there, of the service's own.
    stage.deploy()
    assert not {replica, *copies} & set(stage.replicas())
    assert all_as_before()
    report = stage.agent.carry_out("rollback", {"service_id": stage.service, "target_deployment_id": first})
    assert report["status"] == "running", report
    assert all_as_before()
    # A journal that is lost is rebuilt from what is ours.
    before = stage.replicas()
    stage.agent.stop()
    for file in stage.agent.data_dir.glob("journal.db*"):
        file.unlink()
    stage.agent.start()
    wait_until(lambda: stage.replicas() == before, "the journal is rebuilt", 10)
    assert said() == names
    # A copy that ends tells of no crash, and nothing brings it back.
    api("POST", f"/containers/{of_older}/kill")
    copies[of_older] = "exited"
    assert stage.agent.ask("restart", {"service_id": stage.service, "timeout_seconds": 2})["success"]
    assert all_as_before()
    assert [a for a in stage.agent.ask("status", {})["data"]["alerts"] if a["type"] == "container_crash"] == []
    assert stage.agent.ask("stop", {"service_id": stage.service, "remove_container": True})["success"]
    assert all_as_before()
    assert stage.replicas() == []
    assert f"syntra-{stage.token}" not in {network["Name"] for network in api("GET", "/networks")}


def test_a_service_may_be_deployed_from_a_copy_s_image(stage: Stage) -> None:
    stage.deploy()
    [replica] = stage.replicas()
    copy = stage.copy(replica, "base")
    stage.deploy(f"{stage.token}-copy-base:mine", replicas=2)
    now = stage.replicas()
    assert len(now) == 2
    assert copy not in now
    # The keeper takes them for the service's as well.
    api("DELETE", f"/containers/{now[0]}", query={"force": "1"})
    wait_until(lambda: len(stage.replicas()) == 2 and now[0] not in stage.replicas(), "it comes back", 20)
    assert is_untouched(copy, "running")
    again = stage.copy(now[1], "again")
    stage.deploy()
    assert len(stage.replicas()) == 1
    assert is_untouched(again, "running")


def test_containers_of_an_agent_before_this_one_are_still_ours(stage: Stage) -> None:
    stage.deploy()
    [replica] = stage.replicas()
    stage.agent.stop()
    made = api("GET", f"/containers/{replica}/json")
    labels = {key: value for key, value in made["Config"]["Labels"].items() if key != "syntra.instance"}
    body = {
        "Image": made["Config"]["Image"],
        "Labels": {**labels, TOKEN_LABEL: stage.token},
        "Env": made["Config"]["Env"],
        "HostConfig": {"NetworkMode": made["HostConfig"]["NetworkMode"], "RestartPolicy": {"Name": "always"}},
    }
    api("DELETE", f"/containers/{replica}", query={"force": "1"})
    earlier = str(api("POST", "/containers/create", body, query={"name": f"earlier-{stage.token}"})["Id"])
    api("POST", f"/containers/{earlier}/start")
    copy = stage.copy(earlier, "copy")
    stage.agent.start()
    wait_until(lambda: stage.replicas() == [earlier], "it is taken up", 10)
    stage.deploy()
    assert is_untouched(copy, "running")
    left = api("GET", "/containers/json", query={"all": "1", "filters": json.dumps({"id": [earlier]})})
    assert left == [], "the deploy replaced it"
