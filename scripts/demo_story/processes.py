"""The processes of one demo, each with a log and a pid file in its directory."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from scripts.demo_story.errors import StoryFailed, expect

START_SECS = 30.0
STOP_SECS = 20.0

T = TypeVar("T")


class Processes:
    """None starts until it is requested. A later demo finds them again by their pid files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # Kept so that only `Process` waits for them.
        self._children: list[subprocess.Popen[bytes]] = []

    def path(self, name: str) -> Path:
        """A path in the directory."""
        return self._directory / name

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
        """Start a process with a log and a pid file in the directory; return its pid."""
        with self.path(f"{name}.log").open("ab") as log:
            # Its own session: Ctrl-C reaches only the demo, which stops the others in order.
            process = subprocess.Popen(
                command,
                env={**_environment(), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children.append(process)
        self.path(f"{name}.pid").write_text(f"{process.pid} {_start_time(process.pid)}")
        return process.pid

    def find(self, name: str) -> Process | None:
        """The process of this name, if it is still alive."""
        try:
            pid, started = self.path(f"{name}.pid").read_text().split()
        except (OSError, ValueError):
            return None
        process = Process(pid=int(pid), started=started)
        return process if process.is_alive() else None

    def await_from(self, name: str, look: Callable[[], T | None], what: str) -> T:
        """Wait for a condition soon after a process's start; raises StoryFailed at once when the process has ended."""

        def poll_while_alive() -> T | None:
            alive = self.find(name) is not None
            seen = look()
            expect(seen or alive, f"the {name} ended, before {what}")
            return seen

        return wait_until(poll_while_alive, what, START_SECS)

    def end(self, name: str) -> None:
        """End a process if it is alive."""
        process = self.find(name)
        if process is not None:
            process.end()


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process of the demo; its start time distinguishes it from a later process with the same pid."""

    pid: int
    started: str

    def is_alive(self) -> bool:
        # A child that has ended stays a zombie until it is waited for.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        return self.started != "" and _start_time(self.pid) == self.started

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def end(self) -> None:
        """SIGTERM, then SIGKILL if it does not end."""
        self.signal(signal.SIGTERM)
        try:
            wait_until(lambda: not self.is_alive(), f"process {self.pid} ends", STOP_SECS)
        except StoryFailed:
            self.signal(signal.SIGKILL)
            wait_until(lambda: not self.is_alive(), f"process {self.pid} is killed", STOP_SECS)


def wait_until(look: Callable[[], T | None], what: str, seconds: float, every: float = 0.05) -> T:
    """Poll until the result is true, and return it; raises StoryFailed after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise StoryFailed(f"waited {seconds:g} s in vain until {what}")
        time.sleep(every)
    return seen


def free_ports(count: int) -> list[int]:
    """TCP ports of the loopback network that are free now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def _environment() -> dict[str, str]:
    # Without variables that would affect the agent: SYNTRA_…, DOCKER_HOST, a service manager's sockets.
    return {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR", "TZ") if name in os.environ}


def _start_time(pid: int) -> str:
    """A process's start time in clock ticks (proc(5), field 22); "" when it does not exist."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The second field, the name, may contain anything; parse after its last parenthesis.
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state == "Z" else rest[18]
