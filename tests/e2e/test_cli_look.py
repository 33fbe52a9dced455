"""Looking at services as a person does: ps, status, metrics, events and logs of a real agent and engine."""

from __future__ import annotations

import json
import re
import subprocess
import time

import pytest

from tests.e2e.program import AGENT
from tests.e2e.pseudo_terminal import run_in_terminal
from tests.e2e.service_stage import Stage, stage
from tests.engine import api, wait_until

__all__ = ["stage"]

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

HEALTH = {"path": "/health", "interval_seconds": 0.5, "timeout_seconds": 1, "retries": 2}
WELL, NOT_WELL = 0, 3


def table(text: str) -> list[list[str]]:
    return [re.split(r"  +", line.strip()) for line in text.splitlines()]


def test_services_are_seen_as_they_are(stage: Stage) -> None:
    secret = "hunter-twelve"
    service = stage.file(port=8080, replicas=2, health_check=HEALTH, env={"DB_PASSWORD": secret}, domains=["a.example"])
    assert stage.run("deploy", "-", text=service).returncode == 0
    chatty = stage.file(name="chatty", command=["sh", "-c", "while sleep 0.2; do echo tick; done"])
    assert stage.run("deploy", "-", text=chatty).returncode == 0

    # ps: in 80 columns, with a line for each replica when asked.
    seen = run_in_terminal([*AGENT, "--socket", str(stage.agent.socket), "ps"])
    assert seen.code == 0 and all(len(line) <= 80 for line in seen.lines), seen.text
    [web] = [row for row in table(seen.text) if row[0] == "web"]
    assert {"running", "healthy", "2/2", "0", "8080"} <= set(web), web
    rows = table(stage.run("ps", "web").stdout)
    assert rows[0] == ["NAME", "CONTAINER", "WHERE", "STATE", "HEALTH", "RESTARTS", "CPU", "MEMORY", "AGE"]
    assert [(row[0], row[3], row[4]) for row in rows[1:]] == [(f"web-{n}", "running", "healthy") for n in (1, 2)]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+\.\d+", row[2]) for row in rows[1:]), rows
    assert len(table(stage.run("ps", "-a").stdout)) == 4

    # status: 0 while all is well, 3 when it is not, with the reason and what to do.
    assert stage.run("status").returncode == WELL
    status = stage.run("status", "web")
    assert status.returncode == WELL and secret not in status.stdout + stage.run("status", "web", "--json").stdout
    assert re.search(r"^spec: +.*port 8080.*env DB_PASSWORD", status.stdout, re.MULTILINE), status.stdout
    assert re.search(r"^route: +http://a\.example$", status.stdout, re.MULTILINE), status.stdout
    # No proxy stands in front here.
    assert re.search(r"^proxy: +nothing routes a\.example yet: ", status.stdout, re.MULTILINE), status.stdout
    assert re.search(r"^last deploy: +deploy of \S+, succeeded .* asked by ", status.stdout, re.MULTILINE)
    assert re.search(r"^replica 2: +running, health healthy", status.stdout, re.MULTILINE), status.stdout
    assert len(table(stage.run("metrics").stdout)) == 4

    # An exit and the restart after it are events.
    victim = stage.replicas()[0]["Id"]
    api("POST", f"/containers/{victim}/kill", query={"signal": "KILL"})
    wait_until(lambda: " restart " in stage.run("events").stdout, "the restart is an event", 60)
    assert re.search(r"Z exit +\w+: replica \d ", stage.run("events").stdout)

    # What is stopped reads so, beside what is configured.
    assert stage.run("stop", "web").returncode == 0
    [web] = [row for row in table(stage.run("ps").stdout) if row[0] == "web"]
    assert {"stopped", "-", "0/2"} <= set(web), web
    assert "it was stopped; start it with" in stage.run("status", "web").stdout
    assert stage.run("scale", "chatty", "0").returncode == 0
    [chatty_row] = [row for row in table(stage.run("ps").stdout) if row[0] == "chatty"]
    assert {"stopped (scale 0)", "-", "0/0"} <= set(chatty_row), chatty_row
    # A stopped service has its log still.
    assert "serving v1 on 8080" in stage.run("logs", "web", "--tail", "50").stdout


def test_logs_of_several_services_are_merged(stage: Stage) -> None:
    for name in ("one", "two"):
        command = ["sh", "-c", f"i=0; while :; do i=$((i+1)); echo {name} $i; sleep 0.3; done"]
        assert stage.run("deploy", "-", text=stage.file(name=name, command=command, init=True)).returncode == 0
    time.sleep(2)
    lines = stage.run("logs", "--all", "--tail", "6", "-t").stdout.splitlines()
    moments = [line.split("| ")[1].split()[0] for line in lines]
    assert len(lines) == 6 and moments == sorted(moments), lines
    assert {line.split("-")[0] for line in lines} == {"one", "two"}
    found = stage.run("logs", "one", "two", "--grep", "^two", "--since", "10m", "--tail", "2").stdout.splitlines()
    assert len(found) == 2 and all("| two " in line for line in found), found

    # Followed: the past in its order, then what comes, each line once.
    argv = [*AGENT, "--socket", str(stage.agent.socket), "logs", "one", "two", "-f", "--tail", "4", "--json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        seen = [json.loads(following.stdout.readline()) for _ in range(16)]
        following.kill()
    assert len({line["message"] for line in seen}) == 16, seen
    past = [line["timestamp"] for line in seen[:4]]
    assert past == sorted(past)
    for name in ("one", "two"):
        numbers = [int(line["message"].split()[1]) for line in seen if line["message"].startswith(name)]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), seen
    coloured = run_in_terminal([*AGENT, "--socket", str(stage.agent.socket), "logs", "one", "two", "--tail", "3"])
    assert re.search(r"\x1b\[3\dm(one|two)-1 ", coloured.raw), coloured.raw
