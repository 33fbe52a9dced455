"""The whole agent, installed and supervised, is updated: good releases stay, bad ones go, containers never notice."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import syntra
from syntra.update import layout
from tests.e2e.fleet import ControlPlaneProcess, Fleet, containers, enrolled, inspect
from tests.e2e.served_images import served_images
from tests.e2e.supervised_agent import SupervisedAgent, real_program
from tests.e2e.telemetry_stage import SpanSender, free_ports
from tests.engine import wait_until
from tests.update.release_site import ReleaseSite, stand_in

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

CONFIRM_SECS = 1.0
TIMEOUT_SECS = 12.0
UNCONNECTED = 'os.environ["SYNTRA_CONTROL_PLANE__ENDPOINT"] = "ws://127.0.0.1:9/agent/ws"'


class Stage:
    """A fleet whose agent is installed as version 1.0.0, a release server, and a service that runs."""

    def __init__(self, fleet: Fleet, agent: SupervisedAgent, site: ReleaseSite) -> None:
        self.fleet = fleet
        self.agent = agent
        self.site = site
        self.service = fleet.service()

    def deploy(self) -> None:
        self.fleet.running(self.fleet.payload(self.service))
        self.before = self.life()

    def life(self) -> tuple[str, str, int]:
        """What a restart of the service's container would change."""
        found = inspect(self.service)
        return found["Id"], found["State"]["StartedAt"], found["RestartCount"]

    def status(self) -> dict[str, Any]:
        try:
            return self.fleet.status()
        except (OSError, ConnectionError):
            # Between two processes.
            return {}

    def ended(self, version: str, timeout: float = 90.0) -> dict[str, Any]:
        """How the update to a version ended, once the agent that is left is connected."""

        def last() -> dict[str, Any]:
            status = self.status()
            found: dict[str, Any] = (status.get("update") or {}).get("last") or {}
            is_ready = (status.get("control_plane") or {}).get("state") == "ready"
            return found if found.get("to") == version and is_ready else {}

        wait_until(last, f"the end of the update to {version}; starts: {self.agent.starts}", timeout)
        return last()


@contextmanager
def staged(folder: Path, version: str, program: Path, more: str = "") -> Iterator[Stage]:
    """The stage, with this program installed as this version, and `more` in the configuration."""
    root = folder / "opt"
    layout.install_version(root, version, program)
    layout.write_boot_check(root)
    server_id = f"srv_{uuid.uuid4().hex[:8]}"
    with (
        ReleaseSite() as site,
        served_images(folder / "registry") as images,
        ControlPlaneProcess(folder / "plane") as plane,
    ):
        config = (
            f'[update]\nbase_url = "{site.url}"\nroot_keys_file = "{site.roots_file(folder)}"\n'
            f"confirm_secs = {CONFIRM_SECS}\nconfirm_timeout_secs = {TIMEOUT_SECS}\n{more}"
        )
        # Where a compiled program unpacks itself.
        environment = {"XDG_CACHE_HOME": str(folder / "cache")}
        options: dict[str, Any] = {"kind": SupervisedAgent, "root": root, "start_secs": 30.0}
        with enrolled(
            folder / "agent", plane, server_id=server_id, config=config, environment=environment, **options
        ) as agent:
            assert isinstance(agent, SupervisedAgent)
            fleet = Fleet(plane, agent, images, server_id)
            fleet.wait_connected()
            stage = Stage(fleet, agent, site)
            stage.deploy()
            yield stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    program = tmp_path / "first"
    program.write_bytes(real_program("1.0.0"))
    with staged(tmp_path, "1.0.0", program) as stage:
        yield stage


