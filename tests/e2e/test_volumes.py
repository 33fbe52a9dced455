"""Data outlives deploys, and belongs to one project: a real agent on a real engine."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.engine import EngineRefused, api, busybox_image, cleanup, new_token, raw, require_engine, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

# Each start adds a line to the volume's file, and says so when another replica writes there at the same time.
PROGRAM = """
trap 'rm -f /data/writer; exit 0' TERM
[ -e /data/writer ] && echo "second writer" >> /data/log
touch /data/writer
echo "$VERSION" >> /data/log
while :; do sleep 0.1 & wait $!; done
"""


@dataclass(slots=True)
class Stage:
    token: str
    agent: AgentProcess

    @property
    def service(self) -> str:
        return f"svc-{self.token}"

    def payload(self, version: str, *, service: str = "", project: str = "", **config: Any) -> dict[str, Any]:
        return {
            "service_id": service or self.service,
            "deployment_id": f"d-{uuid.uuid4().hex[:10]}",
            "service_name": (service or "db").replace(self.token, "x"),
            "project_name": project or self.token,
            "image": f"{self.token}:v1",
            "config": {
                "replicas": 1,
                "command": ["/bin/sh", "-c", PROGRAM],
                "env_vars": {"VERSION": version},
                **config,
            },
            "timeout_seconds": 60,
        }

    def deploy(self, version: str, **changes: Any) -> dict[str, Any]:
        report = self.agent.carry_out("deploy", self.payload(version, **changes), timeout=90)
        assert report["status"] == "running", report
        return report

    def containers(self, service: str = "") -> list[dict[str, Any]]:
        query = {"all": "1", "filters": json.dumps({"label": [f"syntra.service_id={service or self.service}"]})}
        found: list[dict[str, Any]] = api("GET", "/containers/json", query=query)
        return sorted(found, key=lambda item: str(item["Labels"]["syntra.replica"]))

    def up(self, service: str = "") -> list[str]:
        return [str(item["Id"]) for item in self.containers(service) if item["State"] == "running"]

    def logs(self, service: str = "") -> list[list[str]]:
        """The lines of each replica's volume, by replica."""
        return [self.read(container) for container in self.up(service)]

    def are_logs(self, *expected: list[str]) -> bool:
        """Whether these are the lines now; False while a container stops."""
        try:
            return self.logs() == [*expected]
        except EngineRefused:
            return False

    def read(self, container: str) -> list[str]:
        made = api("POST", f"/containers/{container}/exec", {"Cmd": ["cat", "/data/log"], "AttachStdout": True})
        body = json.dumps({"Tty": True}).encode()
        answer = raw("POST", f"/exec/{made['Id']}/start", body, headers={"Content-Type": "application/json"})
        # A frame's header has 8 bytes (Engine API, "Attach to a container"); none of them is printable here.
        return [
            line.split("\x00")[-1].lstrip("\x01\x02\x03\x04\x05\x06\x07\x08\x0e\x0f").strip()
            for line in answer.decode(errors="replace").splitlines()
        ]

    def mounted(self, service: str = "") -> list[str]:
        """The volume at /data of each replica."""
        return [
            str(mount["Name"])
            for item in self.containers(service)
            if item["State"] == "running"
            for mount in item["Mounts"]
            if mount["Destination"] == "/data"
        ]

    def volumes(self) -> set[str]:
        return {str(volume["Name"]) for volume in api("GET", "/volumes")["Volumes"] or []}

    def make_by_hand(self, **changes: Any) -> str:
        """The container that an agent from before volumes had names would have made; started."""
        payload = self.payload(**changes)
        self.agent.carry_out("deploy", payload, timeout=90)
        [container] = self.containers()
        made = api("GET", f"/containers/{container['Id']}/json")
        self.agent.kill()
        api("DELETE", f"/containers/{container['Id']}", query={"force": "1"})
        for mount in made["Mounts"]:
            api("DELETE", f"/volumes/{mount['Name']}", query={"force": "1"})
        host = {**made["HostConfig"], "Mounts": self.old_mounts(payload)}
        body = {**made["Config"], "HostConfig": host, "Labels": made["Config"]["Labels"]}
        again = api("POST", "/containers/create", body, query={"name": made["Name"].lstrip("/")})
        api("POST", f"/containers/{again['Id']}/start")
        self.agent.start()
        return str(again["Id"])

    @staticmethod
    def old_mounts(payload: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {"Type": "volume", "Source": volume["name"], "Target": volume["container_path"]}
            for volume in payload["config"].get("volumes", [])
        ]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    require_engine()
    token = new_token()
    busybox_image(f"{token}:v1", changes=["VOLUME /data"])
    busybox_image(f"{token}:plain")
    try:
        with AgentProcess(tmp_path / "agent") as agent:
            yield Stage(token=token, agent=agent)
    finally:
        left = [
            m["Name"]
            for c in api("GET", "/containers/json", query={"all": "1"})
            for m in c["Mounts"]
            if token in json.dumps(c["Labels"]) and m["Type"] == "volume"
        ]
        cleanup(token)
        for name in left:
            if token not in name:
                api("DELETE", f"/volumes/{name}", query={"force": "1"})


