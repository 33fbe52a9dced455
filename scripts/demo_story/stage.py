"""The processes of the story, in a private directory: a registry, a control plane, an agent and, where it is installed,
Traefik.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from scripts.demo_story.control_plane import ControlPlane
from scripts.demo_story.engine import Engine, ask
from scripts.demo_story.errors import StoryFailed, expect

AGENT_PROGRAM = Path(sys.executable).parent / "syntra-agent"
PREFIX = "syntra-demo-"
PEERS = Path(os.environ.get("SYNTRA_PEERS") or Path.home() / ".cache" / "syntra-peers")
START_SECS = 30.0
STOP_SECS = 20.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names of one demo's objects; all follow from the directory's name."""

    directory: Path
    token: str

    @classmethod
    def of(cls, directory: Path) -> Names:
        """The names of the demo in `directory`."""
        found = re.fullmatch(f"{PREFIX}([0-9a-f]{{8}})", directory.name)
        expect(found and directory.is_dir(), f"{directory} is not the directory of a demo")
        assert found is not None, "cannot happen because it was expected above"
        return cls(directory=directory.absolute(), token=found[1])

    @property
    def service_id(self) -> str:
        return f"svc_demo_{self.token}"

    @property
    def project(self) -> str:
        return f"demo-{self.token}"

    @property
    def server_id(self) -> str:
        return f"srv_demo_{self.token}"

    @property
    def host(self) -> str:
        """The host name by which the proxy knows the service."""
        return f"hello-{self.token}.example.com"


