"""One agent on the engine, and its command line. Tests import `stage`, or make a Stage of their own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.program import AGENT
from tests.engine import api, busybox_image, cleanup, new_token, require_engine


@dataclass(frozen=True, slots=True)
class Stage:
    token: str
    agent: AgentProcess

    def run(self, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """The command line, against the agent's socket."""
        argv = [*AGENT, "--socket", str(self.agent.socket), *words]
        return subprocess.run(argv, input=text, capture_output=True, text=True, check=False, timeout=200)

    def file(self, *, timeout: int = 120, **keys: Any) -> str:
        """A service file as JSON."""
        return json.dumps(
            {"name": "web", "project": self.token, "image": f"{self.token}:v1", "timeout_seconds": timeout, **keys}
        )

    def containers(self) -> list[dict[str, Any]]:
        query = {"all": "1", "filters": json.dumps({"label": [f"syntra.project={self.token}"]})}
        found: list[dict[str, Any]] = api("GET", "/containers/json", query=query)
        return found

    def replicas(self) -> list[dict[str, Any]]:
        """Without what a failed deployment has left."""
        return [item for item in self.containers() if not item["Names"][0].endswith("-failed")]

    def kinds(self) -> list[str]:
        """What runs: "" for a replica."""
        return [item["Labels"].get("syntra.kind") for item in self.containers() if item["State"] == "running"]

    def only(self) -> dict[str, Any]:
        [listed] = self.replicas()
        inspected: dict[str, Any] = api("GET", f"/containers/{listed['Id']}/json")
        return inspected

    def run_in(self, container: str, *argv: str) -> None:
        made = api("POST", f"/containers/{container}/exec", {"Cmd": [*argv]})
        api("POST", f"/exec/{made['Id']}/start", {"Detach": True})

    def health(self) -> list[str]:
        [service] = json.loads(self.run("ps", "--json").stdout)["services"]
        return [str(replica["health"]) for replica in service["containers"]]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    require_engine()
    token = new_token()
    busybox_image(f"{token}:v1", "v1")
    try:
        with AgentProcess(tmp_path) as agent:
            yield Stage(token=token, agent=agent)
    finally:
        cleanup(token)
