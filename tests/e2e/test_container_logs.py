"""Logs of containers, from what a program prints to what the control plane shows of it."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.fleet import Fleet, fleet
from tests.e2e.telemetry_stage import answers, free_ports, stored
from tests.engine import busybox_image, cleanup, new_token, require_engine, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
JSON_LINE = json.dumps(
    {"level": "warn", "msg": "slow query", "trace_id": TRACE_ID, "span_id": SPAN_ID, "ms": 1200, "db": {"name": "shop"}}
)
TRACEBACK = """Traceback (most recent call last):
  File "/app/main.py", line 7, in <module>
    charge(None)
  File "/app/pay.py", line 3, in charge
    raise ValueError("no card")
ValueError: no card"""
PROGRAM = f"""
echo plain text
echo '{JSON_LINE}'
echo 'level=error msg="disk is full" disk=sda1' >&2
cat >&2 <<'END'
{TRACEBACK}
END
echo DEBUG that is all
head -c 40000 /dev/zero | tr '\\0' x; echo
exec sleep 1000
"""


class Ports:
    """The ports of the receivers of this module's agent."""

    grpc, http = free_ports(2)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    require_engine()
    config = f"[telemetry]\notlp_grpc_port = {Ports.grpc}\notlp_http_port = {Ports.http}\nbatch_interval_secs = 1\n"
    with fleet(tmp_path_factory.mktemp("logs"), config=config) as whole:
        wait_until(lambda: answers(Ports.http), "the receivers")
        yield whole


def deployed(product: Fleet, token: str, name: str, program: str, **config: Any) -> str:
    """Deploy a service that runs a shell program; its deployment id."""
    busybox_image(f"{token}:v1")
    deployment = f"d-{uuid.uuid4().hex[:10]}"
    report = product.agent.carry_out(
        "deploy",
        {
            "service_id": f"svc-{token}-{name}",
            "deployment_id": deployment,
            "service_name": name,
            "project_name": token,
            "image": f"{token}:v1",
            "config": {"command": ["sh", "-c", program], **config},
            "timeout_seconds": 60,
        },
        timeout=90,
    )
    assert report["status"] == "running", report
    return deployment


@pytest.fixture
def token() -> Iterator[str]:
    made = new_token()
    try:
        yield made
    finally:
        cleanup(made)


def test_what_a_program_prints_reaches_the_control_plane_as_structured_records(product: Fleet, token: str) -> None:
    name = f"shop-{uuid.uuid4().hex[:8]}"
    deployment = deployed(product, token, name, PROGRAM)
    found = stored(product.plane, "logs", 5, service=name)
    assert len(found) == 5
    records = {record["message"].split("\n")[0][:20]: record for record in found}
    plain = records["plain text"]
    assert plain["attributes"]["log.iostream"] == "stdout"
    slow = records["slow query"]
    assert (slow["level"], slow["trace_id"], slow["span_id"]) == ("warn", TRACE_ID, SPAN_ID)
    assert slow["attributes"]["ms"] == 1200
    assert records["disk is full"]["level"] == "error"
    assert records["disk is full"]["attributes"]["disk"] == "sda1"
    assert records["disk is full"]["attributes"]["log.iostream"] == "stderr"
    assert records["disk is full"]["message"] == f"disk is full\n{TRACEBACK}"
    assert records["DEBUG that is all"]["level"] == "debug"
    assert records["x" * 20]["message"] == "x" * 40_000
    [error] = stored(product.plane, "errors", 1, service=f"svc-{token}-{name}")
    assert (error["type"], error["message"]) == ("ValueError", "no card")
    assert [frame["function"] for frame in error["stack_trace"]] == ["charge", "<module>"]
    for record in found:
        assert record["service_id"] == f"svc-{token}-{name}"
        assert record["deployment_id"] == deployment


def test_the_service_file_s_own_way_to_read_a_log_changes_without_new_containers(product: Fleet, token: str) -> None:
    name = f"shop-{uuid.uuid4().hex[:8]}"
    program = 'while :; do echo \'{"msg": "a", "level": "info"}\'; echo \' b\'; sleep 0.2; done'
    deployed(product, token, name, program, logs={"multiline": "off", "parse": "off"})
    found = stored(product.plane, "logs", 4, service=name)
    assert {record["message"] for record in found} == {'{"msg": "a", "level": "info"}', " b"}


def test_status_and_tail_show_the_logs(product: Fleet, token: str) -> None:
    name = f"shop-{uuid.uuid4().hex[:8]}"
    deployed(product, token, name, "while :; do echo tick; sleep 0.1; done")
    stored(product.plane, "logs", 3, service=name)
    command = [sys.executable, "-m", "syntra", "--socket", str(product.agent.socket), "telemetry"]
    shown = subprocess.run([*command, "status", "--json"], capture_output=True, text=True, timeout=30, check=True)
    logs = json.loads(shown.stdout)["container_logs"]
    assert logs["containers"] >= 1
    assert logs["lines"] >= 3
    with subprocess.Popen([*command, "tail", "--service", name], stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        line = tail.stdout.readline()
        tail.terminate()
    assert "tick" in line


def test_lines_of_a_container_that_is_removed_at_once_are_not_lost(product: Fleet, token: str) -> None:
    name = f"shop-{uuid.uuid4().hex[:8]}"
    program = "trap 'seq 1 2000; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    deployed(product, token, name, program)
    stored(product.plane, "logs", 1, service=name)
    product.agent.carry_out("stop", {"service_id": f"svc-{token}-{name}", "remove": True})
    found = stored(product.plane, "logs", 2001, service=name)
    assert sorted(int(record["message"]) for record in found if record["message"] != "ready") == list(range(1, 2001))
