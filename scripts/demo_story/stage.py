"""The control plane and the agent of the story, and the runtime beside them, in a private directory."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from pathlib import Path

from scripts.demo_story.control_plane import ControlPlane
from scripts.demo_story.errors import expect
from scripts.demo_story.names import Names
from scripts.demo_story.processes import STOP_SECS, Processes, free_ports, wait_until
from scripts.demo_story.runtime import Runtime

AGENT_PROGRAM = Path(sys.executable).parent / "syntra-agent"


class Stage:
    """None of the processes starts until it is requested."""

    def __init__(self, names: Names, processes: Processes, runtime: Runtime) -> None:
        self.names = names
        self.processes = processes
        self.runtime = runtime
        self.control_plane_url = ""

    @property
    def operator_token_path(self) -> Path:
        return self.processes.path("control-plane/operator.token")

    @property
    def agent_socket(self) -> Path:
        return self.processes.path("agent.sock")

    def start_control_plane(self) -> ControlPlane:
        """Start the reference control plane on a free port; return a client with the operator's token."""
        data_dir = str(self.processes.path("control-plane"))
        self.processes.start(
            "control-plane", [str(AGENT_PROGRAM), "controlplane", "--listen", "127.0.0.1:0", "--data-dir", data_dir]
        )
        said = self.processes.path("control-plane.log")
        pattern = re.compile(r"^listening on (http://\S+)$", re.MULTILINE)
        found = self.processes.await_from(
            "control-plane", lambda: pattern.search(said.read_text()), "the control plane listens"
        )
        self.control_plane_url = found[1]
        return ControlPlane(self.control_plane_url, self.operator_token_path)

    def configure_agent(self, token: str) -> None:
        """Write the agent's configuration and its token file."""
        path = self.processes.path
        token_file = path("agent-token")
        token_file.touch(mode=0o600)
        token_file.write_text(token)
        grpc_port, http_port = free_ports(2)
        texts = {name: json.dumps(str(path(name))) for name in ("agent", "agent.sock", "agent-token")}
        address = self.runtime.otlp_address
        path("agent.toml").write_text(
            f'server_id = "{self.names.server_id}"\n'
            f"data_dir = {texts['agent']}\n"
            f"socket = {texts['agent.sock']}\n"
            "[control_plane]\n"
            f'endpoint = "{self.control_plane_url.replace("http", "ws", 1)}/agent/ws"\n'
            f"token_file = {texts['agent-token']}\n"
            "[telemetry]\n"
            f"otlp_grpc_port = {grpc_port}\n"
            f"otlp_http_port = {http_port}\n"
            + (f'listen = ["{address}"]\n' if address else "")
            + "batch_interval_secs = 1\n"
            + self.runtime.agent_settings(http_port)
        )

    def start_agent(self) -> int:
        """Start the agent; return its pid."""
        config = str(self.processes.path("agent.toml"))
        return self.processes.start("agent", [str(AGENT_PROGRAM), "--config", config, "start"])

    def kill_agent(self) -> None:
        """Send SIGKILL and wait until the process is gone."""
        process = self.processes.find("agent")
        expect(process is not None, "the agent is not running any more")
        assert process is not None, "cannot happen because it was expected above"
        process.signal(signal.SIGKILL)
        wait_until(lambda: not process.is_alive(), "the killed agent is gone", STOP_SECS)

    def last_log_lines(self, count: int) -> list[str]:
        """The end of the agent's log."""
        try:
            return self.processes.path("agent.log").read_text(errors="replace").splitlines()[-count:]
        except OSError:
            return []

    def clear(self) -> None:
        """Stop the processes, remove the demo's objects from the runtime, and finally the directory."""
        self.processes.end("agent")
        self.processes.end("control-plane")
        self.runtime.clear()
        shutil.rmtree(self.names.directory)
