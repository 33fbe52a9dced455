"""Measures the time from the start of the process to its hello: how long a server is offline when its agent restarts.

A WebSocket server in this process records when the `agent_hello` frame arrives. The peer, in turns: a bare Python
program that imports asyncio and the WebSocket library, connects and sends one hello of the same size. The agent does
all its work before a hello: configuration, journal, engine, local socket, host facts. Its data directory already
exists, as after an update or a crash. The very first start is reported separately (`first_s`); a compiled binary
unpacks its files then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve

from benchmarks.agent import BINARY, ROOT, SOURCE, AgentProcess, environment
from benchmarks.figures import compared, median, ratio, result, say

TARGET_S = 0.3
HELLO_SECS = 30.0
BARE = """
import asyncio, sys
from websockets.asyncio.client import connect

async def main():
    headers = {"Authorization": "Bearer bench"}
    async with connect(sys.argv[1], additional_headers=headers, compression=None) as socket:
        await socket.send(sys.argv[2])
        await socket.wait_closed()

asyncio.run(main())
"""
HELLO = json.dumps({"id": "1", "type": "agent_hello", "timestamp": "", "payload": {"filler": "x" * 900}})


class HelloServer:
    """Records the time of the first frame of each connection, and closes it."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[float] = asyncio.Queue(16)

    async def handle(self, connection: ServerConnection) -> None:
        """Handle one connection."""
        frame = await connection.recv()
        now = time.perf_counter()
        assert json.loads(frame)["type"] == "agent_hello", f"not a hello: {frame!r:.200}"
        self._arrived.put_nowait(now)

    async def hello(self) -> float:
        """The time when the next hello arrived."""
        async with asyncio.timeout(HELLO_SECS):
            return await self._arrived.get()

    def forget(self) -> None:
        """Discard hellos of an agent that reconnected before it ended."""
        while not self._arrived.empty():
            self._arrived.get_nowait()


Starter = Callable[[], Awaitable[float]]


async def agent_start(server: HelloServer, endpoint: str, folder: Path, command: Sequence[str]) -> float:
    """Seconds from the start of an agent to its hello."""
    agent = AgentProcess(
        folder, command=command, config=f'[control_plane]\nendpoint = "{endpoint}"\ntoken = "syn_agt_bench"\n'
    )
    began = time.perf_counter()
    agent.spawn()
    try:
        return await server.hello() - began
    finally:
        await asyncio.to_thread(agent.end)
        server.forget()


def spawn_bare(endpoint: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start the bare program and return at once."""
    return subprocess.Popen([SOURCE[0], "-c", BARE, endpoint, HELLO], cwd=ROOT, env=environment(folder))


async def bare_start(server: HelloServer, endpoint: str, folder: Path) -> float:
    """Seconds from the start of the bare program to its hello."""
    began = time.perf_counter()
    process = spawn_bare(endpoint, folder)
    try:
        return await server.hello() - began
    finally:
        await asyncio.to_thread(process.wait, HELLO_SECS)


def command_line(folder: Path, rounds: int) -> dict[str, float]:
    """Medians of whole commands, next to a Python that does nothing: the time that a person waits."""
    with AgentProcess(folder) as agent:
        commands = {
            "version_s": [*SOURCE, "version"],
            "help_s": [*SOURCE, "--help"],
            "ps_s": [*SOURCE, "ps", "--socket", str(agent.socket)],
            "bare_python_s": [SOURCE[0], "-c", "pass"],
        }
        samples: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, command in commands.items():
                began = time.perf_counter()
                subprocess.run(command, cwd=ROOT, env=environment(folder), stdout=subprocess.DEVNULL, check=True)
                if number:
                    samples[name].append(time.perf_counter() - began)
    return {name: median(times) for name, times in samples.items()}


async def run(rounds: int) -> None:
    """Run the benchmark and print the result."""
    load = os.getloadavg()[0]
    server = HelloServer()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with serve(server.handle, "127.0.0.1", 0, compression=None) as listening:
            host, port = next(iter(listening.sockets)).getsockname()[:2]
            endpoint = f"ws://{host}:{port}/agent/ws"
            starters: dict[str, Starter] = {
                "source": lambda: agent_start(server, endpoint, folder / "source", SOURCE),
                "bare": lambda: bare_start(server, endpoint, folder),
            }
            if BINARY.exists():
                starters["binary"] = lambda: agent_start(server, endpoint, folder / "binary", (str(BINARY),))
            first = {name: await starter() for name, starter in starters.items()}
            samples: dict[str, list[float]] = {name: [] for name in starters}
            for number in range(1, rounds + 1):
                for name, starter in starters.items():
                    samples[name].append(await starter())
                say(f"round {number}: " + ", ".join(f"{name} {times[-1]:.3f} s" for name, times in samples.items()))
        commands = command_line(folder / "commands", rounds)
    figures: dict[str, object] = {
        "commands": commands,
        **compared(samples["source"], samples["bare"], names=("ours_s", "bare_s")),
        "first_s": round(first["source"], 4),
    }
    if "binary" in samples:
        binary = median(samples["binary"])
        figures["binary"] = {
            "ours_s": binary,
            "ratio": ratio(binary, median(samples["bare"])),
            "first_s": round(first["binary"], 4),
        }
    result("start", {**figures, "target_s": TARGET_S, "rounds": rounds}, load_before=load)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="scripts/bench start",
        description="Compare the time from exec to `agent_hello` with a bare WebSocket client.",
    )
    parser.add_argument("--rounds", type=int, default=10, help="rounds for each side (default 10)")
    asyncio.run(run(parser.parse_args().rounds))
