"""The fork server, from a program of its own: a test process with threads must not fork."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.engine import wait_until

PROGRAM = """
import asyncio, json, os, signal, socket, sys, threading
from syntra.utils.fork_server import ForkServer

def work(channel):
    channel.sendall(str(os.getpid()).encode())
    told = channel.recv(100).decode()
    if told == "raise":
        raise RuntimeError("broken")
    if told == "exit":
        raise SystemExit(7)
    if told == "threads":
        threads = [threading.Thread(target=sum, args=(range(1000),)) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        return 3
    return 0  # the owner has closed

async def main(server):
    loop = asyncio.get_running_loop()
    found = []
    for told in sys.argv[1:]:
        channel = await server.spawn()
        pid = int(await loop.sock_recv(channel, 20))
        if told == "kill":
            os.kill(pid, signal.SIGKILL)
        elif told == "hang":
            print(json.dumps([os.getpid(), pid]), flush=True)
            await asyncio.sleep(60)
        elif told == "close":
            channel.close()
        else:
            await loop.sock_sendall(channel, told.encode())
        found.append(await server.ended())
        channel.close()
    server.close()
    print(json.dumps(found), flush=True)

server = ForkServer.start(work, name="a-long-name-of-a-worker")
asyncio.run(main(server))
"""


def started(*told: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *told], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(*told: str) -> Any:
    process = started(*told)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return json.loads(out)


def test_each_end_of_a_worker_is_reported_and_the_next_can_start() -> None:
    assert run("exit", "threads", "kill", "raise", "close") == [7, 3, -signal.SIGKILL, 1, 0]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_server_and_worker_end_with_their_owner_also_after_a_kill() -> None:
    process = started("hang")
    assert process.stdout is not None
    owner, worker = json.loads(process.stdout.readline())
    [server] = children(owner)
    assert children(server) == [worker]
    os.kill(owner, signal.SIGKILL)
    process.communicate(timeout=30)
    wait_until(lambda: not is_running(server) and not is_running(worker), "the end of server and worker")


def test_signals_to_the_group_leave_server_and_worker_alone() -> None:
    process = started("hang")
    assert process.stdout is not None
    owner, worker = json.loads(process.stdout.readline())
    [server] = children(owner)
    for pid in (server, worker):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pid, number)
    time.sleep(0.2)
    assert is_running(server) and is_running(worker)
    assert Path(f"/proc/{worker}/comm").read_text().strip() == "a-long-name-of-"
    process.kill()
    process.communicate(timeout=30)
