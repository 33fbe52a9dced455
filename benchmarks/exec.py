"""Bytes through `exec`, the agent's command line beside Docker's own: out of a container, and in and out again.

Both sides run `cat` in the same container on the same engine, in turns, and their output is read in the same way.
`out` is a backup: a file of the container to a pipe. `through` is a file to standard input and back to a pipe. Every
round compares what came with what was sent, by SHA-256; the first round does not count. The time of both sides includes
the start of the command line, and the hashing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import compared, result, say
from tests.e2e.agent_process import AgentProcess
from tests.engine import busybox_image, cleanup, containers_of, new_token

ROOT = Path(__file__).resolve().parents[1]
MIB = 1024 * 1024
INSIDE = "/tmp/dump"


def timed(command: Sequence[str], given: Path | None) -> tuple[float, str, int]:
    """Seconds until the end of the output, its SHA-256 and its length."""
    digest, length, began = hashlib.sha256(), 0, time.monotonic()
    with (given or Path(os.devnull)).open("rb") as source:
        process = subprocess.Popen(command, cwd=ROOT, stdin=source, stdout=subprocess.PIPE)
        with process:
            assert process.stdout is not None
            while data := os.read(process.stdout.fileno(), MIB):
                digest.update(data)
                length += len(data)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    return time.monotonic() - began, digest.hexdigest(), length


def deployed(agent: AgentProcess, token: str) -> tuple[str, str]:
    """A service of one replica: its id and its container."""
    service = f"svc-{token}"
    report = agent.carry_out(
        "deploy",
        {
            "service_id": service,
            "deployment_id": f"d-{uuid.uuid4().hex[:10]}",
            "service_name": "dump",
            "project_name": token,
            "image": f"{token}:v1",
            "config": {"port": 8080, "replicas": 1},
        },
    )
    if report["status"] != "running":
        raise SystemExit(f"the service does not run: {report}")
    return service, str(containers_of(token)[0]["Id"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench exec", description=__doc__)
    parser.add_argument("--mib", type=int, default=256, help="size of the data in MiB (default 256)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds for each side (default 3)")
    chosen = parser.parse_args()
    if shutil.which("docker") is None:
        raise SystemExit("no `docker` to compare with; install docker.io")
    load = os.getloadavg()[0]
    token = new_token()
    times: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / "dump"
        block = secrets.token_bytes(MIB)
        dump.write_bytes(block * chosen.mib)
        sent = hashlib.sha256(block * chosen.mib).hexdigest()
        try:
            busybox_image(f"{token}:v1")
            with AgentProcess(Path(folder) / "agent") as agent:
                service, container = deployed(agent, token)
                ours = [sys.executable, "-m", "syntra", "--socket", str(agent.socket), "exec", service]
                sides = {"agent": ours, "docker": ["docker", "exec", "-i", container]}
                timed([*sides["docker"], "sh", "-c", f"cat > {INSIDE}"], dump)
                for number in range(chosen.rounds + 1):
                    for way, given in (("out", None), ("through", dump)):
                        command = ["cat", INSIDE] if given is None else ["cat"]
                        for side, prefix in sides.items():
                            secs, came, length = timed([*prefix, *command], given)
                            if (came, length) != (sent, chosen.mib * MIB):
                                raise SystemExit(f"{side}: {length} bytes came {way}, and not those that were sent")
                            say(f"round {number}, {way}: {side} {secs:.2f} s")
                            if number:
                                times.setdefault(way, {}).setdefault(side, []).append(secs)
        finally:
            cleanup(token)
    figures: dict[str, object] = {"mib": chosen.mib}
    for way, found in times.items():
        seconds = compared(found["agent"], found["docker"], names=("agent", "docker"))
        figures |= {f"{way}_{name}": value for name, value in seconds.items()}
    result("exec", figures, load_before=load)


if __name__ == "__main__":
    main()