def test_a_person_updates_the_agent_and_the_service_keeps_running(stage: Stage) -> None:
    agent = stage.agent
    ended = agent.command_line("update", "--check")
    assert ended.returncode == 1, ended.stdout
    assert "answers 404" in ended.stderr
    stage.site.publish("1.1.0", real_program("1.1.0"))
    ended = agent.command_line("update", "--check")
    assert (ended.returncode, ended.stdout.partition(" (")[0]) == (0, "syntra-agent 1.0.0 → 1.1.0"), ended.stderr
    assert agent.version == "1.0.0"
    ended = agent.command_line("update", "--yes")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "updated to 1.1.0" in ended.stdout
    assert agent.starts == ["1.0.0", "1.1.0"]
    assert stage.status()["agent"]["version"] == "1.1.0"
    assert stage.ended("1.1.0")["result"] == "updated"
    assert (layout.linked(agent.root, "current"), layout.linked(agent.root, "previous")) == ("1.1.0", "1.0.0")
    assert layout.read_trial(agent.root) is None
    assert stage.life() == stage.before
    hello = stage.fleet.plane.client.server(stage.fleet.server_id)["hello"]
    assert hello["version"] == "1.1.0"
    assert "update_agent" in hello["capabilities"]
    assert "update" not in hello, "the result was not known when this version said hello"
    ended = agent.command_line("update", "--yes")
    assert (ended.returncode, ended.stdout) == (0, "syntra-agent 1.1.0 is up to date\n")
    stage.fleet.running(stage.fleet.payload(stage.service, "v2"))


BAD = {
    "crashes at once": stand_in("1.1.0", "exit 1"),
    "hangs": stand_in("1.1.0", "exec sleep 3600"),
    "never connects": real_program("1.1.0", setup=UNCONNECTED),
}


# One that hangs takes the whole time of the trial.
@pytest.mark.parametrize("name", [*sorted(BAD.keys() - {"hangs"}), pytest.param("hangs", marks=pytest.mark.soak)])
def test_a_release_that_does_not_hold_is_rolled_back_and_reported(stage: Stage, name: str) -> None:
    stage.site.publish("1.1.0", BAD[name])
    answer = stage.fleet.send("update_agent", {"version": "1.1.0", "download_url": "http://203.0.113.1/agent"})
    assert answer["success"], answer
    assert answer["data"] == {"from": "1.0.0", "to": "1.1.0", "state": "accepted"}
    ended = stage.ended("1.1.0", 240)
    assert ended["from"] == "1.0.0"
    assert stage.agent.starts == ["1.0.0", "1.1.0", "1.1.0", "1.1.0", "1.0.0"]
    assert stage.life() == stage.before
    wait_until(
        lambda: (stage.status().get("update") or {}).get("last", {}).get("result") == "rolled_back",
        "the old version is in order, so the new one is to blame",
    )
    alerts = stage.fleet.plane.client.alerts(stage.fleet.server_id)["alerts"]
    assert any("1.1.0 was rolled back to 1.0.0" in json.dumps(alert) for alert in alerts), alerts
    refused = stage.fleet.send("update_agent", {"version": "1.1.0"})
    assert "was rolled back on this server" in refused["error"]["message"]

    stage.site.publish("1.1.1", real_program("1.1.1"))
    assert stage.fleet.send("update_agent", {"version": "1.1.1"})["success"]
    assert stage.ended("1.1.1")["result"] == "updated"
    assert stage.life() == stage.before


def test_an_update_waits_for_the_end_of_a_deploy(stage: Stage) -> None:
    stage.site.publish("1.1.0", real_program("1.1.0"))
    service = stage.fleet.service("slow")
    check = {"type": "http", "path": "/health", "interval_seconds": 0.5, "timeout_seconds": 1, "retries": 30}
    unhealthy = {"FAIL": "unhealthy"}
    deployment = stage.fleet.begin(stage.fleet.payload(service, config={"health_check": check}, env_vars=unhealthy))
    wait_until(lambda: containers(service), "the deploy has begun")
    assert stage.fleet.send("update_agent", {"version": "1.1.0"})["data"]["state"] == "accepted"
    assert stage.fleet.outcome(deployment)["status"] in ("failed", "rolled_back")
    assert stage.ended("1.1.0")["result"] == "updated"
    entries = [json.loads(line) for line in stage.agent.text().splitlines() if line.startswith("{")]
    ends = [i for i, entry in enumerate(entries) if entry["message"] == "agent ends for an update"]
    deploys = [i for i, entry in enumerate(entries) if entry["message"].startswith("operation f")]
    assert len(ends) == 1
    assert max(deploys) < ends[0]
    assert stage.life() == stage.before


