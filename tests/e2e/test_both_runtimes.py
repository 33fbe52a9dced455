"""The same commands on Docker and on Kubernetes: the same answers, statuses and exit codes, from one file of tests."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, running_cluster
from tests.e2e.fleet import Fleet, containers, fleet
from tests.e2e.program import AGENT
from tests.engine import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]
ORDER = ("pending", "pulling", "creating", "starting", "health_checking")
PROBE = {"type": "http", "path": "/health", "interval_seconds": 1, "timeout_seconds": 1, "retries": 3}


@dataclass(frozen=True, slots=True)
class Stage:
    """A control plane, and an agent on one of the runtimes. `cluster` is None on Docker."""

    fleet: Fleet
    cluster: Cluster | None

    def run(self, *words: str, stdin: bytes = b"", timeout: float = 60.0) -> subprocess.CompletedProcess[bytes]:
        """One verb of the command line."""
        command = [*AGENT, "--socket", str(self.fleet.agent.socket), *words]
        return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, timeout=timeout, check=False)

    def payload(self, service: str, version: str = "v1", **changes: Any) -> dict[str, Any]:
        config = {"health_check": PROBE, **changes.pop("config", {})}
        return self.fleet.payload(service, version, config=config, **changes)

    def running(self, service: str) -> list[str]:
        """The deployments of what runs, by the word of the engine or the cluster."""
        if self.cluster is None:
            running = [item for item in containers(service) if item["State"] == "running"]
            return sorted(str(item["Labels"]["syntra.deployment_id"]) for item in running)
        listed = self.cluster.get("pods", "-A", "-l", f"syntra.dev/service-id={service}")["items"]
        return sorted(
            str(pod["metadata"]["annotations"]["syntra.dev/deployment-id"])
            for pod in listed
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        )

    def wait_running(self, service: str, deployment: dict[str, Any], replicas: int) -> None:
        """Exactly these run; a cluster may still be ending others."""
        wanted = [deployment["deployment_id"]] * replicas
        wait_until(lambda: self.running(service) == wanted, f"{replicas} of {service}: {self.running(service)}")

    def statuses(self, deployment: str) -> list[str]:
        """The statuses that the control plane got, in the order in which each came first."""
        events = self.fleet.plane.client.deployment(deployment)["events"]
        return list(dict.fromkeys(event["status"] for event in events))

    def listed(self, service: str) -> list[dict[str, Any]]:
        """The running replicas in the agent's own list."""
        services = self.fleet.agent.ask("list_services", {})["data"]["services"]
        [mine] = [one for one in services if one["service_id"] == service]
        return [one for one in mine["containers"] if one["status"] == "running"]

    def deployed(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Deploy, and insist that it runs and that the statuses come in their order."""
        outcome = self.fleet.running(payload)
        *before, last = self.statuses(outcome["deployment_id"])
        assert last == "running"
        assert before == [status for status in ORDER if status in before]
        assert {"creating", "starting", "health_checking"} <= set(before)
        return outcome


@pytest.fixture(scope="module", params=["docker", "kubernetes"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "docker":
        with fleet(folder) as whole:
            yield Stage(whole, None)
        return
    cluster = running_cluster()
    config = (
        f'[runtime]\nruntime_type = "kubernetes"\nkubernetes_config = "{cluster.kubeconfig}"\nmin_healthy_secs = 0\n'
        "[kubernetes]\nscale_down_delay_seconds = 1\n"
    )
    with fleet(folder, config=config) as whole:
        try:
            yield Stage(whole, cluster)
        finally:
            cluster.kubectl("delete", "namespace", "--wait=false", "--ignore-not-found", f"syntra-{whole.token}")


def test_a_service_from_its_first_deploy_to_its_removal(stage: Stage) -> None:
    product, service = stage.fleet, stage.fleet.service()
    first = stage.deployed(stage.payload(service, config={"replicas": 2}))
    stage.wait_running(service, first, 2)
    second = stage.deployed(stage.payload(service, "v2", config={"replicas": 2}))
    stage.wait_running(service, second, 2)

    assert product.lasting("scale", {"service_id": service, "replicas": 3})["status"] == "running"
    stage.wait_running(service, second, 3)
    assert product.lasting("scale", {"service_id": service, "replicas": 1})["status"] == "running"
    stage.wait_running(service, second, 1)

    [replica] = stage.listed(service)
    assert product.send("restart", {"service_id": service}, wait=60)["success"]
    [again] = stage.listed(service)
    assert again["started_at"] > replica["started_at"]

    back = product.lasting("rollback", {"service_id": service})
    assert (back["status"], back["deployment_id"]) == ("running", first["deployment_id"])
    stage.wait_running(service, first, 1)

    stopped = product.send("stop", {"service_id": service, "timeout_seconds": 2}, wait=60)
    assert stopped["success"], stopped
    assert stage.running(service) == []
    removed = product.send("stop", {"service_id": service, "timeout_seconds": 2, "remove_container": True}, wait=60)
    assert removed["success"], removed
    assert product.send("stop", {"service_id": service}, wait=60)["success"] is False


@pytest.mark.soak
def test_a_service_returns_to_the_oldest_of_its_last_ten_deployments(stage: Stage) -> None:
    service = stage.fleet.service("many")
    deployed = [
        stage.deployed(stage.payload(service, f"v{number % 2 + 1}", env_vars={"NUMBER": str(number)}))["deployment_id"]
        for number in range(11)
    ]
    listed = stage.fleet.agent.ask("list_deployments", {"service_id": service})["data"]["deployments"]
    assert {one["deployment_id"]: one["can_roll_back"] for one in listed} == {
        deployment: number > 0 for number, deployment in enumerate(deployed)
    }
    back = stage.fleet.lasting("rollback", {"service_id": service, "target_deployment_id": deployed[1]})
    assert (back["status"], back["deployment_id"]) == ("running", deployed[1]), back
    assert stage.fleet.exec(service, "sh", "-c", "echo $NUMBER")["stdout"] == "1\n"
    refused = stage.fleet.send("rollback", {"service_id": service, "target_deployment_id": deployed[0]}, wait=60)
    assert not refused["success"], refused


def test_restart_and_stop_with_a_time_of_their_own_wait_no_longer_than_that(stage: Stage) -> None:
    """The service ignores its stop signal, and its own spec would leave it a minute."""
    service = stage.fleet.service("deaf")
    config = {"stop_grace_seconds": 60}
    stage.deployed(stage.payload(service, config=config, env_vars={"FAIL": "deaf"}))
    began = time.monotonic()
    for kind in ("restart", "stop"):
        answer = stage.fleet.send(kind, {"service_id": service, "timeout_seconds": 1}, wait=90)
        assert answer["success"], answer
    assert time.monotonic() - began < 45
    # Also the pods that the restart has replaced.
    wait_until(lambda: stage.running(service) == [], "none runs", 5)


def test_a_failed_deploy_says_why_and_the_version_before_serves_on(stage: Stage) -> None:
    product = stage.fleet
    names = {why: product.service(why) for why in ("absent", "crash", "unhealthy")}
    serving = {why: stage.payload(service) for why, service in names.items()}
    for payload in serving.values():
        product.begin(payload)
    for why, payload in serving.items():
        assert product.outcome(payload["deployment_id"])["status"] == "running"
        stage.wait_running(names[why], payload, 1)
    absent = stage.payload(names["absent"])
    absent["image"] = {**absent["image"], "tag": "nope"}
    wrong = {
        "absent": absent,
        "crash": stage.payload(names["crash"], "v2", env_vars={"FAIL": "exit"}),
        "unhealthy": stage.payload(names["unhealthy"], "v2", env_vars={"FAIL": "unhealthy"}),
    }
    begun = {why: product.begin(payload) for why, payload in wrong.items()}
    ended = {why: product.outcome(deployment, wait=90) for why, deployment in begun.items()}
    for why, (code, words) in {
        "absent": ("PULL_FAILED", "nope"),
        "crash": ("CONTAINER_CRASHED", "exited with code 3"),
        "unhealthy": ("HEALTH_CHECK_FAILED", "404"),
    }.items():
        assert ended[why]["status"] == "rolled_back", ended[why]
        error = ended[why]["error"]
        assert error["code"] == code and words in error["message"], error
        stage.wait_running(names[why], serving[why], 1)
        assert stage.statuses(begun[why])[-1] == "rolled_back"
    assert "failing as told" in str(ended["crash"])


def test_a_secret_reaches_the_service_alone(stage: Stage) -> None:
    product, value = stage.fleet, f"secret-{uuid.uuid4().hex}"
    assert stage.run("secrets", "set", "db_url", stdin=f"{value}\n".encode()).returncode == 0
    wanted = {
        "name": "keeper",
        "project": product.token,
        "image": f"{product.images.repository}:v1",
        "port": 8080,
        "env": {"DATABASE_URL": {"secret": "db_url"}},
        "timeout": 60,
    }
    deployed = stage.run("deploy", "-", stdin=json.dumps(wanted).encode(), timeout=90)
    assert deployed.returncode == 0, deployed
    said = stage.run("exec", "keeper", "--", "sh", "-c", "echo $DATABASE_URL")
    assert said.stdout.decode() == f"{value}\n", said
    shown = [stage.run(verb, "keeper", "--json").stdout for verb in ("status", "deployments")]
    assert all(b"keeper" in one and value.encode() not in one for one in shown)
    if stage.cluster is not None:
        kinds = "deployments,replicasets,pods,events"
        listed = json.dumps(stage.cluster.get(kinds, "-n", f"syntra-{product.token}"))
        assert "keeper" in listed and value not in listed, "only the Secret has it"
    assert stage.run("rm", "keeper").returncode == 0
    assert stage.run("secrets", "rm", "db_url").returncode == 0


def test_the_last_service_of_a_project_can_be_deployed_again_right_after_its_removal(stage: Stage) -> None:
    """The cluster still deletes the namespace then."""
    image, project = f"{stage.fleet.images.repository}:v1", f"{stage.fleet.token}-last"
    wanted = json.dumps({"name": "last", "project": project, "image": image, "port": 8080}).encode()
    try:
        for _ in range(2):
            deployed = stage.run("deploy", "-", stdin=wanted, timeout=90)
            assert deployed.returncode == 0, deployed
            removed = stage.run("rm", f"{project}/last")
            assert removed.returncode == 0, removed
    finally:
        if stage.cluster is not None:
            stage.cluster.kubectl("delete", "namespace", "--wait=false", "--ignore-not-found", f"syntra-{project}")


def test_logs_and_exec_of_a_service(stage: Stage) -> None:
    service = stage.fleet.service("tools")
    stage.deployed(stage.payload(service))
    wait_until(lambda: b"serving v1 on 8080" in stage.run("logs", service).stdout, "the log")
    follower = subprocess.Popen(
        [*AGENT, "--socket", str(stage.fleet.agent.socket), "logs", "-f", "--tail", "1", service],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    watchdog = threading.Timer(30, follower.kill)
    watchdog.start()
    try:
        assert follower.stdout is not None
        assert b"serving v1" in follower.stdout.readline()
        mark = uuid.uuid4().hex.encode()
        said = stage.run("exec", service, "--", "sh", "-c", f"echo {mark.decode()} >/proc/1/fd/1")
        assert said.returncode == 0, said
        assert mark in follower.stdout.readline()
    finally:
        watchdog.cancel()
        follower.kill()
        follower.communicate()

    ended = stage.run("exec", service, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, b"out\n", b"err\n")
    ended = stage.run("exec", "-w", "/tmp", "-e", "A=b c", service, "sh", "-c", "pwd; echo $A")
    assert (ended.returncode, ended.stdout) == (0, b"/tmp\nb c\n")
    binary = bytes(range(256)) * 2048
    assert stage.run("exec", "-i", service, "cat", stdin=binary).stdout == binary
    assert stage.run("exec", service, "no-such-program").returncode in (126, 127)
    late = stage.run("exec", "--timeout", "1", service, "sleep", "1003")
    assert late.returncode not in (0, 1003) and b"1 s" in late.stderr, late
    assert b"1003" not in stage.run("exec", service, "sh", "-c", "ps | grep -v grep | grep '[s]leep'").stdout
    answer = stage.fleet.exec(service, "sh", "-c", "echo hello; exit 3")
    assert (answer["exit_code"], answer["stdout"]) == (3, "hello\n")