def test_what_is_written_to_an_images_volume_stays_over_all_that_is_done_to_the_service(stage: Stage) -> None:
    stage.deploy("v1")
    [volume] = stage.mounted()
    assert volume == f"{stage.token}_{stage.service}_data_1"
    report = stage.deploy("v2")
    assert (
        "the old container stops before the new one starts: the image's volume /data has a single writer"
        in (report["message"])
    )
    assert stage.logs() == [["v1", "v2"]]
    stage.agent.carry_out("scale", {"service_id": stage.service, "replicas": 2})
    assert stage.logs() == [["v1", "v2"], ["v2"]]
    stage.agent.carry_out("scale", {"service_id": stage.service, "replicas": 1})
    assert stage.agent.ask("restart", {"service_id": stage.service, "timeout_seconds": 5})["success"]
    assert stage.logs() == [["v1", "v2", "v2"]]
    stage.agent.carry_out("rollback", {"service_id": stage.service})
    assert stage.logs() == [["v1", "v2", "v2", "v1"]]
    [container] = stage.up()
    api("DELETE", f"/containers/{container}", query={"force": "1", "v": "1"})
    wait_until(lambda: stage.are_logs(["v1", "v2", "v2", "v1", "second writer", "v1"]), "it is made again", 30)
    answer = stage.agent.ask("stop", {"service_id": stage.service, "remove_container": True, "timeout_seconds": 5})
    # The second replica's container went when the service was scaled down; its volume did not.
    assert answer["data"]["notes"] == [f"these volumes stay: {volume}"]
    assert {volume, f"{stage.token}_{stage.service}_data_2"} <= stage.volumes()
    stage.deploy("v3")
    assert stage.logs()[0][-1] == "v3"
    assert stage.logs()[0][0] == "v1"


def test_a_plan_tells_of_the_image_volume_and_of_one_that_is_not_known_yet(stage: Stage) -> None:
    unknown = stage.agent.ask("plan", {**stage.payload("v0"), "image": "127.0.0.1:1/nothing:1"})["data"]
    assert unknown["notes"] == ["the volumes that the image declares are known once the image is here"]
    stage.deploy("v1")
    planned = stage.agent.ask("plan", stage.payload("v2"))["data"]
    texts = [step["text"] for step in planned["steps"]]
    assert f"ensure volume {stage.token}_{stage.service}_data_1" in texts
    assert (
        texts.index("create replica 1")
        < next(i for i, t in enumerate(texts) if t.startswith("stop "))
        < (texts.index("start replica 1"))
    )
    assert planned["notes"] == [
        "the old container stops before the new one starts: the image's volume /data has a single writer; "
        "set image_volumes: discard if its content is not worth keeping"
    ]


def test_two_replicas_are_replaced_one_after_the_other_on_their_own_volumes(stage: Stage) -> None:
    stage.deploy("v1", replicas=2)
    before = stage.mounted()
    least: list[int] = []
    done = threading.Event()

    def count() -> None:
        while not done.is_set():
            least.append(len(stage.up()))
            time.sleep(0.02)

    watching = threading.Thread(target=count)
    watching.start()
    try:
        report = stage.deploy("v2", replicas=2)
    finally:
        done.set()
        watching.join()
    assert min(least) == 1
    assert "each old container stops before the new one with its volume starts" in report["message"]
    assert stage.mounted() == before
    assert stage.logs() == [["v1", "v2"], ["v1", "v2"]]


