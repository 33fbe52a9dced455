"""Telemetry as its users have it: SDKs send to the agent, and the control plane answers queries about it."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.contract.scripted_plane import ScriptedPlane
from tests.e2e.agent_process import AgentProcess
from tests.e2e.fleet import Fleet, fleet
from tests.e2e.program import AGENT
from tests.e2e.telemetry_stage import (
    ARRIVES_SECS,
    SpanSender,
    answers,
    free_ports,
    span_request,
    stored,
    telemetry_pid,
)
from tests.engine import missing, wait_until

pytestmark = pytest.mark.engine

KILLS = 6
BATCH_SECS = 1

JAVASCRIPT = Path(__file__).parent / "otel_js"


class Ports:
    """The ports of the receivers of this module's agent."""

    grpc, http = free_ports(2)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    config = f"[telemetry]\notlp_grpc_port = {Ports.grpc}\notlp_http_port = {Ports.http}\nbatch_interval_secs = 1\n"
    with fleet(tmp_path_factory.mktemp("telemetry"), config=config) as whole:
        wait_until(lambda: answers(Ports.http), "the receivers")
        yield whole


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_official_python_sdk_s_exports_reach_the_control_plane(
    product: Fleet, protocol: str, compression: str
) -> None:
    name = f"shop-{uuid.uuid4().hex[:8]}"
    endpoint = f"http://127.0.0.1:{Ports.grpc if protocol == 'grpc' else Ports.http}"
    command = [sys.executable, "-m", "tests.e2e.otel_sdk", protocol, endpoint, name, compression]
    subprocess.run(command, check=True, timeout=60)
    spans = {span["operation_name"]: span for span in stored(product.plane, "traces", 3, service=name)}
    assert spans.keys() == {"GET /cart", "SELECT carts", "charge"}
    assert spans["charge"]["parent_span_id"] == spans["GET /cart"]["span_id"]
    assert spans["charge"]["status"] == {"code": "error", "message": "ValueError: card refused"}
    names = {point["name"] for point in stored(product.plane, "metrics", 2, service=name)}
    assert {"carts", "duration"} <= names
    [record] = stored(product.plane, "logs", 1, service=name)
    assert record["message"] == "cannot charge" and record["level"] == "error"
    assert record["trace_id"] == spans["charge"]["trace_id"]
    errors = stored(product.plane, "errors", 1, service=name)
    assert {error["type"] for error in errors} == {"ValueError"}
    assert "main" in {frame["function"] for frame in errors[0]["stack_trace"]}


@pytest.fixture(scope="module")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the official JavaScript SDK, installed from its lock file."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            missing(f"no {program}; install it (Debian: nodejs, npm)")
    folder = tmp_path_factory.mktemp("javascript")
    for file in JAVASCRIPT.iterdir():
        shutil.copy(file, folder)
    install = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(install, cwd=folder, check=True, timeout=110, capture_output=True)
    return folder


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf", "http/json"])
def test_the_official_javascript_sdk_s_exports_reach_the_control_plane(
    product: Fleet, javascript: Path, protocol: str, compression: str
) -> None:
    name = f"shop-{uuid.uuid4().hex[:8]}"
    endpoint = f"http://127.0.0.1:{Ports.grpc if protocol == 'grpc' else Ports.http}"
    command = ["node", "send.mjs", protocol, endpoint, name, compression]
    subprocess.run(command, cwd=javascript, check=True, timeout=60)
    spans = {span["operation_name"]: span for span in stored(product.plane, "traces", 3, service=name)}
    assert spans.keys() == {"GET /cart", "SELECT carts", "charge"}
    assert spans["charge"]["parent_span_id"] == spans["GET /cart"]["span_id"]
    assert spans["charge"]["status"] == {"code": "error", "message": "card refused"}
    assert {"carts", "duration"} <= {point["name"] for point in stored(product.plane, "metrics", 2, service=name)}
    [record] = stored(product.plane, "logs", 1, service=name)
    assert record["message"] == "cannot charge" and record["trace_id"] == spans["charge"]["trace_id"]
    [error] = stored(product.plane, "errors", 1, service=name)
    assert error["type"] == "Error" and "send.mjs" in error["stack_trace"][0]["filename"]


def test_nothing_acknowledged_is_lost_when_agent_and_telemetry_process_are_killed(product: Fleet) -> None:
    name = f"killed-{uuid.uuid4().hex[:8]}"
    senders = [SpanSender(name, Ports.http) for _ in range(4)]
    for sender in senders:
        sender.start()
    began = time.monotonic()
    for turn in range(KILLS):
        time.sleep(0.7)
        if turn % 2:
            product.agent.kill()
            product.agent.start()
        else:
            pid = telemetry_pid(product.agent)
            assert pid, "the agent has no telemetry process"
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: answers(Ports.http), "the receivers are back", 20)
    for sender in senders:
        sender.stopped.set()
    for sender in senders:
        sender.join(10)
    elapsed = time.monotonic() - began
    acknowledged = {trace_id for sender in senders for trace_id in sender.acknowledged}
    assert len(acknowledged) > 100 and sum(sender.failures for sender in senders) > 0

    def missing() -> set[str]:
        return acknowledged - {span["trace_id"] for span in product.plane.client.all_telemetry("traces", service=name)}

    wait_until(lambda: not missing(), f"every acknowledged span, without {len(missing())}", ARRIVES_SECS)
    found = [span["trace_id"] for span in product.plane.client.all_telemetry("traces", service=name)]
    # What was under way may arrive twice: at each kill, what came within two batch intervals at the most.
    most = 2 * KILLS * BATCH_SECS * len(acknowledged) / elapsed
    assert len(found) - len(set(found)) <= most


