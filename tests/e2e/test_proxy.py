"""`syntra-agent proxy`: a real Traefik as a container of ours, or one that is there, on a real engine."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.kill_proxy import KillProxy, Trap, When
from tests.e2e.program import AGENT
from tests.e2e.traefik_image import traefik_image
from tests.engine import SOCKET, api, busybox_image, cleanup, new_token, require_engine, start_container, wait_until
from tests.networking.own_certificates import peer_certificate, self_signed
from tests.networking.real_traefik import RealTraefik, free_ports

__all__ = ["traefik_image"]

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

# What changes something about the proxy's container.
MUTATING = re.compile(r"^(POST|DELETE) \S*/containers/")


@dataclass
class Bench:
    """An agent with a folder, ports and a configuration of its own; `keys` are lines of its `[networking]`."""

    folder: Path
    image: str
    token: str
    engine_socket: str = SOCKET
    keys: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.web, self.secure, self.internal = free_ports(3)
        self.keys = {
            "traefik_api": f"http://127.0.0.1:{self.internal}",
            "proxy_image": self.image,
            "proxy_listen": [f"web=127.0.0.1:{self.web}"],
            "entrypoints": ["web"],
            "cert_resolver": "",
            "drain_seconds": 2,
        }

    def agent(self) -> AgentProcess:
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in self.keys.items())
        config = f"[runtime]\nmin_healthy_secs = 0.2\n[networking]\n{lines}"
        return AgentProcess(self.folder, config=config, engine_socket=self.engine_socket)

    def cli(self, agent: AgentProcess, *words: str) -> tuple[int, str]:
        """The verb as a person runs it; exit code and everything it said."""
        command = [*AGENT, "--socket", str(agent.socket), "proxy", *words]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
        return ended.returncode, ended.stdout + ended.stderr

    def status(self, agent: AgentProcess) -> dict[str, Any]:
        code, said = self.cli(agent, "status", "--json")
        assert code == 0, said
        found: dict[str, Any] = json.loads(said)
        return found

    @property
    def owner(self) -> str:
        return str(json.loads((self.folder / "data/identity.json").read_text())["owner"])

    def containers(self) -> list[dict[str, Any]]:
        filters = json.dumps({"label": ["syntra.component=proxy", f"syntra.owner={self.owner}"]})
        listed: list[dict[str, Any]] = api("GET", "/containers/json", query={"all": "1", "filters": filters})
        return listed

    def the_container(self) -> dict[str, Any]:
        [listed] = self.containers()
        found: dict[str, Any] = api("GET", f"/containers/{listed['Id']}/json")
        return found

    def clear(self) -> None:
        with contextlib.suppress(OSError):
            cleanup(self.owner)
        cleanup(self.token)


@pytest.fixture
def bench(tmp_path: Path, traefik_image: str) -> Iterator[Bench]:
    require_engine()
    made = Bench(folder=tmp_path / "agent", image=traefik_image, token=new_token())
    try:
        yield made
    finally:
        made.clear()


def deploy(bench: Bench, agent: AgentProcess, **changes: Any) -> str:
    """A service behind the proxy; its host name."""
    busybox_image(f"{bench.token}:v1", "v1")
    host = f"{bench.token}.example.com"
    payload = {
        "service_id": f"svc-{bench.token}",
        "deployment_id": f"d-{uuid.uuid4().hex[:10]}",
        "project_name": bench.token,
        "image": f"{bench.token}:v1",
        "config": {"port": 8080, "replicas": 1, "health_check": {"path": "/health", "interval_seconds": 1}},
        "networking": {"domains": [host]},
        "timeout_seconds": 60,
        **changes,
    }
    report = agent.carry_out("deploy", payload)
    assert report["status"] == "running", report
    return host


def served(port: int, host: str) -> tuple[int, str]:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        raw.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := raw.recv(65536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body.decode(errors="replace").strip()


def test_one_command_brings_a_proxy_that_serves_and_one_takes_it_away(bench: Bench) -> None:
    with bench.agent() as agent:
        assert bench.status(agent)["kind"] == "none"
        host = deploy(bench, agent)
        code, said = bench.cli(agent, "up")
        assert code == 0, said
        assert f"starting {bench.image}" in said
        assert "syntra-proxy" in said.splitlines()[-1]
        assert served(bench.web, host) == (200, "v1")

        status = bench.status(agent)
        assert (status["kind"], status["routes"]["applied"], status["problems"]) == ("ours", True, [])
        assert status["container"]["state"] == "running"
        assert {"name": "web", "address": f"127.0.0.1:{bench.web}"} in status["entrypoints"]
        assert status["version"] and status["since"]
        assert "proxy:         managed by this agent\n" in bench.cli(agent, "status")[1]

        before = bench.the_container()
        code, said = bench.cli(agent, "up")
        assert (code, said) == (0, f"{before['Name'].lstrip('/')} is running already; nothing to do\n")
        after = bench.the_container()
        assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])

        assert [s["service_id"] for s in agent.ask("list_services", {})["data"]["services"]] == [f"svc-{bench.token}"]
        warnings = agent.ask("status", {})["data"]["warnings"]
        assert not [warning for warning in warnings if "has this agent's labels" in warning]

        routes = (agent.data_dir / "traefik/dynamic/syntra.yml").read_bytes()
        code, said = bench.cli(agent, "down")
        assert (code, bench.containers()) == (0, []), said
        assert (agent.data_dir / "traefik/dynamic/syntra.yml").read_bytes() == routes
        assert bench.cli(agent, "down") == (0, "there is no proxy container to remove\n")
        assert bench.status(agent)["kind"] == "none"


def test_the_container_may_do_little(bench: Bench) -> None:
    with bench.agent() as agent:
        assert bench.cli(agent, "up")[0] == 0
        found = bench.the_container()
        host = found["HostConfig"]
        assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], ["NET_BIND_SERVICE"])
        assert (host["ReadonlyRootfs"], host["Privileged"]) == (True, False)
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert (host["NetworkMode"], host["RestartPolicy"]["Name"]) == ("host", "always")
        mounts = {mount["Destination"]: (mount["Source"], mount["RW"]) for mount in found["Mounts"]}
        assert mounts == {"/syntra/dynamic": (str(agent.data_dir / "traefik/dynamic"), False)}
        labels = found["Config"]["Labels"]
        assert labels["syntra.component"] == "proxy"
        assert "syntra.managed" not in labels
        assert (agent.data_dir / "traefik/acme").stat().st_mode & 0o777 == 0o700


def test_certificates_are_kept_outside_of_what_traefik_reads(bench: Bench) -> None:
    # Nothing asks for a certificate: no service has a domain.
    bench.keys |= {"cert_resolver": "le", "acme_email": "ops@example.com", "https_redirect_entrypoint": ""}
    with bench.agent() as agent:
        code, said = bench.cli(agent, "up")
        assert code == 0, said
        storage = agent.data_dir / "traefik/acme/acme.json"
        wait_until(storage.exists, "Traefik makes the file of its certificates")
        assert storage.stat().st_mode & 0o777 == 0o600
        assert bench.status(agent)["certificates"] == {"resolver": "le", "storage": str(storage), "present": True}
        assert bench.cli(agent, "down")[0] == 0
        assert storage.exists()


def test_a_changed_configuration_is_said_and_replaces_the_container(bench: Bench) -> None:
    with bench.agent() as agent:
        host = deploy(bench, agent)
        assert bench.cli(agent, "up")[0] == 0
        before = bench.the_container()
    bench.keys["proxy_listen"] = [f"web=127.0.0.1:{bench.web}", f"extra=127.0.0.1:{bench.secure}"]
    with bench.agent() as agent:
        assert bench.the_container()["State"]["StartedAt"] == before["State"]["StartedAt"], "nothing is done at a start"
        added = f"not --entryPoints.extra.address=127.0.0.1:{bench.secure}"
        assert any(added in problem for problem in bench.status(agent)["problems"])
        wait_until(
            lambda: any(added in warning for warning in agent.ask("status", {})["data"]["warnings"]),
            "the agent's own status says it too",
        )
        code, said = bench.cli(agent, "up")
        assert code == 0, said
        assert "is running, replaced because of: " in said
        assert added in said
        after = bench.the_container()
        assert after["Id"] != before["Id"]
        assert after["Name"] == before["Name"]
        assert served(bench.web, host) == (200, "v1")
        assert served(bench.secure, host)[0] == 404
        wait_until(
            lambda: not any("fits" in warning for warning in agent.ask("status", {})["data"]["warnings"]),
            "the warning goes with its cause",
        )


@pytest.mark.parametrize(
    ("entrypoint", "reason"),
    [
        ('["/bin/sh", "-c", "echo not today >&2; exit 3"]', "it ended at once with exit code 3, saying: not today"),
        ('["/bin/nothing"]', "no such file or directory"),
        ('["/bin/sleep", "600"]', "it ended at once"),
    ],
    ids=["ends", "cannot start", "is no Traefik"],
)
def test_a_successor_that_does_not_serve_leaves_the_old_one(bench: Bench, entrypoint: str, reason: str) -> None:
    busybox_image(f"{bench.token}:broken", changes=[f"ENTRYPOINT {entrypoint}"])
    with bench.agent() as agent:
        host = deploy(bench, agent)
        assert bench.cli(agent, "up")[0] == 0
        before = bench.the_container()
    bench.keys["proxy_image"] = f"{bench.token}:broken"
    with bench.agent() as agent:
        code, said = bench.cli(agent, "up")
        assert code == 1, said
        assert reason in said
        after = bench.the_container()
        assert (after["Id"], after["Name"], after["State"]["Running"]) == (before["Id"], before["Name"], True)
        assert after["HostConfig"]["RestartPolicy"]["Name"] == "always"
        assert f"running again: {before['Name'].lstrip('/')}" in said
        wait_until(lambda: served(bench.web, host) == (200, "v1"), "the old one has its routes again")


def test_two_at_the_same_time_make_one_proxy(bench: Bench) -> None:
    with bench.agent() as agent:
        answers: list[dict[str, Any]] = []
        threads = [threading.Thread(target=lambda: answers.append(agent.ask("proxy_up", {}))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(answer["data"]["action"] for answer in answers) == ["started", "unchanged", "unchanged"]
        assert len(bench.containers()) == 1


def test_a_container_removed_by_hand_is_gone_and_comes_back_when_asked(bench: Bench) -> None:
    with bench.agent() as agent:
        assert bench.cli(agent, "up")[0] == 0
        container = bench.the_container()["Id"]
        api("POST", f"/containers/{container}/stop", query={"t": "10"})
        stopped = bench.status(agent)
        assert (stopped["kind"], stopped["container"]["state"]) == ("ours", "exited")
        assert "is exited; `syntra-agent proxy up` starts it" in stopped["problems"][0]
        api("DELETE", f"/containers/{container}", query={"force": "1"})
        status = bench.status(agent)
        assert (status["kind"], status["container"], status["problems"]) == ("none", None, [])
        assert bench.cli(agent, "up")[0] == 0
        assert bench.status(agent)["kind"] == "ours"


def test_a_proxy_that_is_there_is_adopted(bench: Bench, tmp_path: Path) -> None:
    with RealTraefik(tmp_path / "traefik") as traefik:
        # No address for ACME either: what is not ours needs none.
        bench.keys |= {"traefik_api": traefik.api_url, "traefik_dynamic_dir": str(traefik.directory)}
        bench.keys |= {"acme_email": "", "cert_resolver": "le", "entrypoints": ["web"]}
        with bench.agent() as agent:
            code, said = bench.cli(agent, "up")
            assert code == 0, said
            assert said.startswith("another proxy (Traefik ")
            assert bench.containers() == []
            status = bench.status(agent)
            assert (status["kind"], status["container"], status["routes"]["applied"]) == ("foreign", None, True)
            code, said = bench.cli(agent, "down")
            assert (code, "is left alone" in said) == (0, True)
            assert traefik.ask(traefik.internal, "/api/version", host="localhost").status == 200


def test_what_the_proxy_refuses_is_said_by_both_statuses(bench: Bench, tmp_path: Path) -> None:
    with RealTraefik(tmp_path / "traefik") as traefik:
        bench.keys |= {"traefik_api": traefik.api_url, "traefik_dynamic_dir": str(traefik.directory)}
        bench.keys["entrypoints"] = ["nowhere"]
        with bench.agent() as agent:
            deploy(bench, agent)
            assert bench.cli(agent, "up")[0] == 0
            [problem] = bench.status(agent)["problems"]
            assert f"the proxy refuses router syn-svc-{bench.token}" in problem
            assert "nowhere" in problem
            wait_until(
                lambda: problem in agent.ask("status", {})["data"]["warnings"], "the agent's own status says it too"
            )


def test_a_proxy_that_works_with_other_routes_is_not_adopted(bench: Bench, tmp_path: Path) -> None:
    with RealTraefik(tmp_path / "traefik") as traefik:
        bench.keys["traefik_api"] = traefik.api_url
        with bench.agent() as agent:
            code, said = bench.cli(agent, "up")
            assert code == 1
            assert f"have it watch {agent.data_dir}/traefik/dynamic, or stop it" in said
            assert bench.containers() == []


def test_a_port_that_something_holds_is_named_with_its_holder(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", bench.web)), bench.agent() as agent:
        code, said = bench.cli(agent, "up")
        assert code == 1
        assert f"entrypoint web is to listen on 127.0.0.1:{bench.web}, but " in said
        assert "(pid " in said
        assert bench.containers() == []
    with socket.create_server(("127.0.0.1", bench.internal)), bench.agent() as agent:
        code, said = bench.cli(agent, "up")
        assert (code, "change networking.traefik_api" in said) == (1, True), said


def test_a_port_that_a_container_publishes_is_named_with_the_container(bench: Bench) -> None:
    busybox_image(f"{bench.token}:v1")
    name = f"holder-{bench.token}"
    bindings = {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(bench.web)}]}
    start_container(bench.token, f"{bench.token}:v1", name=name, host={"PortBindings": bindings})
    with bench.agent() as agent:
        code, said = bench.cli(agent, "up")
        assert code == 1
        assert f"but container {name} publishes it; stop that, or change networking.proxy_listen" in said


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"cert_resolver": "le"}, "networking.acme_email: is empty, and certificate resolver le needs an address"),
        ({"traefik_api": "http://0.0.0.0:8080"}, "networking.traefik_api: is not on loopback"),
        ({"proxy": "traefik-labels"}, "networking.proxy: is traefik-labels"),
        ({"proxy": "off"}, "networking.proxy: is off"),
    ],
)
def test_a_configuration_that_makes_no_proxy_is_refused(bench: Bench, keys: dict[str, object], said: str) -> None:
    bench.keys |= keys
    with bench.agent() as agent:
        code, answer = bench.cli(agent, "up")
        assert code == 78, answer
        assert said in answer
        assert bench.containers() == []
        assert bench.cli(agent, "status")[0] == 0


def test_an_image_that_cannot_be_had_is_said(bench: Bench) -> None:
    [nobody] = free_ports(1)
    bench.keys["proxy_image"] = f"127.0.0.1:{nobody}/{bench.token}/traefik:v3"
    with bench.agent() as agent:
        code, said = bench.cli(agent, "up")
        assert code == 1
        assert "cannot pull" in said
        assert bench.containers() == []


@pytest.mark.parametrize("replacing", [False, True], ids=["first", "replacing"])
def test_an_agent_killed_in_the_middle_is_completed_by_the_next_up(bench: Bench, replacing: bool) -> None:
    path = Path(f"/tmp/syntra-proxy-{bench.token}.sock")
    listens = [[f"web=127.0.0.1:{bench.web}"], [f"web=127.0.0.1:{bench.web}", f"extra=127.0.0.1:{bench.secure}"]]
    bench.engine_socket = str(path)
    killed = []
    try:
        with KillProxy(path) as engine:
            for number in range(1, 20):
                bench.keys["proxy_listen"] = listens[0]
                with bench.agent() as agent:
                    assert bench.cli(agent, "up" if replacing else "down")[0] == 0
                bench.keys["proxy_listen"] = listens[replacing]
                with bench.agent() as agent:
                    when = When.AFTER if number % 2 else When.BEFORE
                    trap = Trap(at=number, when=when, pid=lambda agent=agent: agent.pid, only=MUTATING)  # type: ignore[misc]
                    engine.trap = trap
                    with contextlib.suppress(OSError):
                        agent.ask("proxy_up", {})
                    engine.trap = Trap()
                    if not trap.hit:
                        assert bench.status(agent)["problems"] == []
                        break
                    assert agent.wait_killed()
                    killed.append(trap.sprung)
                    agent.start()
                    code, said = bench.cli(agent, "up")
                    assert code == 0, (trap.sprung, said)
                    found = bench.the_container()
                    assert found["State"]["Running"], trap.sprung
                    assert found["HostConfig"]["RestartPolicy"]["Name"] == "always", trap.sprung
                    assert bench.status(agent)["problems"] == [], trap.sprung
    finally:
        path.unlink(missing_ok=True)
    assert len(killed) >= (6 if replacing else 3), killed


def test_our_proxy_serves_a_certificate_that_was_sent(bench: Bench) -> None:
    bench.keys |= {
        "proxy_listen": [f"websecure=127.0.0.1:{bench.secure}"],
        "entrypoints": ["websecure"],
        "https_redirect_entrypoint": "",
        "cert_resolver": "letsencrypt",
        "acme_email": "ops@example.com",
    }
    with bench.agent() as agent:
        host = deploy(bench, agent)
        code, said = bench.cli(agent, "up")
        assert code == 0, said
        certificate, key = self_signed(host)
        payload = {"service_id": f"svc-{bench.token}", "domain": host, "certificate": certificate, "private_key": key}
        answer = agent.ask("install_certificate", payload)
        assert answer["success"] and answer["data"]["applied"], answer
        assert "notes" not in answer["data"], answer
        assert peer_certificate(bench.secure, host) == certificate