def test_a_deploy_that_fails_leaves_the_data_and_the_version_that_had_it(stage: Stage) -> None:
    stage.deploy("v1", replicas=2)
    # With a check it is not healthy in the moment before it exits.
    check = {"type": "tcp", "interval_seconds": 1}
    broken = stage.payload("v2", replicas=2, command=["/bin/sh", "-c", "exit 3"], port=8080, health_check=check)
    report = stage.agent.carry_out("deploy", broken, timeout=90)
    assert report["status"] == "rolled_back", report
    assert [lines[0] for lines in stage.logs()] == ["v1", "v1"]
    assert not any("second writer" in lines for lines in stage.logs())


def test_an_agent_killed_in_the_middle_of_a_deploy_keeps_the_data(stage: Stage) -> None:
    stage.deploy("v1", replicas=2)
    with stage.agent.client() as client:
        assert client.ask("deploy", stage.payload("v2", replicas=2))["success"]
        wait_until(lambda: len(stage.containers()) > 2, "the deploy has begun", 30)
    stage.agent.kill()
    stage.agent.start()
    wait_until(lambda: stage.are_logs(["v1", "v2"], ["v1", "v2"]), f"it is finished: {stage.agent.text()[-500:]}", 60)


def test_an_anonymous_volume_of_an_earlier_agent_is_kept(stage: Stage) -> None:
    stage.make_by_hand(version="v1")
    [anonymous] = stage.mounted()
    assert len(anonymous) == 64
    for version in ("v2", "v3"):
        stage.deploy(version)
    assert stage.mounted() == [anonymous]
    assert stage.logs() == [["v1", "v2", "v3"]]
    answer = stage.agent.ask("stop", {"service_id": stage.service, "remove_container": True, "timeout_seconds": 5})
    assert answer["data"]["notes"] == [f"these volumes stay: {anonymous}"]
    assert anonymous in stage.volumes()


def test_what_is_told_to_be_worth_nothing_goes_with_its_container(stage: Stage) -> None:
    stage.deploy("v1", image_volumes="discard")
    [first] = stage.mounted()
    report = stage.deploy("v2", image_volumes="discard")
    assert "single writer" not in report["message"]
    assert stage.logs() == [["v2"]]
    assert first not in stage.volumes()
    [second] = stage.mounted()
    # From now on it is to be kept, and what is there now is.
    stage.deploy("v3")
    assert stage.mounted() == [second]
    assert stage.logs() == [["v2", "v3"]]


def data_volume(stage: Stage, name: str = "data", **changes: Any) -> list[dict[str, Any]]:
    return [{"name": name, "container_path": "/data", **changes}]


def test_two_projects_with_a_volume_of_one_name_do_not_share_it(stage: Stage) -> None:
    name = f"n{stage.token}"
    staging = f"{stage.token}-staging"
    stage.deploy("v1", volumes=data_volume(stage, name))
    stage.deploy("s1", service=f"{stage.service}-staging", project=staging, volumes=data_volume(stage, name))
    assert stage.mounted() == [f"{stage.token}_{name}"]
    assert stage.mounted(f"{stage.service}-staging") == [f"{staging}_{name}"]
    assert stage.logs() == [["v1"]]
    labels = api("GET", f"/volumes/{stage.token}_{name}")["Labels"]
    assert labels == {"syntra.managed": "true", "syntra.project": stage.token}


def test_a_volume_under_its_bare_name_stays_with_the_service_that_uses_it_and_no_other_project_gets_it(
    stage: Stage,
) -> None:
    name = f"n{stage.token}"
    stage.make_by_hand(version="v1", volumes=data_volume(stage, name))
    assert stage.mounted() == [name]
    stage.deploy("v2", volumes=data_volume(stage, name))
    assert stage.mounted() == [name]
    assert stage.logs() == [["v1", "v2"]]
    staging = f"{stage.token}-staging"
    stage.deploy("s1", service=f"{stage.service}-staging", project=staging, volumes=data_volume(stage, name))
    assert stage.mounted(f"{stage.service}-staging") == [f"{staging}_{name}"]


