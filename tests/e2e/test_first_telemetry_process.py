"""The telemetry process that the agent forks when it starts: what it has of the agent, and what it must not have."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.program import AGENT
from tests.e2e.telemetry_stage import free_ports, telemetry_pid
from tests.engine import wait_until

pytestmark = pytest.mark.engine


@pytest.fixture
def token(tmp_path: Path) -> str:
    """In a file, as an operator has it."""
    made = f"syn_agt_{uuid.uuid4().hex}{uuid.uuid4().hex}"
    (tmp_path / "token").write_text(made + "\n")
    (tmp_path / "token").chmod(0o600)
    return made


@pytest.fixture
def agent(tmp_path: Path, token: str) -> Iterator[AgentProcess]:
    """With receivers, and a control plane that does not answer."""
    assert token
    grpc_port, http_port = free_ports(2)
    config = (
        f'[control_plane]\nendpoint = "ws://127.0.0.1:9/agent"\ntoken_file = "{tmp_path / "token"}"\n'
        f"[telemetry]\notlp_grpc_port = {grpc_port}\notlp_http_port = {http_port}\n"
    )
    with AgentProcess(tmp_path / "agent", config=config, environment={"SYNTRA_SERVER_ID": "srv_1"}) as running:
        wait_until(lambda: telemetry_pid(running) > 0, "the telemetry process", 30)
        yield running


def memory(pid: int) -> bytes:
    """All that a process has written to: its mappings without a file."""
    found = b""
    with open(f"/proc/{pid}/mem", "rb") as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, permissions, *_, name = [*line.split(maxsplit=5), ""][:6]
            start, end = (int(part, 16) for part in place.split("-"))
            if permissions.startswith("rw") and not name.startswith("/"):
                file.seek(start)
                found += file.read(end - start)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read the memory of another process")
def test_the_process_that_receives_has_no_token_in_its_memory(agent: AgentProcess, token: str) -> None:
    assert token.encode() in memory(agent.pid), "this is how it would be found"
    assert token.encode() not in memory(telemetry_pid(agent))


def test_both_processes_share_memory(agent: AgentProcess) -> None:
    def shared_kb() -> int:
        lines = Path(f"/proc/{telemetry_pid(agent)}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Shared_Dirty:"))

    assert shared_kb() > 1000


def test_a_start_without_receivers_or_with_a_mistake_leaves_no_process(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "off") as off:
        assert Path(f"/proc/{off.pid}/task/{off.pid}/children").read_text() == ""
    wrong = tmp_path / "agent.toml"
    wrong.write_text("data_dir = 1\n")
    command = [*AGENT, "--config", str(wrong), "start"]
    # The pipes are closed only when nobody has them any more.
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0 and len(done.stderr.splitlines()) == 1 and done.stdout == "", done