def test_a_container_cannot_claim_to_be_another_service(product: Fleet) -> None:
    service = product.service("honest")
    product.running(product.payload(service, config={"replicas": 1}))
    claims = {"syntra.service.id": "svc_other", "service.name": "other", "syntra.deployment.id": "dep_other"}
    trace_id = uuid.uuid4().hex
    request = json.loads(span_request(trace_id, "other"))
    request["resourceSpans"][0]["resource"]["attributes"] = [
        {"key": key, "value": {"stringValue": value}} for key, value in claims.items()
    ]
    send = (
        "wget -q -O- --header 'Content-Type: application/json' --post-data "
        f"'{json.dumps(request)}' $OTEL_EXPORTER_OTLP_ENDPOINT/v1/traces"
    )
    answer = product.exec(service, "sh", "-c", send)
    assert answer["exit_code"] == 0 and json.loads(answer["stdout"]) == {}, answer
    [span] = stored(product.plane, "traces", 1, trace_id=trace_id)
    assert span["service_id"] == service
    assert span["deployment_id"] not in ("", "dep_other")
    printed = product.exec(service, "env")["stdout"]
    assert f"OTEL_SERVICE_NAME={service[:40]}" in printed
    assert "SYNTRA_OTLP_ENDPOINT=http://" in printed
    assert not product.plane.client.all_telemetry("traces", service="svc_other")


def command_line(product: Fleet, *words: str, timeout: float = 20) -> str:
    command = [*AGENT, "--socket", str(product.agent.socket), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)
    return done.stdout


def test_status_and_tail_show_what_comes_in(product: Fleet) -> None:
    name = f"seen-{uuid.uuid4().hex[:8]}"
    tail = subprocess.Popen(
        [*AGENT, "--socket", str(product.agent.socket), "telemetry", "tail", "--service", name],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        sender = SpanSender(name, Ports.http)
        sender.start()
        assert tail.stdout is not None
        line = tail.stdout.readline()
        sender.stopped.set()
        sender.join(10)
        assert name in line and "traces" in line and "server" in line
    finally:
        tail.kill()
        tail.communicate(timeout=10)
    view = json.loads(command_line(product, "telemetry", "status", "--json"))
    traces = next(row for row in view["signals"] if row["signal"] == "traces")
    assert traces["received"] >= len(sender.acknowledged) > 0
    assert view["problem"] is None
    [destination] = view["destinations"]
    assert destination["name"] == "control-plane"
    shown = command_line(product, "telemetry", "status")
    assert f"http://127.0.0.1:{Ports.http}" in shown and "everything is kept" in shown


def test_a_killed_telemetry_process_is_replaced_and_said(product: Fleet) -> None:
    pid = telemetry_pid(product.agent)
    os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: any("telemetry is not received" in warning for warning in product.status()["warnings"]), "the warning"
    )
    wait_until(lambda: answers(Ports.http), "the receivers are back", 20)
    wait_until(
        lambda: not any("telemetry" in warning for warning in product.status()["warnings"]), "the end of the warning"
    )
    assert telemetry_pid(product.agent) not in (0, pid)


def test_a_stop_ships_what_waits_before_the_connection_closes(tmp_path: Path) -> None:
    grpc_port, http_port = free_ports(2)
    with ScriptedPlane() as plane:
        token = tmp_path / "token"
        token.write_text(f"syn_agt_{uuid.uuid4().hex}{uuid.uuid4().hex}\n")
        token.chmod(0o600)
        config = (
            f'[control_plane]\nendpoint = "{plane.endpoint}"\ntoken_file = "{token}"\n'
            f"[telemetry]\notlp_grpc_port = {grpc_port}\notlp_http_port = {http_port}\nbatch_interval_secs = 3600\n"
            # What the host adds by itself would be waiting too.
            '[telemetry.figures]\ncollect = "off"\n'
        )
        with AgentProcess(tmp_path / "agent", config=config, environment={"SYNTRA_SERVER_ID": "srv_1"}) as agent:
            link = plane.accepted()
            wait_until(lambda: answers(http_port), "the receivers")
            connection = http.client.HTTPConnection("127.0.0.1", http_port, timeout=10)
            body = span_request(uuid.uuid4().hex, "shop")
            connection.request("POST", "/v1/traces", body, {"Content-Type": "application/json"})
            assert connection.getresponse().status == 200
            connection.close()
            view = json.loads(
                subprocess.run(
                    [*AGENT, "--socket", agent.socket, "telemetry", "status", "--json"],
                    check=True,
                    capture_output=True,
                    timeout=30,
                ).stdout
            )
            assert view["destinations"][0]["waiting"] == 1
            assert agent.stop() == 0
            assert plane.problems == []
            shipped = [_data(frame.payload) for frame in link.of("telemetry_batch")]
    assert [span["operation_name"] for data in shipped for span in data["traces"]] == ["x"]
    assert any(data["metrics"] for data in shipped)


def _data(payload: Mapping[str, Any]) -> dict[str, Any]:
    data = payload["data"]
    if payload["compression"] == "zstd":
        data = json.loads(zstandard.ZstdDecompressor().decompressobj().decompress(base64.b64decode(data)))
    return dict(data)
