"""What an agent does when the engine, its own journal or its own process goes away in the middle of something."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.private_engine import PrivateEngine
from tests.e2e.program import AGENT
from tests.engine import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

HEALTH = {"type": "http", "path": "/health", "interval_seconds": 0.5, "timeout_seconds": 1, "retries": 6}
# Long enough that a test can act in the middle of the start.
SLOW = {"FAIL": "slow", "SLOW": "3"}


@pytest.fixture(scope="module")
def shared() -> Iterator[PrivateEngine]:
    """An engine with two versions of the service, `app:v1` and `app:v2`."""
    with PrivateEngine() as private:
        for version in ("v1", "v2"):
            private.image(f"app:{version}", version)
        yield private


@pytest.fixture
def engine(shared: PrivateEngine) -> PrivateEngine:
    """The engine, up, whatever the test before has done to it."""
    if not shared.runs:
        shared.start()
    return shared


@pytest.fixture
def agent(engine: PrivateEngine, tmp_path: Path) -> Iterator[AgentProcess]:
    with AgentProcess(tmp_path, **inside(engine)) as process:
        yield process


def inside(engine: PrivateEngine) -> dict[str, Any]:
    """How an agent of this engine is started: in its network, so that health checks reach the containers."""
    return {"engine_socket": str(engine.socket), "command": (*engine.inside, *AGENT)}


def payload(service: str, version: str = "v1", **changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {"port": 8080, "replicas": changes.pop("replicas", 1), "health_check": dict(HEALTH)}
    config["env_vars"] = changes.pop("env_vars", {})
    if config["env_vars"].get("FAIL") == "slow":
        config["health_check"]["start_period_seconds"] = 30
    return {
        "deployment_id": f"d-{uuid.uuid4().hex[:8]}",
        "service_id": service,
        "project_name": "faults",
        "image": f"app:{version}",
        "config": config,
        "timeout_seconds": 90,
        **changes,
    }


def new_service() -> str:
    return f"svc-{uuid.uuid4().hex[:8]}"


def deployed(agent: AgentProcess, wanted: dict[str, Any]) -> dict[str, Any]:
    report = agent.carry_out("deploy", wanted)
    assert report.get("status") == "running", json.dumps(report)
    return report


class Beside:
    """A command carried out in a thread, while the test does harm."""

    def __init__(self, agent: AgentProcess, kind: str, wanted: dict[str, Any]) -> None:
        self._work: Callable[[], dict[str, Any]] = lambda: agent.carry_out(kind, wanted, timeout=120)
        self._thread = threading.Thread(target=self._run, name="beside")
        self._report: dict[str, Any] = {}
        self._thread.start()

    def _run(self) -> None:
        try:
            self._report = self._work()
        except (OSError, ConnectionError) as error:
            self._report = {"lost": str(error)}

    def report(self) -> dict[str, Any]:
        self._thread.join(120)
        assert self._report, "the command does not end"
        return self._report


def warnings(agent: AgentProcess) -> str:
    return "\n".join(agent.ask("status", {})["data"]["warnings"])


def replicas(agent: AgentProcess, service: str) -> dict[str, int] | None:
    for item in agent.ask("list_services", {})["data"]["services"]:
        if item["service_id"] == service:
            counted: dict[str, int] = item["replicas"]
            return counted
    return None


# The engine


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_deploy_goes_on_when_the_engine_is_back(engine: PrivateEngine, agent: AgentProcess, how: str) -> None:
    service = new_service()
    deployed(agent, payload(service))
    old = engine.running(service)
    newer = payload(service, "v2", env_vars=SLOW)
    work = Beside(agent, "deploy", newer)
    wait_until(lambda: len(engine.running(service)) == 2, "the new container starts")
    if how == "stopped":
        engine.stop()
    else:
        engine.kill()
    wait_until(lambda: not agent.ask("status", {})["data"]["runtime"]["reachable"], "the agent sees it")
    refused = agent.ask("deploy", payload(new_service()))
    assert refused["success"] is False, "a deploy without an engine is refused at once"
    engine.start()
    report = work.report()
    assert report.get("status") == "running", json.dumps(report)
    (left,) = engine.running(service)
    assert left not in old
    assert [c["Labels"]["syntra.deployment_id"] for c in engine.containers(service)] == [newer["deployment_id"]]
    assert agent.ask("stop", {"service_id": service, "remove_container": True})["success"]


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_deploy_goes_on_whenever_the_engine_went(engine: PrivateEngine, agent: AgentProcess, how: str) -> None:
    """The engine goes at the first status of a deploy, at the second, and so on, until a deploy has no more."""
    service, at = new_service(), 0
    current = deployed(agent, payload(service, replicas=2))["deployment_id"]
    while True:
        at += 1
        wanted = payload(service, "v2" if at % 2 else "v1", replicas=2)
        with agent.client(120) as client:
            client.send("deploy", wanted)
            statuses: list[dict[str, Any]] = []
            while not statuses or "finished_at" not in statuses[-1]:
                message = client.receive()
                assert message["payload"].get("success", True), message
                if message["type"] != "deploy_status":
                    continue
                statuses.append(message["payload"])
                if len(statuses) == at and "finished_at" not in statuses[-1]:
                    engine.stop() if how == "stopped" else engine.kill()
                    engine.start()
        end, where = statuses[-1], f"{how} at {statuses[min(at, len(statuses)) - 1]}"
        if end["status"] == "running":
            current = wanted["deployment_id"]
        else:
            # An engine that ends in the middle of a start may leave a task that it cannot start over (moby).
            assert end["status"] == "rolled_back" and "already exists" in end["message"], f"{where}: {end}"
        wait_until(lambda: len(engine.running(service)) == 2, f"both replicas run, {where}")
        left = engine.containers(service)
        assert {item["Labels"]["syntra.deployment_id"] for item in left} == {current}, f"{where}: {left}"
        assert len(left) == 2, f"{where}: {left}"
        if len(statuses) <= at:
            break
    print(f"the engine was {how} at each of {at - 1} statuses")


def test_services_outlive_the_agent_and_an_engine_that_comes_late(engine: PrivateEngine, tmp_path: Path) -> None:
    service = new_service()
    with AgentProcess(tmp_path, **inside(engine)) as agent:
        deployed(agent, payload(service))
        assert agent.stop() == 0
        assert len(engine.running(service)) == 1
        engine.stop()
        agent.start()
        status = agent.ask("status", {})["data"]
        assert status["runtime"]["reachable"] is False and warnings(agent)
        engine.start()
        wait_until(lambda: replicas(agent, service) == {"desired": 1, "running": 1}, "the service is seen again", 40)
        assert agent.ask("stop", {"service_id": service, "remove_container": True})["success"]


# The journal


@pytest.mark.parametrize("harm", ["overwritten", "cut", "deleted", "key replaced"])
def test_a_lost_journal_is_said_and_rebuilt_from_labels(
    engine: PrivateEngine, agent: AgentProcess, tmp_path: Path, harm: str
) -> None:
    service = new_service()
    first = payload(service, replicas=2, env_vars={"VERSION": "first", "SECRET_KEY": "canary-of-the-rebuild"})
    deployed(agent, first)
    before = engine.running(service)
    assert agent.stop() == 0
    journal = agent.data_dir / "journal.db"
    if harm == "overwritten":
        journal.write_bytes(os.urandom(32_768))
    elif harm == "cut":
        journal.write_bytes(journal.read_bytes()[:6000])
    elif harm == "deleted":
        journal.unlink()
    else:
        (agent.data_dir / "journal.key").unlink()
    agent.start()
    assert "journal" in warnings(agent), "a lost journal is not said"
    if harm != "deleted":
        assert list(agent.data_dir.glob("journal.db.broken-*")), "a broken journal is not kept for a person"
    assert engine.running(service) == before, "the containers were touched"
    assert replicas(agent, service) == {"desired": 2, "running": 2}
    assert agent.carry_out("scale", {"service_id": service, "replicas": 3})["status"] == "running"
    running = engine.running(service)
    assert len(running) == 3 and set(before) < set(running)
    for container in running:
        found = engine.api("GET", f"/containers/{container}/json")
        assert {"VERSION=first", "SECRET_KEY=canary-of-the-rebuild"} <= set(found["Config"]["Env"])
    back = agent.carry_out("rollback", {"service_id": service, "target_deployment_id": first["deployment_id"]})
    assert back["status"] == "running" and engine.running(service) == running
    deployed(agent, payload(service, "v2"))
    back = agent.carry_out("rollback", {"service_id": service})
    assert back["deployment_id"] == first["deployment_id"] and back["status"] == "running"
    assert agent.ask("stop", {"service_id": service, "remove_container": True})["success"]


# The agent's own process


def test_a_second_agent_on_the_same_folder_is_refused_in_one_line(
    agent: AgentProcess, engine: PrivateEngine, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(f'data_dir = "{agent.data_dir}"\nsocket = "/tmp/syntra-{uuid.uuid4().hex[:12]}.sock"\n')
    other.chmod(0o600)
    ended = subprocess.run(
        [*AGENT, "--config", other, "start"],
        env={**os.environ, "DOCKER_HOST": f"unix://{engine.socket}"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode not in {0, 2}
    assert ended.stdout == ""
    (line,) = [line for line in ended.stderr.splitlines() if line]
    assert str(agent.data_dir) in line and str(agent.pid) in line, line
    assert agent.ask("status", {})["success"]


def test_sigterm_lets_a_short_deploy_end(engine: PrivateEngine, agent: AgentProcess) -> None:
    service = new_service()
    wanted = payload(service, env_vars={"FAIL": "slow", "SLOW": "2"})
    work = Beside(agent, "deploy", wanted)
    wait_until(lambda: engine.running(service), "the container starts")
    assert agent.stop() == 0
    assert not agent.socket.exists()
    # Who waited on the local socket hears the end, though the agent takes nothing new.
    report = work.report()
    assert report.get("status") == "running", report
    agent.start()
    assert replicas(agent, service) == {"desired": 1, "running": 1}
    assert _unfinished(agent) == 0
    assert agent.ask("stop", {"service_id": service, "remove_container": True})["success"]


def test_sigterm_parks_a_long_deploy_and_the_next_start_finishes_it(engine: PrivateEngine, agent: AgentProcess) -> None:
    service, request = new_service(), f"req-{uuid.uuid4()}"
    deployed(agent, payload(service))
    wanted = payload(service, "v2", env_vars={"FAIL": "slow", "SLOW": "14"})
    response = agent.ask("deploy", wanted, request_id=request)
    assert response["success"], response
    wait_until(lambda: len(engine.running(service)) == 2, "the new container starts")
    assert agent.stop() == 0
    assert not agent.socket.exists()
    assert len(engine.running(service)) == 2, "parking touches nothing"
    assert _unfinished(agent) == 1
    agent.start()
    wait_until(lambda: _unfinished(agent) == 0, "the next start finishes the deploy")
    (left,) = engine.containers(service)
    assert left["Labels"]["syntra.deployment_id"] == wanted["deployment_id"]
    again = agent.carry_out("deploy", wanted, request_id=request)
    assert again["status"] == "running"
    assert agent.ask("stop", {"service_id": service, "remove_container": True})["success"]


def test_sigterm_while_a_deaf_container_is_stopped_ends_the_agent_in_order(
    engine: PrivateEngine, agent: AgentProcess
) -> None:
    """The engine waits 40 s for the container; the agent does not, and the next start takes the stop up again."""
    service = new_service()
    deployed(agent, payload(service, env_vars={"FAIL": "deaf"}))
    work = Beside(agent, "stop", {"service_id": service, "timeout_seconds": 40, "remove_container": True})
    wait_until(lambda: _unfinished(agent) == 1, "the stop begins")
    assert agent.stop() == 0, agent.text()[-3000:]
    assert "Traceback" not in agent.text()
    work.report()
    for item in engine.containers(service):
        engine.api("POST", f"/containers/{item['Id']}/kill")
    agent.start()
    wait_until(lambda: engine.containers(service) == [], "the next start finishes the stop")


def test_a_signal_in_the_middle_of_the_start_is_heeded(engine: PrivateEngine, tmp_path: Path) -> None:
    """SIGHUP must not end an agent that comes up, and SIGTERM ends it in order."""
    agent = AgentProcess(tmp_path, **inside(engine))
    agent.launch()
    wait_until(lambda: (agent.data_dir / "agent.lock").exists(), "the agent comes up")
    agent.signal(signal.SIGHUP)
    assert agent.stop() == 0, agent.text()
    assert "configuration reloaded" in agent.text()
    assert not agent.socket.exists()


def test_sighup_takes_the_new_level_and_says_what_needs_a_restart(agent: AgentProcess) -> None:
    def reloaded() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in agent.text().splitlines()]
        return [line for line in lines if "reloaded" in line["message"]]

    config = agent.config.read_text()
    other_port = config.replace('receivers = "off"', 'receivers = "off"\notlp_http_port = 14318')
    agent.config.write_text(other_port + '[logging]\nlevel = "debug"\n')
    agent.signal(signal.SIGHUP)
    wait_until(lambda: len(reloaded()) == 1, "the reload")
    assert "otlp_http_port" in json.dumps(reloaded()[0])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(agent.socket))
        client.sendall(b'{"cut')
    wait_until(lambda: '"level":"debug"' in agent.text(), "a line at the new level")
    agent.config.write_text(config + "[logging]\nlevel = 7\n")
    agent.signal(signal.SIGHUP)
    wait_until(lambda: "configuration was not reloaded" in agent.text(), "the refusal")
    assert agent.ask("status", {})["success"], "a wrong file must not end a running agent"
    agent.config.write_text(config)
    assert agent.stop() == 0
    assert not agent.socket.exists()


def _unfinished(agent: AgentProcess) -> int:
    connection = sqlite3.connect(f"file:{agent.data_dir}/journal.db?mode=ro", uri=True, timeout=5)
    try:
        return int(connection.execute("SELECT count(*) FROM operations").fetchone()[0])
    finally:
        connection.close()