def test_the_configuration_can_forbid_updates_by_the_control_plane(stage: Stage) -> None:
    stage.site.publish("1.1.0", real_program("1.1.0"))
    stage.agent.config.write_text(stage.agent.config.read_text().replace("[update]", '[update]\nmode = "off"'))
    stage.agent.kill()
    stage.fleet.wait_connected()
    time.sleep(0.5)
    wait_until(stage.status, "the agent is back")
    refused = stage.fleet.send("update_agent", {"version": "1.1.0"})
    assert refused["error"]["message"].startswith("cannot update the agent: updates are off on this server; ")
    assert stage.agent.version == "1.0.0"


def test_a_release_that_refuses_this_configuration_is_not_installed(stage: Stage) -> None:
    strict = stand_in("1.1.0").replace(b"*'config check') exit 0", b"*'config check') echo 'no such key' >&2; exit 78")
    stage.site.publish("1.1.0", strict)
    ended = stage.agent.command_line("update", "--yes")
    assert ended.returncode == 1
    assert "`--config" in ended.stderr
    assert "ended with 78: no such key" in ended.stderr
    assert stage.agent.starts == ["1.0.0"]
    assert stage.ended("1.1.0")["result"] == "failed"


def test_acknowledged_telemetry_survives_an_update_and_a_rollback(tmp_path: Path) -> None:
    grpc_port, http_port = free_ports(2)
    more = f"[telemetry]\notlp_grpc_port = {grpc_port}\notlp_http_port = {http_port}\nbatch_interval_secs = 1\n"
    program = tmp_path / "first"
    program.write_bytes(real_program("1.0.0"))
    with staged(tmp_path, "1.0.0", program, more) as stage:
        sender = SpanSender(f"updated-{uuid.uuid4().hex[:8]}", http_port)
        sender.start()

        def receives() -> None:
            """Each version acknowledges something, however short it lives."""
            before = len(sender.acknowledged)
            wait_until(lambda: len(sender.acknowledged) > before + 10, "the receivers acknowledge", 60)

        receives()
        stage.site.publish("1.0.1", stand_in("1.0.1", "exit 1"))
        assert stage.fleet.send("update_agent", {"version": "1.0.1"})["success"]
        assert stage.ended("1.0.1", 180)["result"] == "rolled_back"
        receives()
        stage.site.publish("1.1.0", real_program("1.1.0"))
        assert stage.fleet.send("update_agent", {"version": "1.1.0"})["success"]
        assert stage.ended("1.1.0", 180)["result"] == "updated"
        receives()
        sender.stopped.set()
        sender.join(10)
        acknowledged = set(sender.acknowledged)
        assert sender.failures > 0

        def missing() -> set[str]:
            found = stage.fleet.plane.client.all_telemetry("traces", service=sender.service)
            return acknowledged - {span["trace_id"] for span in found}

        wait_until(lambda: not missing(), "every acknowledged span arrives", 60)
        assert stage.life() == stage.before


def test_the_compiled_program_survives_a_bad_release_and_takes_a_good_one(built_binary: Path, tmp_path: Path) -> None:
    old = syntra.__version__
    with staged(tmp_path, old, built_binary) as stage:
        stage.site.publish("90.0.0", stand_in("90.0.0", "exit 1"))
        ended = stage.agent.command_line("update", "--yes", timeout=240)
        assert ended.returncode == 1, ended.stdout + ended.stderr
        assert f"version 90.0.0 was rolled back to {old}: it did not hold in 3 starts" in ended.stderr
        assert stage.agent.starts == [old, "90.0.0", "90.0.0", "90.0.0", old]
        assert stage.life() == stage.before
        stage.site.publish("90.0.1", real_program("90.0.1"))
        ended = stage.agent.command_line("update", "--yes", timeout=240)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert stage.status()["agent"]["version"] == "90.0.1"
        assert stage.life() == stage.before
