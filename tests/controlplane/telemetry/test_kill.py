"""kill -9 of the control plane at any moment: what it has acknowledged is there, and what comes again is there once."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from tests.controlplane.client import ControlPlaneClient
from tests.controlplane.harness import hello
from tests.controlplane.telemetry.samples import EXTENSIONS, frame, traces

PATIENCE = 20.0


@contextlib.contextmanager
def process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The control plane as a process of its own, and its port."""
    command = [sys.executable, "-m", "syntra", "controlplane", "--listen", "127.0.0.1:0", "--data-dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        try:
            assert running.stdout is not None
            yield running, int(running.stdout.readline().rpartition(":")[2])
        finally:
            running.kill()


@contextlib.contextmanager
def connected(port: int, token: str) -> Iterator[ClientConnection]:
    headers = {"Authorization": f"Bearer {token}", "X-Agent-Version": "1.0.0"}
    url = f"ws://127.0.0.1:{port}/agent/ws"
    with connect(url, additional_headers=headers, compression=None, proxy=None, close_timeout=1) as socket:
        envelope = {"id": "1", "type": "agent_hello", "timestamp": "", "payload": hello(capabilities=EXTENSIONS)}
        socket.send(json.dumps(envelope))
        assert json.loads(socket.recv(PATIENCE))["type"] == "hello_ack"
        yield socket


def acknowledged(socket: ClientConnection) -> str:
    message = json.loads(socket.recv(PATIENCE))
    assert message["type"] == "telemetry_ack"
    assert message["payload"]["accepted"] is True
    return str(message["payload"]["batch_id"])


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_control_plane_has_what_it_acknowledged_and_has_it_once(tmp_path: Path, seed: int) -> None:
    after = random.Random(seed).uniform(0.0, 0.3)
    sent: list[str] = []
    acks: set[str] = set()
    with process(tmp_path) as (plane, port):
        client = ControlPlaneClient.from_token_file(f"http://127.0.0.1:{port}", tmp_path / "operator.token")
        token = client.create_token("srv_1")["token"]
        with contextlib.suppress(WebSocketException, OSError), connected(port, token) as socket:
            killer = threading.Timer(after, plane.kill)
            killer.start()
            while True:
                # Two under way, so that the kill meets one in the middle of its commit.
                for _ in range(2):
                    socket.send(frame(f"{len(sent)}", traces(first=len(sent))))
                    sent.append(str(len(sent)))
                acks |= {acknowledged(socket) for _ in range(2)}
        killer.join()
    with process(tmp_path) as (_, port):
        client = ControlPlaneClient.from_token_file(f"http://127.0.0.1:{port}", tmp_path / "operator.token")
        stored = [span["operation_name"].removeprefix("span ") for span in client.all_telemetry("traces")]
        assert acks <= set(stored)
        with connected(port, token) as socket:
            for batch_id in sent[-10:]:
                socket.send(frame(batch_id, traces(first=int(batch_id))))
                assert acknowledged(socket) == batch_id
        stored = [span["operation_name"].removeprefix("span ") for span in client.all_telemetry("traces")]
        assert sorted(stored, key=int) == sent
