"""Finds and ends the processes of a command inside a container, from the engine's host.

The engine has no call that ends an exec, and closing its stream leaves it running, so the agent sends signals itself.
That works only as root on the engine's host. A process gets a signal only while its start time is unchanged and its
cgroup is the container's, so a recycled process id is never hit.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from syntra.utils.frozen import frozen

PROC = Path("/proc")


@frozen
class Process:
    """`started` is in clock ticks since boot; together with `pid` it identifies a process uniquely."""

    pid: int
    parent: int
    session: int
    started: int


def find_family(pid: int, container_id: str, proc: Path = PROC) -> frozenset[Process]:
    """The process `pid`, its descendants and the rest of its session, as far as they are in the container.

    Empty when that container has no such process here: all have ended, or the engine is on another host. The session
    matters because orphans become children of the container's first process. The low-level runtime gives every exec its
    own session, and the kernel does not reuse the number while the session has members.
    """
    if pid <= 1 or not container_id:
        return frozenset()
    inside = {}
    for entry in proc.iterdir():
        if entry.name.isdecimal() and (process := _read(int(entry.name), container_id, proc)) is not None:
            inside[process.pid] = process
    family = {process.pid for process in inside.values() if pid in (process.pid, process.session)}
    while True:
        children = {process.pid for process in inside.values() if process.parent in family} - family
        if not children:
            return frozenset(inside[member] for member in family)
        family |= children


def alive(family: frozenset[Process], container_id: str, proc: Path = PROC) -> frozenset[Process]:
    """The processes that still run, without zombies."""
    return frozenset(
        process
        for process in family
        if (now := _read(process.pid, container_id, proc)) is not None and now.started == process.started
    )


def send_signal(family: frozenset[Process], container_id: str, number: signal.Signals, proc: Path = PROC) -> None:
    """Signal the processes that still run; a process that has ended, or is not ours to signal, is skipped."""
    for process in alive(family, container_id, proc):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def _read(pid: int, container_id: str, proc: Path) -> Process | None:
    try:
        if container_id not in (proc / str(pid) / "cgroup").read_text():
            return None
        # The name is in parentheses and may contain parentheses itself (proc(5)).
        rest = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        if rest[0] in ("Z", "X"):
            return None
        return Process(pid=pid, parent=int(rest[1]), session=int(rest[3]), started=int(rest[19]))
    except (OSError, ValueError, IndexError):
        return None  # it ended meanwhile
