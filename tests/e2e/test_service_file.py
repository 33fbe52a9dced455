"""Service files through the user's door: a real agent, a real engine, the command line."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.program import AGENT
from tests.e2e.service_stage import Stage, stage
from tests.engine import busybox_image, wait_until

__all__ = ["stage"]

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

HEALTHCHECK = "HEALTHCHECK --interval=1s --timeout=5s --retries=2 CMD test -e /tmp/ready || { echo not ready; false; }"


def test_a_service_file_on_standard_input_is_deployed_with_its_options(stage: Stage) -> None:
    options: dict[str, Any] = {
        "user": 65534,
        "read_only": True,
        "tmpfs": "/www",
        "cap_drop": ["ALL"],
        "stop_grace_seconds": 1,
    }
    ended = stage.run("deploy", "-", text=stage.file(port=8080, env={"FAIL": "deaf", "V": 1.5}, **options))
    assert (ended.returncode, ended.stderr) == (0, "")
    made = stage.only()
    assert made["Config"]["User"] == "65534"
    assert "V=1.5" in made["Config"]["Env"]
    assert made["HostConfig"]["ReadonlyRootfs"] is True
    # It does not hear the signal: what ends it is its own grace, not the ten seconds of others.
    assert stage.run("stop", "web").returncode == 0
    stopped = stage.only()["State"]
    assert stopped["ExitCode"] == 137
    refused = stage.run("deploy", "-", text=stage.file(privileged=True))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert re.search(r"standard input:1:\d+: privileged: is refused: a privileged container", refused.stderr)
    assert refused.stderr.endswith("; remove privileged\n")
    empty = stage.run("deploy", "-", text="")
    assert (empty.returncode, empty.stderr) == (
        2,
        "cannot use service file standard input: it is empty; it needs at least an `image`\n",
    )


def test_an_image_with_a_check_of_its_own_is_waited_for_and_followed(stage: Stage) -> None:
    busybox_image(f"{stage.token}:v1", "v1", changes=[HEALTHCHECK])
    never = stage.run("deploy", "-", text=stage.file())
    assert never.returncode == 1, never
    assert "the image's health check failed: not ready" in never.stderr + never.stdout
    assert stage.replicas() == []

    ready = ["sh", "-c", "sleep 1; touch /tmp/ready; exec sleep 1000"]
    assert stage.run("deploy", "-", text=stage.file(command=ready)).returncode == 0
    made = stage.only()
    assert made["State"]["Health"]["Status"] == "healthy"
    assert stage.health() == ["healthy"]
    stage.run_in(made["Id"], "rm", "/tmp/ready")
    wait_until(lambda: stage.health() == ["unhealthy"], "ps follows the image's check", 30)
    wait_until(
        lambda: "health_check_failed" in stage.run("status", "--json").stdout, "an alert about the image's check", 30
    )


def migration(stage: Stage, script: str, timeout: int = 120, **keys: Any) -> str:
    """A service file with a release command that leaves a line in the service's volume."""
    volumes = [f"{stage.token}-data:/data"]
    options: dict[str, Any] = {"init": True, "stop_grace_seconds": 1, "volumes": volumes, **keys}
    return stage.file(timeout=timeout, release_command=["sh", "-c", script], **options)


def runs(stage: Stage) -> list[str]:
    return stage.run("exec", "web", "--", "cat", "/data/runs").stdout.split()


def test_a_release_command_runs_before_the_new_version_and_its_failure_changes_nothing(
    stage: Stage, tmp_path: Path
) -> None:
    file = tmp_path / "web.json"
    file.write_text(migration(stage, "echo first-$V >> /data/runs", env={"V": "1"}))
    planned = stage.run("plan", str(file))
    assert "run the release command: sh -c" in planned.stdout
    assert stage.run("deploy", str(file)).returncode == 0
    serving = stage.only()
    assert runs(stage) == ["first-1"]

    failed = stage.run(
        "deploy", "-", text=migration(stage, "echo second >> /data/runs; echo no such table >&2; exit 7")
    )
    assert failed.returncode == 1, failed
    said = failed.stdout + failed.stderr
    assert "the release command exited with code 7" in said
    assert "no such table" in said
    slow = stage.run("deploy", "-", text=migration(stage, "echo waiting for a lock; sleep 300", timeout=5))
    assert slow.returncode == 1, slow
    assert "the release command was not done within" in slow.stdout + slow.stderr
    assert "waiting for a lock" in slow.stdout + slow.stderr
    now = stage.only()
    assert (now["Id"], now["State"]["StartedAt"]) == (serving["Id"], serving["State"]["StartedAt"])
    assert runs(stage) == ["first-1", "second"]
    # What it returns to has been released before.
    assert stage.run("deploy", "-", text=migration(stage, "echo third >> /data/runs")).returncode == 0
    assert stage.run("rollback", "web").returncode == 0
    assert runs(stage) == ["first-1", "second", "third"]


def test_a_release_command_goes_on_while_the_agent_is_killed_and_is_not_run_again(stage: Stage) -> None:
    text = migration(stage, "sleep 4; echo once >> /data/runs")
    argv = [*AGENT, "deploy", "-", "--socket", str(stage.agent.socket)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as deploy:
        assert deploy.stdin is not None
        deploy.stdin.write(text.encode())
        deploy.stdin.close()
        wait_until(lambda: stage.kinds() == ["release"], "the release command runs")
        assert json.loads(stage.run("ps", "--json").stdout)["services"] == []
        stage.agent.kill()
    stage.agent.start()
    wait_until(lambda: stage.kinds() == [""], "the new version runs", 60)
    wait_until(lambda: len(stage.containers()) == 1, "the release container is gone")
    assert runs(stage) == ["once"]


def test_a_taken_port_and_a_missing_source_are_foreseen_and_named(stage: Stage, tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("0.0.0.0", 0))
        held.listen()
        port = held.getsockname()[1]
        text = stage.file(port=8080, expose_port=port, volumes=["/nonesuch/x:/x"])
        planned = stage.run("plan", "-", text=text)
        assert planned.returncode == 0
        assert f"note: the deploy would fail: host port {port} is taken by " in planned.stdout
        assert "(pid " in planned.stdout
        assert "note: the deploy would fail: /nonesuch/x does not exist on this server" in planned.stdout
        failed = stage.run("deploy", "-", "--json", text=stage.file(port=8080, expose_port=port))
    assert failed.returncode == 1
    error = json.loads(failed.stdout.splitlines()[-1])["error"]
    assert error["code"] == "START_FAILED"
    assert error["message"].startswith(f"cannot start the container: host port {port} is taken by ")
    assert "(pid " in error["message"]
    assert "address already in use" in error["stack"]
    assert stage.replicas() == []
