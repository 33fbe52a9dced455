"""Secrets stay secret: what the control plane entrusts to an agent shows nowhere but where it belongs."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import pytest
import zstandard
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from tests.contract import shapes
from tests.contract.scripted_plane import ACK, Link, ScriptedPlane
from tests.e2e.agent_process import AgentProcess
from tests.e2e.canaries import Canaries, ProcessWatch, forms, new_canary
from tests.e2e.program import AGENT
from tests.e2e.served_images import ServedImages, served_images
from tests.e2e.telemetry_stage import free_ports
from tests.engine import api, wait_until
from tests.telemetry.process.rigs import one_span

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

HEALTH = {"type": "http", "path": "/health", "interval_seconds": 0.3, "timeout_seconds": 1, "retries": 3}


@dataclass(slots=True)
class Stage:
    """An agent that was told secrets, and everything it could have told on."""

    values: dict[str, str]
    canaries: Canaries
    images: ServedImages
    plane: ScriptedPlane
    link: Link
    agent: AgentProcess
    folder: Path
    telltale: Telltale
    otlp_port: int

    def deploy(self, service: str, **changes: Any) -> dict[str, Any]:
        """A deploy with the secrets in it, to its end."""
        deployment = f"{uuid.uuid4().hex[:8]}-{self.images.token}"
        password = changes.pop("password", self.values["registry password"])
        config = {
            "port": 8080,
            "replicas": 1,
            "health_check": dict(HEALTH),
            "env_vars": {
                "HARMLESS_NAME": self.values["environment value"],
                "REFERRING": {"secret": "stored"},
                **changes.pop("env_vars", {}),
            },
            **changes.pop("config", {}),
        }
        payload = {
            "deployment_id": deployment,
            "service_id": service,
            "project_name": self.images.token,
            "image": self.images.image(),
            "registry_auth": {"username": "deployer", "password": password},
            "config": config,
            "timeout_seconds": 30,
            **changes,
        }
        request = self.link.send("deploy", payload)
        response = self.link.expect("command_response", request_id=request)
        if not response.payload["success"]:
            return dict(response.payload)
        terminal = self.link.first(
            lambda f: (
                f.type == "deploy_status"
                and f.payload["deployment_id"] == deployment
                and f.payload["status"] in shapes.TERMINAL
            ),
            f"the end of {deployment}",
            timeout=60,
        )
        return dict(terminal.payload)

    def ask(self, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        request = self.link.send(kind, payload)
        return dict(self.link.expect("command_response", request_id=request).payload)

    def exec(self, service: str, *command: str, timeout: float = 10) -> dict[str, Any]:
        """An exec with secrets in its arguments and its environment."""
        return self.ask(
            "exec",
            {
                "service_id": service,
                "command": [*command, self.values["exec argument"]],
                "env": {"PLAIN": self.values["exec environment"]},
                "timeout_seconds": timeout,
            },
        )

    def export(self) -> None:
        """Send a span, and wait until the endpoint of the export has repeated its header in a refusal."""
        before = self.telltale.told

        def told() -> bool:
            connection = http.client.HTTPConnection("127.0.0.1", self.otlp_port, timeout=5)
            try:
                connection.request("POST", "/v1/traces", one_span(), {"Content-Type": "application/x-protobuf"})
                assert connection.getresponse().status == 200
            except ConnectionRefusedError:
                return False
            finally:
                connection.close()
            return self.telltale.told > before

        wait_until(told, "the export", 20)

    def command_line(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*AGENT, "--config", self.agent.config, *arguments],
            input=text.encode(),
            env={k: v for k, v in os.environ.items() if not k.startswith("SYNTRA_")},
            capture_output=True,
            check=False,
            timeout=30,
        )

    def found(self) -> list[str]:
        """Wherever a secret shows: the agent's folder (logs and data), frames."""
        found = self.canaries.found_below(self.folder)
        for frame in self.link.frames:
            message = json.loads(json.dumps(frame.message))
            data = message["payload"].get("data")
            if isinstance(data, str):
                # A batch of telemetry: what is inside counts.
                packed = zstandard.ZstdDecompressor().stream_reader(base64.b64decode(data), read_across_frames=True)
                message["payload"]["data"] = packed.read().decode()
            elif data:
                # What a command prints is the command's own business.
                for stream in ("stdout", "stderr"):
                    data.pop(stream, None)
            found += self.canaries.found_in(json.dumps(message).encode(), f"a {frame.type} frame")
        return found


