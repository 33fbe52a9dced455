"""The reference control plane as a process, and an agent that is enrolled with it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from tests.controlplane.client import ControlPlaneClient
from tests.e2e.agent_process import AgentProcess
from tests.e2e.program import AGENT
from tests.e2e.served_images import ServedImages, served_images
from tests.engine import API, SOCKET, UnixConnection, api, wait_until

_LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")
HEALTH = {"type": "http", "path": "/health", "interval_seconds": 0.5, "timeout_seconds": 1, "retries": 6}


class ControlPlaneProcess:
    """`syntra controlplane` on loopback; a context manager. `start` again after `stop` keeps port and folder."""

    def __init__(
        self,
        folder: Path,
        *,
        command: Sequence[str] = AGENT,
        cwd: Path | None = None,
        inherited: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.log = folder / "controlplane.log"
        self._command = [*command, "controlplane", "--data-dir", str(folder / "data")]
        self._cwd = cwd
        self._environment = {**(inherited or os.environ), "PYTHONUNBUFFERED": "1"}
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until it listens."""
        said = self.folder / "said"
        with self.log.open("ab") as log, said.open("wb") as out:
            self.process = subprocess.Popen(
                [*self._command, "--listen", f"127.0.0.1:{self.port}"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                cwd=self._cwd,
                env=self._environment,
            )

        def listening() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            match = _LISTENING.search(said.read_text())
            self.port = int(match[1]) if match else self.port
            return match is not None

        wait_until(listening, "the control plane listens")

    def stop(self) -> int | None:
        """SIGTERM; the exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    @property
    def endpoint(self) -> str:
        return f"ws://127.0.0.1:{self.port}/agent/ws"

    @property
    def client(self) -> ControlPlaneClient:
        """The operator's client."""
        return ControlPlaneClient.from_token_file(
            f"http://127.0.0.1:{self.port}", self.folder / "data" / "operator.token"
        )

    def is_connected(self, server_id: str) -> bool:
        return bool(self.client.server(server_id)["connected"])


class Fleet:
    """One control plane, one agent, images in a registry: the smallest whole product."""

    def __init__(self, plane: ControlPlaneProcess, agent: AgentProcess, images: ServedImages, server_id: str) -> None:
        self.plane = plane
        self.agent = agent
        self.images = images
        self.server_id = server_id
        self.token = images.token

    def service(self, name: str = "web") -> str:
        """A service id of its own."""
        return f"{name}-{uuid.uuid4().hex[:6]}-{self.token}"

    def payload(self, service: str, version: str = "v1", **changes: Any) -> dict[str, Any]:
        """A deploy payload; `config` and `env_vars` in `changes` are merged, everything else replaces."""
        config: dict[str, Any] = {"port": 8080, "replicas": 1, "health_check": dict(HEALTH)}
        config |= changes.pop("config", {})
        config["env_vars"] = {**config.get("env_vars", {}), **changes.pop("env_vars", {})}
        return {
            "deployment_id": f"{uuid.uuid4().hex[:8]}-{self.token}",
            "service_id": service,
            "service_name": service[:40],
            "project_name": self.token,
            "image": self.images.image(version),
            "config": config,
            "timeout_seconds": 60,
            **changes,
        }

    def send(self, type: str, payload: Mapping[str, Any], wait: float = 25.0) -> dict[str, Any]:
        """One command to its `command_response`; a deploy comes back accepted or refused."""
        view = self.plane.client.command(self.server_id, type, payload, wait=wait)
        assert view["state"] == "answered", view
        response: dict[str, Any] = view["response"]
        return response

    def begin(self, payload: Mapping[str, Any]) -> str:
        """Have a deploy accepted; its deployment id."""
        response = self.send("deploy", payload)
        assert response["success"], response
        return str(payload["deployment_id"])

    def outcome(self, deployment: str, wait: float = 60.0) -> dict[str, Any]:
        """The terminal status of a deployment."""
        view = self.plane.client.deployment(deployment, wait=wait)
        terminal = [event for event in view["events"] if event["status"] in ("running", "failed", "rolled_back")]
        assert terminal, view
        last: dict[str, Any] = terminal[-1]
        return last

    def deploy(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Deploy to the terminal status."""
        return self.outcome(self.begin(payload))

    def running(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Deploy, and insist that it runs."""
        outcome = self.deploy(payload)
        assert outcome["status"] == "running", outcome
        return outcome

    def lasting(self, type: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """A scale or rollback to its terminal status: the next one of the deployment it is about."""
        response = self.send(type, payload)
        assert response["success"], response
        deployment = response["data"]["deployment_id"]
        request = response["request_id"]

        def over() -> list[dict[str, Any]]:
            events = self.plane.client.deployment(deployment)["events"]
            return [e for e in events if e.get("request_id") == request and "finished_at" in e]

        wait_until(over, f"the end of {type}", 60)
        return over()[-1]

    def exec(self, service: str, *command: str, timeout: float = 10.0) -> dict[str, Any]:
        """Run a command in a service; the response's data."""
        response = self.send("exec", {"service_id": service, "command": list(command), "timeout_seconds": timeout})
        assert response["success"], response
        data: dict[str, Any] = response["data"]
        return data

    def status(self) -> dict[str, Any]:
        """What `status` shows."""
        data: dict[str, Any] = self.agent.ask("status", {})["data"]
        return data

    def wait_connected(self) -> None:
        wait_until(lambda: self.plane.is_connected(self.server_id), "the agent is connected")


def containers(service: str) -> list[dict[str, Any]]:
    """What the engine lists of a service, in any state, without what a failed deployment has left."""
    filters = json.dumps({"label": [f"syntra.service_id={service}"]})
    listed: list[dict[str, Any]] = api("GET", "/containers/json", query={"all": "1", "filters": filters})
    return [item for item in listed if not item["Names"][0].endswith("-failed")]


def ids(service: str) -> set[str]:
    return {item["Id"] for item in containers(service)}


def states(service: str) -> list[str]:
    return sorted(item["State"] for item in containers(service))


def inspect(service: str) -> dict[str, Any]:
    """The engine's word on the only container of a service."""
    (container,) = containers(service)
    found: dict[str, Any] = api("GET", f"/containers/{container['Id']}/json")
    return found


@contextmanager
def enrolled(
    folder: Path, plane: ControlPlaneProcess, *, server_id: str, token: str | None = None, **options: Any
) -> Iterator[AgentProcess]:
    """An agent with a token of the control plane, or with the one that is given; started, perhaps not yet connected."""
    token = token or str(plane.client.create_token(server_id)["token"])
    config = options.pop("config", "")
    kind: type[AgentProcess] = options.pop("kind", AgentProcess)
    environment = {"SYNTRA_SERVER_ID": server_id, **options.pop("environment", {})}
    link = f'[control_plane]\nendpoint = "{plane.endpoint}"\ntoken = "{token}"\nreconnect_max_delay_secs = 1\n'
    with kind(folder, config=link + config, environment=environment, **options) as agent:
        yield agent


@contextmanager
def fleet(folder: Path, **options: Any) -> Iterator[Fleet]:
    """Everything, running and connected."""
    server_id = f"srv_{uuid.uuid4().hex[:8]}"
    with (
        served_images(folder / "registry") as images,
        ControlPlaneProcess(folder / "plane") as plane,
        enrolled(folder / "agent", plane, server_id=server_id, **options) as agent,
    ):
        whole = Fleet(plane, agent, images, server_id)
        whole.wait_connected()
        yield whole


class EventTape:
    """Records what the engine says of the containers of one service, in order; a context manager."""

    def __init__(self, service: str) -> None:
        self._connection = UnixConnection(SOCKET, timeout=60)
        filters = json.dumps({"label": [f"syntra.service_id={service}"], "type": ["container"]})
        self._path = f"{API}/events?{urlencode({'filters': filters})}"
        self._thread = threading.Thread(target=self._read, name="event tape")
        self._begun = threading.Event()
        self.events: list[tuple[str, str]] = []
        """Action and the deployment of the container."""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._begun.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._connection.close()

    def _read(self) -> None:
        self._connection.request("GET", self._path)
        answer = self._connection.getresponse()
        self._begun.set()
        try:
            while line := answer.readline():
                event = json.loads(line)
                self.events.append((event["Action"], event["Actor"]["Attributes"]["syntra.deployment_id"]))
        except (OSError, ValueError, http.client.HTTPException):
            return

    def place(self, action: str, deployment: str, *, last: bool = False) -> int:
        """Where an event of a deployment stands, waited for."""
        event = (action, deployment)
        wait_until(lambda: event in self.events, f"{event} in {self.events}", 10)
        places = [place for place, seen in enumerate(self.events) if seen == event]
        return places[-1] if last else places[0]
