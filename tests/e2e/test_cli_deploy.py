"""A deploy as a person sees it: the real command in a pseudo-terminal and in a pipe, a real agent and engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.program import AGENT
from tests.e2e.pseudo_terminal import Ended, run_in_terminal
from tests.e2e.service_stage import Stage
from tests.engine import busybox_image, cleanup, new_token, require_engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

HEALTH = {"path": "/health", "interval_seconds": 0.5, "timeout_seconds": 1, "retries": 2}
TIME = r"\d+\.\d s"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    require_engine()
    token = new_token()
    busybox_image(f"{token}:v1", "v1")
    busybox_image(f"{token}:v2", "v2")
    try:
        with AgentProcess(tmp_path, config="[runtime]\nmin_healthy_secs = 1\n") as agent:
            yield Stage(token=token, agent=agent)
    finally:
        cleanup(token)


def in_terminal(stage: Stage, *words: str, **how: object) -> Ended:
    return run_in_terminal([*AGENT, "--socket", str(stage.agent.socket), *words], **how)  # type: ignore[arg-type]


def test_a_deploy_is_seen_step_by_step(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "web.json"
    file.write_text(stage.file(port=8080, replicas=2, health_check=HEALTH))
    seen = in_terminal(stage, "deploy", str(file), columns=60)
    assert seen.code == 0, seen.text
    steps = seen.lines
    assert re.fullmatch(rf"✓ create replica 1  {TIME}", next(line for line in steps if "create replica 1" in line))
    assert any(re.fullmatch(rf"✓ wait until replica 2 is healthy  {TIME}", line) for line in steps), seen.text
    assert re.search(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", seen.raw) and "1/2 healthy" in seen.raw
    assert "\x1b[32m✓\x1b[0m" in seen.raw
    ended = " ".join(seen.text.split())
    assert re.search(rf"✓ web {stage.token}:v1, deployed: 2 replicas running in {TIME}$", ended)

    # The same file changes nothing; its number of replicas replaces none that run.
    before = {item["Id"] for item in stage.replicas()}
    assert stage.run("plan", str(file)).stdout == "web: no changes\n"
    assert stage.run("deploy", str(file)).stdout == "web: no changes; --force deploys it again\n"
    file.write_text(stage.file(port=8080, replicas=3, health_check=HEALTH))
    scaled = stage.run("deploy", str(file))
    assert scaled.stdout.startswith("web: replicas 2 → 3\n"), scaled
    assert len(stage.replicas()) == 3 and before < {item["Id"] for item in stage.replicas()}
    assert stage.run("plan", str(file)).stdout == "web: no changes\n"
    forced = stage.run("plan", str(file), "--force").stdout
    assert "drain " in forced or "stop " in forced

    # What changes is shown before it is done, without the values of variables.
    file.write_text(
        stage.file(port=8080, replicas=3, health_check=HEALTH, image=f"{stage.token}:v2", env={"LOG_LEVEL": "hidden"})
    )
    asked = in_terminal(stage, "deploy", "--plan", str(file), answers=[("[y/N]", "n\n")])
    assert asked.code == 0 and f"image {stage.token}:v1 → :v2" in asked.text and "env LOG_LEVEL added" in asked.text
    assert "hidden" not in asked.text and "deployed:" not in asked.text
    refused = stage.run("deploy", "--plan", str(file))
    assert refused.returncode == 0 and refused.stderr == "nothing was deployed; add --yes to deploy it\n"
    assert before < {item["Id"] for item in stage.replicas()}
    assert all(len(line) < 60 for line in steps), steps

    # What ran is listed, and a rollback says where it goes, asks, and is refused where it goes nowhere.
    assert stage.run("deploy", str(file)).returncode == 0
    listed = [re.split(r"  +", line.strip()) for line in stage.run("deployments", "web").stdout.splitlines()[1:]]
    assert [(row[3], row[5]) for row in listed] == [(f"{stage.token}:v{n}", "succeeded") for n in (2, 1)]
    ids = [row[0].removesuffix(" *") for row in listed]
    refused = stage.run("rollback", "web", "--to", ids[0])
    assert refused.returncode == 1 and "it runs this deployment" in refused.stderr
    asked = in_terminal(stage, "rollback", "web", answers=[("[y/N]", "n\n")], columns=200)
    assert f"web: from {stage.token}:v2 ({ids[0]}, " in asked.text and f" to {stage.token}:v1 ({ids[1]}, " in asked.text
    assert asked.code == 0 and stage.run("plan", str(file)).stdout == "web: no changes\n"
    back = in_terminal(stage, "rollback", "web", answers=[("[y/N]", "y\n")])
    assert back.code == 0 and f"✓ web {stage.token}:v1, rolled back to" in " ".join(back.text.split()), back.text
    events = stage.run("events", "web").stdout
    assert "scaled: 3 replicas running" in events and ", asked by " in events
    assert re.search(r"Z deploy +web: deployed: 2 replicas running", events), events
    assert re.search(r"Z agent +agent \S+ started", stage.run("events").stdout)

    # A terminal that understands nothing gets plain lines, and so does a pipe.
    file.write_text(stage.file(port=8080, replicas=2, health_check=HEALTH, env={"V": "2"}))
    dumb = in_terminal(stage, "deploy", str(file), environment={"TERM": "dumb"})
    assert dumb.code == 0 and "\x1b" not in dumb.raw, dumb.raw
    percents = [int(found[1]) for line in dumb.lines if (found := re.match(r"\S+Z +(\d+)%", line))]
    assert percents == sorted(percents) and percents[-1] == 100, dumb.text
    file.write_text(stage.file(port=8080, replicas=1, env={"V": "3"}))
    uncoloured = in_terminal(stage, "deploy", str(file), "--color", "never", columns=40)
    assert uncoloured.code == 0 and not re.search(r"\x1b\[\d*m", uncoloured.raw)
    assert all(len(line) < 40 for line in uncoloured.lines), uncoloured.text


def test_a_failure_is_said_once_with_the_last_lines_and_what_to_type(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "web.json"
    file.write_text(stage.file(env={"FAIL": "exit"}))
    failed = in_terminal(stage, "deploy", str(file), columns=50)
    assert failed.code == 1
    joined = " ".join(failed.text.split())
    assert joined.count("exited with code 3") == 1, failed.text
    assert "failed" in stage.run("deployments", "web", "-v").stdout
    assert "web: deploy failed: " in stage.run("events").stdout
    step = next(n for n, line in enumerate(failed.lines) if line.startswith("✗ wait until replica 1 is healthy"))
    assert failed.lines[step + 1] == "rolling back:", failed.text
    assert "  | failing as told" in failed.lines
    assert re.search(r"next: syntra-agent logs web --deployment dep_\w+$", joined), failed.text
    reason = failed.text[failed.text.index("cannot deploy web") :].split("\n  | ")[0].splitlines()
    assert len(reason) > 1 and all(len(line) < 50 for line in reason), reason
