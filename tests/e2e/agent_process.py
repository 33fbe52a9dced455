"""A real agent process for end-to-end tests, and a raw client on its local socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e.program import AGENT
from tests.engine import engine_socket as current_engine
from tests.engine import wait_until

START_SECS = 30.0
TERMINAL = {"running", "failed", "rolled_back"}


class AgentProcess:
    """Runs `syntra start` on a folder of its own; a context manager. `start` again after `kill` keeps the folder."""

    def __init__(
        self,
        folder: Path,
        *,
        engine_socket: str | None = None,
        config: str = "",
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = AGENT,
        cwd: Path | None = None,
        inherited: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        # A unix socket's path may have 107 bytes; pytest's own folders are longer than that at times. Elsewhere than in
        # the folder, an agent in a root of its own would have it inside.
        near = folder / "s"
        self.socket = near if len(str(near)) <= 107 else Path(f"/tmp/syntra-{uuid.uuid4().hex[:12]}.sock")
        self.log = folder / "agent.log"
        self.config = folder / "agent.toml"
        folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            f'data_dir = "{self.data_dir}"\nsocket = "{self.socket}"\n'
            + (config if "[runtime]" in config else f"[runtime]\nmin_healthy_secs = 0\n{config}")
            # No proxy stands in front here, unless a test brings one.
            + ("" if "[networking]" in config else '\n[networking]\nproxy = "off"\n')
            # Tests run side by side, and the ports of the receivers are fixed.
            + ("" if "[telemetry]" in config else '\n[telemetry]\nreceivers = "off"\n')
        )
        self.config.chmod(0o600)
        self._environment = {
            **{k: v for k, v in (inherited or os.environ).items() if not k.startswith("SYNTRA_")},
            "DOCKER_HOST": f"unix://{engine_socket or current_engine()}",
            **(environment or {}),
        }
        self._cwd = cwd
        self._command = [*command, "--config", str(self.config), "start"]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            if self.process is not None:
                self.process.kill()
                self.process.wait(10)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.socket.unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        """The process id; 0 when none was started."""
        return self.process.pid if self.process else 0

    def start(self) -> None:
        """Start and wait until the socket answers."""
        self.launch()
        wait_until(self._answers, f"the agent's socket; its log: {self.text()[-2000:]}", START_SECS)

    def launch(self) -> None:
        """Start without waiting."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment, cwd=self._cwd
            )

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the agent ended with {self.process.returncode}: {self.text()[-2000:]}")
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.socket))
        except OSError:
            return False
        return True

    def stop(self, timeout: float = 40.0) -> int | None:
        """SIGTERM; the exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait_killed(self, timeout: float = 30.0) -> bool:
        """Whether the process ended by SIGKILL within the time."""
        assert self.process is not None
        try:
            return self.process.wait(timeout) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            return False

    def text(self) -> str:
        """The log so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def client(self, timeout: float = 60.0) -> LocalClient:
        """A connection to the local socket."""
        return LocalClient(self.socket, timeout)

    def ask(self, kind: str, payload: Mapping[str, Any], *, request_id: str | None = None) -> dict[str, Any]:
        """One request; the payload of its `command_response`."""
        with self.client() as client:
            return client.ask(kind, payload, request_id=request_id)

    def carry_out(
        self, kind: str, payload: Mapping[str, Any], *, request_id: str | None = None, timeout: float = 60.0
    ) -> dict[str, Any]:
        """A deploy, scale or rollback to its terminal report; any other command to its response."""
        with self.client(timeout) as client:
            return client.carry_out(kind, payload, request_id=request_id)


class LocalClient:
    """One connection; a context manager."""

    def __init__(self, path: Path, timeout: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def send(self, kind: str, payload: Mapping[str, Any], *, request_id: str | None = None) -> str:
        """Send one request; its id."""
        request_id = request_id or str(uuid.uuid4())
        message = {"id": request_id, "type": kind, "timestamp": _now(), "payload": dict(payload)}
        self._socket.sendall(json.dumps(message).encode() + b"\n")
        return request_id

    def receive(self) -> dict[str, Any]:
        """The next message; ConnectionError when the agent is gone."""
        line = self._lines.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the agent closed the connection")
        message: dict[str, Any] = json.loads(line)
        return message

    def ask(self, kind: str, payload: Mapping[str, Any], *, request_id: str | None = None) -> dict[str, Any]:
        """One request; the payload of its `command_response`."""
        self.send(kind, payload, request_id=request_id)
        while True:
            message = self.receive()
            if message["type"] == "command_response":
                answer: dict[str, Any] = message["payload"]
                return answer

    def carry_out(self, kind: str, payload: Mapping[str, Any], *, request_id: str | None = None) -> dict[str, Any]:
        """To the terminal report, or to the response when that is the end."""
        response = self.ask(kind, payload, request_id=request_id)
        if not response["success"] or kind not in {"deploy", "scale", "rollback"}:
            return response
        while True:
            message = self.receive()
            if message["type"] == "deploy_status" and message["payload"]["status"] in TERMINAL:
                report: dict[str, Any] = message["payload"]
                return report


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
