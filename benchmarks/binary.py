"""Measures a one-file program: its size, how long it takes to start, and its memory, beside the agent from source.

`version` is timed the first time, which unpacks, and later; the time to the hello is that of `scripts/bench start`,
with a data directory and an unpacked program. Memory is the proportional set size of all the agent's processes when it
has been idle for a while, connected to a server that takes its hello and answers nothing. A program for another
processor runs under qemu, and the result says so: its times and its memory are qemu's too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve

from benchmarks.agent import BINARY, ROOT, SOURCE, AgentProcess, environment
from benchmarks.figures import median, result, say
from benchmarks.processes import memory_kb, tree
from benchmarks.start import HelloServer, agent_start
from build import sources
from build.emulation import emulated
from build.targets import Target

TARGETS = {"mb": 25.0, "version_first_s": 0.35, "version_s": 0.15, "hello_s": 0.7, "more_pss_mb": 15.0}
SETTLE_SECS = 8.0
MACHINES = {0x3E: "x86_64", 0xB7: "aarch64"}
"""Numbers of processors in the head of a program (ELF, `e_machine`)."""


def command_of(program: Path) -> list[str]:
    """How to run the program here: under qemu, with the oldest glibc, if it is for another processor."""
    with program.open("rb") as opened:
        machine = int.from_bytes(opened.read(20)[18:20], "little")
    arch = MACHINES[machine]
    if arch == os.uname().machine:
        return [str(program)]
    libraries = sources.binary("libc6", Target(arch=arch, libc="gnu"))
    return [*emulated(arch), "env", f"QEMU_LD_PREFIX={libraries}", str(program)]


def unpack_place(folder: Path) -> Path:
    """Where the benchmarks let a program unpack."""
    return folder / "cache"


def version_times(command: Sequence[str], folder: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of `version`: with nothing unpacked, and after that."""
    first: list[float] = []
    later: list[float] = []
    for _ in range(rounds):
        shutil.rmtree(unpack_place(folder), ignore_errors=True)
        for samples in (first, later, later):
            began = time.perf_counter()
            subprocess.run(
                [*command, "version"], cwd=ROOT, env=environment(folder), stdout=subprocess.DEVNULL, check=True
            )
            samples.append(time.perf_counter() - began)
    return first, later


async def idle_pss_mb(endpoint: str, folder: Path, command: Sequence[str]) -> float:
    """The proportional set size of an idle agent, in MB."""
    config = f'[control_plane]\nendpoint = "{endpoint}"\ntoken = "syn_agt_bench"\n'
    agent = AgentProcess(folder, command=command, config=config)
    await asyncio.to_thread(agent.__enter__)
    try:
        await asyncio.sleep(SETTLE_SECS)
        return round(memory_kb(tree(agent.pid))["pss"] / 1024, 1)
    finally:
        await asyncio.to_thread(agent.end)


async def patient(connection: ServerConnection) -> None:
    """Take everything, answer nothing."""
    async for _ in connection:
        continue


async def hellos(programs: dict[str, Sequence[str]], folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds from the start of each agent to its hello, in turns; the first start of each does not count."""
    server = HelloServer()
    samples: dict[str, list[float]] = {name: [] for name in programs}
    async with serve(server.handle, "127.0.0.1", 0, compression=None) as listening:
        host, port = next(iter(listening.sockets)).getsockname()[:2]
        for number in range(rounds + 1):
            for name, command in programs.items():
                took = await agent_start(server, f"ws://{host}:{port}/agent/ws", folder / name, command)
                if number:
                    samples[name].append(took)
    return samples


async def memories(programs: dict[str, Sequence[str]], folder: Path) -> dict[str, float]:
    """The idle memory of each agent, one after the other."""
    async with serve(patient, "127.0.0.1", 0, compression=None) as listening:
        host, port = next(iter(listening.sockets)).getsockname()[:2]
        endpoint = f"ws://{host}:{port}/agent/ws"
        return {name: await idle_pss_mb(endpoint, folder / name, command) for name, command in programs.items()}


async def run(program: Path, rounds: int) -> None:
    """Run the benchmark and print the result."""
    load, size = os.getloadavg()[0], os.stat(program).st_size
    command = command_of(program)
    programs: dict[str, Sequence[str]] = {"source": SOURCE, "binary": command}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for own in programs:
            (folder / own).mkdir()
        say("version")
        first, later = version_times(programs["binary"], folder / "binary", rounds)
        _, source_version = version_times(programs["source"], folder / "source", rounds)
        say("exec to hello")
        hello = await hellos(programs, folder, rounds)
        say("idle memory")
        memory = await memories(programs, folder)
    figures: dict[str, object] = {
        "program": program.name,
        "emulated": len(command) > 1,
        "mb": round(size / 1e6, 2),
        "version_first_s": median(first),
        "version_s": median(later),
        "hello_s": median(hello["binary"]),
        "pss_mb": memory["binary"],
        "source": {"version_s": median(source_version), "hello_s": median(hello["source"]), "pss_mb": memory["source"]},
        "targets": TARGETS,
    }
    result("binary", figures, load_before=load)


def main() -> None:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(prog="scripts/bench binary", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("program", nargs="?", type=Path, default=BINARY, help=f"default: {BINARY.relative_to(ROOT)}")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions of each start (default: 5)")
    chosen = parser.parse_args()
    if not chosen.program.is_file():
        parser.error(f"cannot measure {chosen.program}: no such file; run scripts/build-release.sh or scripts/build")
    asyncio.run(run(chosen.program.resolve(), chosen.rounds))


if __name__ == "__main__":
    main()