def test_an_external_volume_has_its_bare_name_and_must_exist(stage: Stage) -> None:
    name = f"n{stage.token}"
    wanted = stage.payload("v1", volumes=data_volume(stage, name, external=True))
    for kind in ("plan", "deploy"):
        refused = stage.agent.carry_out(kind, wanted)
        assert refused["error"]["code"] == "VOLUME_NOT_FOUND", refused
        assert refused["error"]["message"].startswith(f"cannot use volume {name}: it does not exist; create it")
    assert name not in stage.volumes()
    api("POST", "/volumes/create", {"Name": name})
    assert stage.agent.carry_out("deploy", wanted)["status"] == "running"
    assert stage.mounted() == [name]


def test_two_services_that_write_to_one_volume_are_told(stage: Stage) -> None:
    name = f"n{stage.token}"
    other = f"{stage.service}-worker"
    stage.deploy("v1", volumes=data_volume(stage, name))
    second = stage.payload("w1", service=other, volumes=data_volume(stage, name))
    sentence = f"volume {stage.token}_{name} is also mounted writable by service db"
    assert sentence in stage.agent.ask("plan", second)["data"]["notes"]
    assert sentence in stage.agent.carry_out("deploy", second)["message"]
    reader = stage.payload("r1", service=f"{other}-2", volumes=data_volume(stage, name, read_only=True))
    assert not any("writable" in note for note in stage.agent.ask("plan", reader)["data"]["notes"])


def test_a_copy_of_a_replica_that_mounts_a_volume_is_not_the_service_itself(stage: Stage) -> None:
    name = f"n{stage.token}"
    stage.deploy("v1", volumes=data_volume(stage, name))
    named = f"{stage.token}_{name}"
    [replica] = stage.up()
    api("POST", "/commit", query={"container": replica, "repo": f"{stage.token}-copy", "tag": "mine"})
    api("POST", "/volumes/create", {"Name": name})
    mounts = [{"Type": "volume", "Source": one, "Target": f"/{one}"} for one in (name, named)]
    api("POST", "/containers/create", {"Image": f"{stage.token}-copy:mine", "HostConfig": {"Mounts": mounts}})
    wanted = stage.payload("v2", volumes=data_volume(stage, name))
    notes = stage.agent.ask("plan", wanted)["data"]["notes"]
    assert f"volume {named} is also mounted writable by a container of another program" in notes
    # Nor does the copy make a volume the service's that has the bare name.
    assert stage.agent.carry_out("deploy", wanted)["status"] == "running"
    assert stage.mounted() == [named]


def test_one_internal_name_has_one_service(stage: Stage) -> None:
    stage.deploy("v1")
    clash = {**stage.payload("x", service=f"{stage.service}-2"), "service_name": "DB"}
    for kind in ("plan", "deploy"):
        refused = stage.agent.carry_out(kind, clash)
        assert refused["error"]["code"] == "NAME_CONFLICT", refused
        assert f"service_name: DB is a name of service db ({stage.service})" in refused["error"]["message"]
    assert stage.agent.ask("stop", {"service_id": stage.service, "remove_container": True, "timeout_seconds": 5})[
        "success"
    ]
    assert stage.agent.carry_out("deploy", clash)["status"] == "running"


def test_a_release_command_has_the_services_volumes_and_not_those_of_its_image(stage: Stage) -> None:
    name = f"n{stage.token}"
    before = stage.volumes()
    release = ["/bin/sh", "-c", "echo released >> /files/log; [ -e /data/log ] && exit 3; exit 0"]
    for version in ("v1", "v2"):
        files = [{"name": name, "container_path": "/files"}]
        stage.deploy(version, volumes=files, release_command=release)
    assert stage.logs() == [["v1", "v2"]]
    [container] = stage.up()
    made = api("POST", f"/containers/{container}/exec", {"Cmd": ["cat", "/files/log"], "AttachStdout": True})
    body = json.dumps({"Tty": False}).encode()
    shown = raw("POST", f"/exec/{made['Id']}/start", body, headers={"Content-Type": "application/json"})
    assert shown.count(b"released") == 2
    # The anonymous volumes of the release commands went with their containers.
    assert stage.volumes() - before == {f"{stage.token}_{name}", f"{stage.token}_{stage.service}_data_1"}
