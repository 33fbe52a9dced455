"""The telemetry process of the compiled binary: it receives, keeps and ships, and its crashes can be read."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from syntra.telemetry.link import Link
from syntra.telemetry.process.verb import VERB
from tests.e2e.artifact import ELSEWHERE, ROOT, clean_environment
from tests.e2e.fleet import ControlPlaneProcess, enrolled
from tests.e2e.telemetry_stage import answers, free_ports, span_names_endpoint, stored, telemetry_pid
from tests.engine import wait_until

SDK_SPANS = {"GET /cart", "SELECT carts", "charge"}


@pytest.mark.engine
@pytest.mark.timeout(180, func_only=True)
def test_the_binary_receives_keeps_and_ships_telemetry(built_binary: Path, tmp_path: Path) -> None:
    """The official SDK sends; the control plane and a gRPC endpoint get it; no process outlives the agent's stop."""
    alone = tmp_path / "bin/syntra-agent"
    alone.parent.mkdir()
    shutil.copy(built_binary, alone)
    cache = tmp_path / "cache"
    grpc_port, http_port = free_ports(2)
    away: Mapping[str, Any] = {
        "command": [str(alone)],
        "cwd": ELSEWHERE,
        "inherited": clean_environment(XDG_CACHE_HOME=str(cache)),
    }
    with (
        span_names_endpoint() as endpoint,
        ControlPlaneProcess(tmp_path / "plane", **away) as plane,
        enrolled(
            tmp_path / "agent",
            plane,
            server_id=f"srv_{uuid.uuid4().hex[:8]}",
            config=f"[telemetry]\notlp_grpc_port = {grpc_port}\notlp_http_port = {http_port}\nbatch_interval_secs = 1\n"
            f'[telemetry.export]\nendpoint = "http://127.0.0.1:{endpoint.port}"\nprotocol = "grpc"\n'
            'compression = "gzip"\n',
            **away,
        ) as agent,
    ):
        wait_until(lambda: answers(http_port), f"the receivers; the log: {agent.text()[-2000:]}", 20)
        child = telemetry_pid(agent)
        program = os.readlink(f"/proc/{child}/exe")
        assert Path(program).is_relative_to(cache)
        assert program == os.readlink(f"/proc/{agent.pid}/exe")

        send_with_sdk("grpc", grpc_port, "bought")
        send_with_sdk("http", http_port, "sold")
        for name in ("bought", "sold"):
            assert {span["operation_name"] for span in stored(plane, "traces", 3, service=name)} == SDK_SPANS
            assert len(stored(plane, "logs", 1, service=name)) == 1
            assert {"carts", "duration"} <= {point["name"] for point in stored(plane, "metrics", 2, service=name)}
            assert {error["type"] for error in stored(plane, "errors", 1, service=name)} == {"ValueError"}
        wait_until(lambda: endpoint.names >= SDK_SPANS, f"the endpoint has the spans, has {endpoint.names}", 20)

        # The file is another version by now; the agent's next child is still of the agent's own.
        replacement = tmp_path / "bin/newer"
        replacement.write_text("#!/bin/sh\nexit 1\n")
        replacement.chmod(0o755)
        replacement.replace(alone)
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: telemetry_pid(agent) not in (0, child) and answers(http_port), "another process", 20)
        send_json(http_port, "again")
        assert [span["operation_name"] for span in stored(plane, "traces", 1, service="again")] == ["as JSON"]
        wait_until(lambda: "as JSON" in endpoint.names, f"the endpoint has the span, has {endpoint.names}", 20)

        assert agent.stop() == 0
        assert plane.stop() == 0
        assert running_from(cache) == []
        assert "Traceback" not in agent.text() + plane.log.read_text()


def send_with_sdk(protocol: str, port: int, service: str) -> None:
    command = [sys.executable, "-m", "tests.e2e.otel_sdk", protocol, f"http://127.0.0.1:{port}", service, "gzip"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)


def send_json(port: int, service: str) -> None:
    """One span as OTLP's JSON."""
    now = time.time_ns()
    span = {"traceId": uuid.uuid4().hex, "spanId": uuid.uuid4().hex[:16], "name": "as JSON", "kind": 2}
    span |= {"startTimeUnixNano": str(now), "endTimeUnixNano": str(now + 1000)}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    body = json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/v1/traces", body, {"Content-Type": "application/json"})
    assert connection.getresponse().status == 200
    connection.close()


def running_from(folder: Path) -> list[int]:
    """The processes whose program is below `folder`."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            program = os.readlink(proc / "exe")
        except OSError:
            continue
        if Path(program).is_relative_to(folder):
            found.append(int(proc.name))
    return found


@pytest.fixture(params=["source", "binary"])
def program(request: pytest.FixtureRequest) -> Sequence[str]:
    """The beginning of a command line."""
    if request.param == "source":
        return [sys.executable, "-m", "syntra"]
    return [str(request.getfixturevalue("built_binary"))]


class LonelyProcess:
    """A telemetry process without an agent; a context manager."""

    def __init__(self, program: Sequence[str], folder: Path) -> None:
        self.log, self._errors = folder / "agent.log", folder / "errors"
        self._ours, theirs = socket.socketpair()
        self._ours.setblocking(False)
        with theirs, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*program, VERB, str(theirs.fileno())],
                env=clean_environment(SYNTRA_RUNTIME_DIR=str(folder)),
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stderr=errors,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ours.close()
        self._process.kill()
        self._process.wait()

    async def configure(self, **fields: Any) -> int:
        """Send the agent's first message; the exit status."""
        logging = {"format": "json", "level": "info", "file": str(self.log), "secrets": []}
        link = await Link.over(self._ours)
        await link.send("configure", {"logging": logging, **fields})
        status = await asyncio.to_thread(self._process.wait, 30)
        link.close()
        return status

    def crash(self) -> int:
        """Crash as a library in C does; the exit status."""
        name = Path(f"/proc/{self._process.pid}/comm")
        wait_until(lambda: name.read_text() == "syntra-telemetr\n", "the process", 20)
        self._process.send_signal(signal.SIGSEGV)
        return self._process.wait(30)

    @property
    def errors(self) -> str:
        """Its standard error."""
        return self._errors.read_text()


async def test_an_unexpected_error_of_the_telemetry_process_is_in_its_log(
    program: Sequence[str], tmp_path: Path
) -> None:
    """With the files and lines of our sources, although they are compiled."""
    with LonelyProcess(program, tmp_path) as lonely:
        # The agent never leaves a section out.
        assert await lonely.configure() == 1
    [line] = map(json.loads, lonely.log.read_text().splitlines())
    assert line["level"] == "error"
    assert 'syntra/telemetry/process/settings.py", line ' in line["exception"]
    assert "KeyError: 'telemetry'" in line["exception"]
    assert lonely.errors == ""


def test_a_crash_in_a_library_of_the_telemetry_process_names_the_place(program: Sequence[str], tmp_path: Path) -> None:
    with LonelyProcess(program, tmp_path) as lonely:
        assert lonely.crash() == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in lonely.errors
    assert 'syntra/telemetry/process/main.py", line ' in lonely.errors