class Telltale:
    """An OTLP endpoint that refuses everything, and says in the reason what it was sent."""

    def __init__(self) -> None:
        self.told = 0
        telltale = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                reason = Status(code=16, message=f"unknown credentials: {self.headers['Authorization']}")
                body = reason.SerializeToString()
                self.send_response(401)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                telltale.told += "canary-export-header" in self.headers["Authorization"]

            def log_message(self, format: str, *args: object) -> None:
                """The base class would write to standard error."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="telltale")

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(params=["json", "text"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    values = {
        kind: new_canary(kind.replace(" ", "-"))
        for kind in (
            "registry password",
            "wrong password",
            "environment value",
            "exec argument",
            "exec environment",
            "stored secret",
        )
    }
    values["export header"] = new_canary("export-header")
    values["token"] = f"syn_agt_{uuid.uuid4().hex}{uuid.uuid4().hex}"
    token_file = tmp_path / "token"
    token_file.write_text(values["token"] + "\n")
    token_file.chmod(0o600)
    headers_file = tmp_path / "headers"
    headers_file.write_text(f"authorization=Bearer%20{quote(values['export header'], safe='')}\n")
    headers_file.chmod(0o600)
    grpc_port, http_port = free_ports(2)
    folder = tmp_path / "agent"
    with (
        Telltale() as telltale,
        served_images(tmp_path / "registry", user="deployer", password=values["registry password"]) as images,
        ScriptedPlane() as plane,
    ):
        config = (
            f'[control_plane]\nendpoint = "{plane.endpoint}"\ntoken_file = "{token_file}"\n'
            f'[logging]\nlevel = "debug"\nformat = "{request.param}"\nfile = "{folder}/file.log"\n'
            f"[telemetry]\notlp_grpc_port = {grpc_port}\notlp_http_port = {http_port}\nbatch_interval_secs = 1\n"
            f'[telemetry.export]\nendpoint = "{telltale.endpoint}"\nprotocol = "http/protobuf"\n'
            f'headers_file = "{headers_file}"\n'
        )
        with AgentProcess(folder, config=config, environment={"SYNTRA_SERVER_ID": "srv_canary"}) as agent:
            link = plane.accepted({**ACK, "config": {"heartbeat_interval_seconds": 1}})
            yield Stage(
                values=values,
                canaries=Canaries(values),
                images=images,
                plane=plane,
                link=link,
                agent=agent,
                folder=folder,
                telltale=telltale,
                otlp_port=http_port,
            )


def test_no_secret_shows_anywhere(stage: Stage) -> None:
    service, broken = f"svc-{stage.images.token}", f"bad-{stage.images.token}"
    with ProcessWatch(stage.canaries) as watch:
        watch.pid = stage.agent.pid
        # A secret that nothing knows yet, and what succeeds.
        assert stage.deploy(service)["error"]["code"] == "SECRET_NOT_FOUND"
        for word in ("set", "replaced"):
            ended = stage.command_line("secrets", "set", "stored", text=stage.values["stored secret"])
            assert ended.stdout == f"secret stored {word}\n".encode(), ended
        assert stage.deploy(service)["status"] == "running"
        [running] = _containers(service)
        env = api("GET", f"/containers/{running['Id']}/json")["Config"]["Env"]
        assert f"REFERRING={stage.values['stored secret']}" in env
        assert stage.exec(service, "true")["data"]["exit_code"] == 0
        assert stage.ask("scale", {"service_id": service, "replicas": 2})["success"]
        # What fails: pulls, starts, health checks, limits, payloads.
        wrong = stage.values["wrong password"]
        assert stage.deploy(broken, password=wrong)["error"]["code"] == "PULL_FAILED"
        assert stage.deploy(broken, env_vars={"FAIL": "exit"})["error"]["code"] == "CONTAINER_CRASHED"
        assert stage.deploy(broken, env_vars={"FAIL": "unhealthy"})["error"]["code"] == "HEALTH_CHECK_FAILED"
        assert "error" in stage.deploy(broken, config={"command": ["/no/such/program"]})
        assert "error" in stage.deploy(broken, config={"volumes": [{"host_path": "/no/such", "container_path": "/x"}]})
        for odd in ({"LIST": [stage.values["environment value"]]}, {stage.values["environment value"]: 7}):
            assert stage.deploy(broken, env_vars=odd)["error"]["code"] == "INVALID_PAYLOAD"
        assert stage.deploy(broken, registry_auth={"username": ["x"], "password": wrong})["success"] is False
        assert stage.deploy(broken, registry_auth={"username": wrong, "password": 17})["success"] is False
        # Execs that fail in every way.
        assert stage.exec(service, "no-such-program")["success"] in {True, False}
        assert stage.exec(service, "sh", "-c", "sleep 60", timeout=0.5)["error"]["code"] == "EXEC_TIMEOUT"
        assert stage.exec(broken, "true")["error"]["code"] == "CONTAINER_NOT_FOUND"
        assert stage.ask("exec", {"service_id": service, "command": stage.values["exec argument"]})["success"] is False
        stage.export()
        assert stage.found() == []
        # What people see.
        _check_the_command_line(stage, service)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(stage.agent.socket))
            client.sendall(json.dumps({"password": stage.values["wrong password"]}).encode())
        # What a killed agent leaves behind, and makes of it.
        stage.link.send("deploy", _interrupted(stage, service))
        wait_until(lambda: len(_containers(service)) == 3, "the deploy is in the middle")
        stage.agent.kill()
        assert stage.found() == []
        stage.agent.start()
        watch.pid = stage.agent.pid
        stage.link = stage.plane.accepted()
        stage.link.expect("heartbeat")
        stage.export()
        assert stage.ask("stop", {"service_id": service, "timeout_seconds": 1, "remove_container": True})["success"]
        assert stage.agent.stop() == 0
    assert stage.found() == []
    assert watch.looks > 10
    assert {f"{what} of {whose}" for what in ("cmdline", "environ") for whose in ("the agent", "a child")} <= watch.seen
    assert watch.found == set()
    logged = (stage.folder / "file.log").read_text()
    assert "debug" in logged.lower() and "operation finished" in logged, "the run was not logged at debug level"
    assert "unknown credentials" in logged, "the refusal of the export was not logged"


def _check_the_command_line(stage: Stage, service: str) -> None:
    file = stage.folder.parent / "service.json"
    file.write_text(
        json.dumps(
            {
                "service_id": service,
                "service_name": "canary",
                "image": f"{stage.images.repository}:v1",
                "port": 8080,
                "env": {"HARMLESS_NAME": stage.values["environment value"], "REFERRING": {"secret": "stored"}},
            }
        )
    )
    for arguments in (
        ("status", "--exit-zero"),
        ("status", "--json", "--exit-zero"),
        ("status", service, "--exit-zero"),
        ("status", service, "--json", "--exit-zero"),
        ("deployments", service, "-v"),
        ("events", "--json"),
        ("ps",),
        ("ps", "--json"),
        ("plan", str(file)),
        ("plan", str(file), "--json"),
        ("metrics", service, "--json"),
        ("secrets", "list"),
        ("secrets", "list", "--json"),
        ("telemetry", "status"),
        ("telemetry", "status", "--json"),
        ("config", "show"),
        ("config", "check"),
    ):
        ended = stage.command_line(*arguments)
        assert ended.returncode == 0, (arguments, ended.stderr)
        assert stage.canaries.found_in(ended.stdout + ended.stderr, " ".join(arguments)) == []
    for item in _containers(service):
        assert stage.canaries.found_in(json.dumps(item["Labels"]).encode(), "a label") == []


def _interrupted(stage: Stage, service: str) -> dict[str, Any]:
    return {
        "deployment_id": f"{uuid.uuid4().hex[:8]}-{stage.images.token}",
        "service_id": service,
        "project_name": stage.images.token,
        "image": stage.images.image("v2"),
        "registry_auth": {"username": "deployer", "password": stage.values["registry password"]},
        "config": {
            "port": 8080,
            "replicas": 1,
            "health_check": {**HEALTH, "start_period_seconds": 60},
            "env_vars": {
                "FAIL": "slow",
                "SLOW": "60",
                "HARMLESS_NAME": stage.values["environment value"],
                "REFERRING": {"secret": "stored"},
            },
        },
        "timeout_seconds": 90,
    }


def _containers(service: str) -> list[dict[str, Any]]:
    filters = json.dumps({"label": [f"syntra.service_id={service}"]})
    listed: list[dict[str, Any]] = api("GET", "/containers/json", query={"all": "1", "filters": filters})
    return listed


# The checks themselves


@pytest.mark.parametrize("form", sorted(forms("x" * 12)))
def test_a_planted_secret_is_found_in_every_form(tmp_path: Path, form: str) -> None:
    value = new_canary("planted")
    canaries = Canaries({"planted": value})
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_bytes(b"before " + forms(value)[form] + b" after")
    assert any(form.split(",")[0].lower() in line.lower() for line in canaries.found_below(tmp_path))
    (tmp_path / "data/file").write_bytes(b"before " + forms(new_canary("planted"))[form] + b" after")
    assert canaries.found_below(tmp_path) == []


def test_a_secret_in_an_argument_or_an_environment_of_a_child_is_found() -> None:
    first, second = new_canary("argument"), new_canary("environment")
    with ProcessWatch(Canaries({"argument": first, "environment": second})) as watch:
        script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()', sys.stdin.readline()])"
        with subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PLAIN": second},
        ) as parent:
            assert parent.stdin is not None
            parent.stdin.write(first.encode() + b"\n")
            parent.stdin.flush()
            watch.pid = parent.pid
            wait_until(lambda: _shown(watch, "cmdline", "argument"), "the argument is found", 10)
            wait_until(lambda: _shown(watch, "environ", "environment"), "the environment is found", 10)
            parent.kill()


def _shown(watch: ProcessWatch, place: str, kind: str) -> bool:
    return any(line.startswith(place) and f"shows the {kind}" in line for line in list(watch.found))


def test_a_secret_in_base64_among_other_bytes_is_found() -> None:
    value = new_canary("basic")
    encoded = base64.b64encode(f"deployer:{value}@host".encode())
    assert Canaries({"basic": value}).found_in(b"Authorization: Basic " + encoded, "a header") != []