class Stage:
    """The processes, each with a log and a pid file in the directory. None starts until it is requested."""

    def __init__(self, names: Names, engine: Engine) -> None:
        self.names = names
        self.engine = engine
        self.registry = ""
        self.control_plane_url = ""
        self.proxy_port: int | None = None
        """Traefik's port for requests; None without Traefik."""
        self._proxy_api = ""
        # Kept so that only `Process` waits for them.
        self._children: list[subprocess.Popen[bytes]] = []

    @classmethod
    def new(cls, engine: Engine) -> Stage:
        """Create a stage in a new private directory below TMPDIR."""
        directory = Path(tempfile.gettempdir()) / f"{PREFIX}{secrets.token_hex(4)}"
        directory.mkdir(mode=0o700)
        return cls(Names.of(directory), engine)

    @property
    def operator_token_path(self) -> Path:
        return self._path("control-plane/operator.token")

    @property
    def agent_socket(self) -> Path:
        return self._path("agent.sock")

    def start_registry(self) -> None:
        """Start Debian's docker-registry on loopback; engines accept plain HTTP there."""
        port = _free_ports(1)[0]
        self.registry = f"127.0.0.1:{port}"
        config = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self._path("registry"))}},
            "http": {"addr": self.registry},
        }
        # JSON is valid YAML.
        self._path("registry.yml").write_text(json.dumps(config))
        self._start("registry", ["docker-registry", "serve", str(self._path("registry.yml"))])
        self.await_from("registry", lambda: _status("127.0.0.1", port, "/v2/") == 200, "the registry answers")

    def start_control_plane(self) -> ControlPlane:
        """Start the reference control plane on a free port; return a client with the operator's token."""
        data_dir = str(self._path("control-plane"))
        self._start(
            "control-plane", [str(AGENT_PROGRAM), "controlplane", "--listen", "127.0.0.1:0", "--data-dir", data_dir]
        )
        said = self._path("control-plane.log")
        pattern = re.compile(r"^listening on (http://\S+)$", re.MULTILINE)
        found = self.await_from("control-plane", lambda: pattern.search(said.read_text()), "the control plane listens")
        self.control_plane_url = found[1]
        return ControlPlane(self.control_plane_url, self.operator_token_path)

    def start_proxy(self) -> bool:
        """Start Traefik on loopback, watching a directory of the agent's; False when it is not installed."""
        program = shutil.which(PEERS / "traefik") or shutil.which("traefik")
        if program is None:
            return False
        web, internal = _free_ports(2)
        self._routes.mkdir()
        arguments = {
            "global.checkNewVersion": "false",
            "global.sendAnonymousUsage": "false",
            "entryPoints.web.address": f"127.0.0.1:{web}",
            "entryPoints.traefik.address": f"127.0.0.1:{internal}",
            "api.insecure": "true",
            "api.dashboard": "false",
            "providers.file.directory": str(self._routes),
            "providers.file.watch": "true",
            "providers.providersThrottleDuration": "100ms",
        }
        self._start("proxy", [program, *(f"--{name}={value}" for name, value in arguments.items())])
        self.await_from("proxy", lambda: _status("127.0.0.1", internal, "/api/version") == 200, "the proxy answers")
        self.proxy_port, self._proxy_api = web, f"http://127.0.0.1:{internal}"
        return True

    def configure_agent(self, token: str) -> None:
        """Write the agent's configuration and its token file."""
        token_file = self._path("agent-token")
        token_file.touch(mode=0o600)
        token_file.write_text(token)
        grpc_port, http_port = _free_ports(2)
        texts = {name: json.dumps(str(self._path(name))) for name in ("agent", "agent.sock", "agent-token")}
        self._path("agent.toml").write_text(
            f'server_id = "{self.names.server_id}"\n'
            f"data_dir = {texts['agent']}\n"
            f"socket = {texts['agent.sock']}\n"
            "[control_plane]\n"
            f'endpoint = "{self.control_plane_url.replace("http", "ws", 1)}/agent/ws"\n'
            f"token_file = {texts['agent-token']}\n"
            "[runtime]\n"
            'runtime_type = "docker"\n'
            f"docker_socket = {json.dumps(self.engine.socket_path)}\n"
            "[telemetry]\n"
            f"otlp_grpc_port = {grpc_port}\n"
            f"otlp_http_port = {http_port}\n"
            "batch_interval_secs = 1\n" + self._networking()
        )

    def _networking(self) -> str:
        if self.proxy_port is None:
            return ""
        return (
            "[networking]\n"
            f"traefik_dynamic_dir = {json.dumps(str(self._routes))}\n"
            f'traefik_api = "{self._proxy_api}"\n'
            'entrypoints = ["web"]\n'
            # No certificates: an example domain cannot get one.
            'cert_resolver = ""\n'
        )

    def start_agent(self) -> int:
        """Start the agent; return its pid."""
        return self._start("agent", [str(AGENT_PROGRAM), "--config", str(self._path("agent.toml")), "start"])

    def kill_agent(self) -> None:
        """Send SIGKILL and wait until the process is gone."""
        process = self._process("agent")
        expect(process is not None, "the agent is not running any more")
        assert process is not None, "cannot happen because it was expected above"
        process.signal(signal.SIGKILL)
        wait_until(lambda: not process.is_alive(), "the killed agent is gone", STOP_SECS)

    def await_from(self, name: str, look: Callable[[], T | None], what: str) -> T:
        """Wait for a condition soon after a process's start; raises StoryFailed at once when the process has ended."""

        def poll_while_alive() -> T | None:
            alive = self._process(name) is not None
            seen = look()
            expect(seen or alive, f"the {name} ended, before {what}")
            return seen

        return wait_until(poll_while_alive, what, START_SECS)

    def last_log_lines(self, count: int) -> list[str]:
        """The end of the agent's log."""
        try:
            return self._path("agent.log").read_text(errors="replace").splitlines()[-count:]
        except OSError:
            return []

    def clear(self) -> None:
        """Stop the processes, remove the demo's objects from the engine, and finally the directory."""
        for name in ("agent", "proxy", "control-plane", "registry"):
            process = self._process(name)
            if process is not None:
                process.end()
        names = self.names
        wait_until(
            lambda: self.engine.remove_all(service_id=names.service_id, project=names.project, token=names.token),
            f"the engine has nothing of {names.token} any more",
            STOP_SECS,
        )
        shutil.rmtree(self.names.directory)

    @property
    def _routes(self) -> Path:
        return self._path("routes")

    def _path(self, name: str) -> Path:
        return self.names.directory / name

    def _start(self, name: str, command: Sequence[str]) -> int:
        with self._path(f"{name}.log").open("ab") as log:
            # Its own session: Ctrl-C reaches only the demo, which stops the others in order.
            process = subprocess.Popen(
                command, env=_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._children.append(process)
        self._path(f"{name}.pid").write_text(f"{process.pid} {_start_time(process.pid)}")
        return process.pid

    def _process(self, name: str) -> Process | None:
        try:
            pid, started = self._path(f"{name}.pid").read_text().split()
        except (OSError, ValueError):
            return None
        process = Process(pid=int(pid), started=started)
        return process if process.is_alive() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process of the demo; its start time distinguishes it from a later process with the same pid."""

    pid: int
    started: str

    def is_alive(self) -> bool:
        # A child that has ended stays a zombie until it is waited for.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        return self.started != "" and _start_time(self.pid) == self.started

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def end(self) -> None:
        """SIGTERM, then SIGKILL if it does not end."""
        self.signal(signal.SIGTERM)
        try:
            wait_until(lambda: not self.is_alive(), f"process {self.pid} ends", STOP_SECS)
        except StoryFailed:
            self.signal(signal.SIGKILL)
            wait_until(lambda: not self.is_alive(), f"process {self.pid} is killed", STOP_SECS)


def wait_until(look: Callable[[], T | None], what: str, seconds: float, every: float = 0.05) -> T:
    """Poll until the result is true, and return it; raises StoryFailed after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise StoryFailed(f"waited {seconds:g} s in vain until {what}")
        time.sleep(every)
    return seen


def _environment() -> dict[str, str]:
    # Without variables that would affect the agent: SYNTRA_…, DOCKER_HOST, a service manager's sockets.
    return {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR", "TZ") if name in os.environ}


def _status(address: str, port: int, path: str) -> int:
    try:
        return ask(address, path, port=port)[0]
    except (OSError, http.client.HTTPException):
        return 0


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def _start_time(pid: int) -> str:
    """A process's start time in clock ticks (proc(5), field 22); "" when it does not exist."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The second field, the name, may contain anything; parse after its last parenthesis.
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state == "Z" else rest[18]
