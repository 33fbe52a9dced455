"""Deploys and heartbeats while eight senders flood the agent with telemetry, compared with those without a flood.

A WebSocket server in this process plays the control plane: it asks for a heartbeat each second, takes the telemetry as
binary frames and acknowledges it. A deploy of one replica is timed from the request to its report, in turns with and
without the flood. The flood is the load generator of `otlp`: as many spans as the agent takes, over eight connections.
A heartbeat is late by what its distance from the one before is above a second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from benchmarks.agent import BINARY, ROOT, SOURCE, AgentProcess
from benchmarks.figures import compared, result, say
from benchmarks.processes import memory_kb, tree
from syntra.cli.agent_client import ask, operate
from syntra.telemetry.wire.telemetry_pb2 import TelemetryFrame
from tests.engine import PORT, LocalRegistry, busybox_image, cleanup, new_token
from tests.telemetry.real_collector import free_port

DEPLOY_GOAL, LATE_GOAL_SECS = 1.5, 1.0
SENDERS = 8
FLOOD_SECS = 600
SETTLE_SECS = 2.0
OPERATION_SECS = 120.0
NAMES = ("flooded_s", "quiet_s")


class Plane:
    """The other end of the agent's connection."""

    def __init__(self) -> None:
        self.heartbeats: list[float] = []
        self.telemetry_bytes = 0
        self.connected = asyncio.Event()

    async def handle(self, connection: ServerConnection) -> None:
        """Serve one connection."""
        await connection.recv()
        config = {"heartbeat_interval_seconds": 1, "features": ["binary_telemetry", "telemetry_ack"]}
        await self._send(connection, "hello_ack", {"accepted": True, "config": config, "pending_deployments": []})
        self.connected.set()
        with contextlib.suppress(ConnectionClosed):
            async for frame in connection:
                if isinstance(frame, bytes):
                    self.telemetry_bytes += len(frame)
                    batch = TelemetryFrame.FromString(frame)
                    await self._send(connection, "telemetry_ack", {"batch_id": batch.batch_id, "accepted": True})
                elif json.loads(frame)["type"] == "heartbeat":
                    self.heartbeats.append(time.perf_counter())

    async def _send(self, connection: ServerConnection, kind: str, payload: object) -> None:
        message = {"id": str(uuid.uuid4()), "type": kind, "timestamp": "2026-01-01T00:00:00Z", "payload": payload}
        await connection.send(json.dumps(message))

    def latest(self, since: float) -> float:
        """By how many seconds the latest heartbeat since then was late."""
        seen = [at for at in self.heartbeats if at >= since]
        return max((after - before - 1.0 for before, after in itertools.pairwise(seen)), default=0.0)


@contextlib.asynccontextmanager
async def flood(port: int) -> AsyncIterator[None]:
    """Eight senders at full speed."""
    command = [sys.executable, "-m", "benchmarks.otlp_load", "--protocol", "http/protobuf", "--port", str(port)]
    command += ["--spans", "100", "--seconds", str(FLOOD_SECS), "--connections", str(SENDERS)]
    load = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert load.stdin is not None and load.stdout is not None, "cannot happen: they were asked for"
        await load.stdout.readline()
        load.stdin.write(b"go\n")
        await load.stdin.drain()
        await asyncio.sleep(SETTLE_SECS)
        yield
    finally:
        load.kill()
        await load.wait()


def deploy(socket: Path, image: str, token: str) -> float:
    """Deploy one replica and remove it; the seconds that the deploy took."""
    service = f"{token}-flood"
    payload = {
        "deployment_id": f"dep_{uuid.uuid4().hex}",
        "service_id": service,
        "service_name": "flood",
        "project_name": token,
        "image": image,
        "config": {"port": PORT, "replicas": 1, "health_check": {"type": "http", "path": "/health", "port": PORT}},
    }
    began = time.perf_counter()
    *_, last = operate(socket, "deploy", payload, idle=OPERATION_SECS)
    took = time.perf_counter() - began
    assert last["status"] == "running", f"the deployment failed: {last}"
    ask(socket, "stop", {"service_id": service, "remove_container": True}, timeout=OPERATION_SECS)
    return took


async def measure(agent: AgentProcess, plane: Plane, http_port: int, image: str, token: str, rounds: int) -> None:
    """All rounds; prints the result."""
    load = os.getloadavg()[0]
    quiet: list[float] = []
    flooded: list[float] = []
    late_quiet = late_flooded = 0.0
    await asyncio.to_thread(deploy, agent.socket, image, token)
    for number in range(rounds):
        since = time.perf_counter()
        quiet.append(await asyncio.to_thread(deploy, agent.socket, image, token))
        late_quiet = max(late_quiet, plane.latest(since))
        async with flood(http_port):
            since = time.perf_counter()
            flooded.append(await asyncio.to_thread(deploy, agent.socket, image, token))
            await asyncio.sleep(SETTLE_SECS)
            late_flooded = max(late_flooded, plane.latest(since))
            memory = memory_kb(tree(agent.pid))["pss"]
        say(f"round {number + 1}: quiet {quiet[-1]:.3f} s, flooded {flooded[-1]:.3f} s, late {late_flooded:.3f} s")
    figures = {
        **compared(flooded, quiet, names=NAMES),
        "heartbeat_late_s": {"flooded": round(late_flooded, 3), "quiet": round(late_quiet, 3)},
        "pss_mb": round(memory / 1024, 1),
        "telemetry_mb": round(plane.telemetry_bytes / 1e6, 1),
        "goal": {"deploy": DEPLOY_GOAL, "heartbeat_late_s": LATE_GOAL_SECS},
        "rounds": rounds,
    }
    result("flood", figures, load_before=load)


async def run(rounds: int, *, binary: bool) -> None:
    """Run the benchmark and print the result."""
    token, plane = new_token(), Plane()
    grpc_port, http_port = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        try:
            with LocalRegistry(Path(folder) / "registry") as registry:
                busybox_image(f"{token}:1")
                registry.push(f"{token}:1", token, "1")
                async with serve(plane.handle, "127.0.0.1", 0, compression=None, max_size=32 * 2**20) as server:
                    port = next(iter(server.sockets)).getsockname()[1]
                    config = (
                        f'[control_plane]\nendpoint = "ws://127.0.0.1:{port}/agent/ws"\ntoken = "bench"\n'
                        "[runtime]\nmin_healthy_secs = 0\n"
                        f"[telemetry]\notlp_grpc_port = {grpc_port}\notlp_http_port = {http_port}\n"
                        "target_spans_per_sec = 10000000\nbatch_interval_secs = 1\n"
                    )
                    command = (str(BINARY),) if binary else SOURCE
                    agent = AgentProcess(Path(folder) / "agent", config=config, command=command)
                    await asyncio.to_thread(agent.__enter__)
                    try:
                        async with asyncio.timeout(30):
                            await plane.connected.wait()
                        image = f"{registry.address}/{token}:1"
                        await measure(agent, plane, http_port, image, token, rounds)
                    finally:
                        await asyncio.to_thread(agent.end)
        finally:
            cleanup(token)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="scripts/bench flood",
        description="Time deploys and heartbeats while eight senders flood the agent with telemetry.",
    )
    parser.add_argument("--rounds", type=int, default=5, help="deploys with and without the flood (default 5)")
    parser.add_argument("--binary", action="store_true", help="measure the compiled agent, dist/syntra-agent")
    given = parser.parse_args()
    asyncio.run(run(given.rounds, binary=given.binary))
