"""`logs` through the command line of a real agent: whose line each is, and where one was cut."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.program import AGENT
from tests.engine import busybox_image, cleanup, containers_of, new_token, require_engine, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
LONG = 100_000
KEPT = 64 * 1024
# Each replica says its own name, which is the beginning of its container's id.
PROGRAM = f"echo this is $(hostname); head -c {LONG} /dev/zero | tr '\\0' x; echo; echo end; exec sleep 1000"


@dataclass(frozen=True, slots=True)
class Stage:
    agent: AgentProcess
    token: str

    def logs(self, *options: str) -> list[str]:
        command = [*AGENT, "--socket", str(self.agent.socket), "logs", *options, "web"]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
        return ended.stdout.splitlines()

    def names(self) -> dict[int, str]:
        """What each replica calls itself, by its number."""
        return {int(item["Labels"]["syntra.replica"]): str(item["Id"])[:12] for item in containers_of(self.token)}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    require_engine()
    token = new_token()
    try:
        busybox_image(f"{token}:v1")
        with AgentProcess(tmp_path / "agent") as agent:
            report = agent.carry_out(
                "deploy",
                {
                    "service_id": f"svc-{token}",
                    "deployment_id": f"d-{uuid.uuid4().hex[:10]}",
                    "service_name": "web",
                    "project_name": token,
                    "image": f"{token}:v1",
                    "config": {"replicas": 2, "command": ["sh", "-c", PROGRAM]},
                    "timeout_seconds": 60,
                },
                timeout=90,
            )
            assert report["status"] == "running", report
            yield Stage(agent, token)
    finally:
        cleanup(token)


def test_each_line_says_whose_it_is_and_a_long_one_that_it_was_cut(stage: Stage) -> None:
    names = stage.names()
    assert set(names) == {1, 2}
    wait_until(lambda: sum(line.endswith("| end") for line in stage.logs()) == 2, "both replicas have written")
    shown = stage.logs()
    cut = f"{'x' * KEPT} … (cut at 64 KiB)"
    for number, name in names.items():
        assert [line.removeprefix(f"web-{number}  | ") for line in shown if line.startswith(f"web-{number}  | ")] == [
            f"this is {name}",
            cut,
            "end",
        ]
    assert len(shown) == 6
    assert sorted(stage.logs("--no-log-prefix")) == sorted(
        [*(f"this is {n}" for n in names.values()), cut, cut, *["end"] * 2]
    )
    lines = [json.loads(line) for line in stage.logs("--json")]
    for number, name in names.items():
        own = [line for line in lines if line["replica"] == number]
        assert [line["message"] for line in own] == [f"this is {name}", "x" * KEPT, "end"]
        assert [line.get("truncated", False) for line in own] == [False, True, False]
