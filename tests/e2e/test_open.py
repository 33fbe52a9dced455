"""`open`: a forwarded port to a replica of a real engine, also after a deploy."""

from __future__ import annotations

import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.program import AGENT
from tests.e2e.service_stage import Stage
from tests.engine import busybox_image, cleanup, new_token, require_engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    require_engine()
    token = new_token()
    busybox_image(f"{token}:v1", "v1")
    busybox_image(f"{token}:v2", "v2")
    try:
        with AgentProcess(tmp_path) as agent:
            yield Stage(token=token, agent=agent)
    finally:
        cleanup(token)


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode()).strip()


def test_a_port_leads_to_the_replica_that_runs_now(stage: Stage) -> None:
    assert stage.run("deploy", "-", text=stage.file(port=8080)).returncode == 0
    argv = [*AGENT, "--socket", str(stage.agent.socket), "open", "web"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as opened:
        try:
            assert opened.stdout is not None and opened.stderr is not None
            said = re.fullmatch(
                r"(http://127\.0\.0\.1:\d+) leads to web at [\d.]+:8080; Ctrl-C ends it\n", opened.stdout.readline()
            )
            assert said is not None
            assert fetched(said[1]) == "v1"
            file = stage.file(port=8080, image=f"{stage.token}:v2")
            assert stage.run("deploy", "-", text=file).returncode == 0
            assert fetched(said[1]) == "v2"
            assert stage.run("stop", "web").returncode == 0
            with pytest.raises(OSError):
                fetched(said[1])
            assert opened.stderr.readline().startswith("cannot forward a connection: cannot open web: a replica of it")
        finally:
            opened.send_signal(signal.SIGINT)
        assert opened.wait(20) == 130
        assert "Traceback" not in opened.stderr.read()


def test_what_cannot_be_opened_is_said(stage: Stage) -> None:
    assert stage.run("deploy", "-", text=stage.file(command=["sleep", "1000"], init=True)).returncode == 0
    none = stage.run("open", "web")
    assert none.returncode == 2 and "it has no port in its service file" in none.stderr
    absent = stage.run("open", "web", "80", "--replica", "7")
    assert absent.returncode == 1 and absent.stderr.startswith("cannot open web: replica 7 of it does not run")
    assert stage.run("open", "web", "0").returncode == 2
