"""Processes of a command inside a container, seen and ended from the engine's host.

The engine has no call that ends an exec, and closing its stream leaves it running, so its processes are signalled
directly. That works for root on the engine's host only. A process is signalled only while it has the start time it
was found with and its cgroup is the container's: a recycled process id never is.
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
    """`started` is in clock ticks since boot: with `pid` it names a process once and for all."""

    pid: int
    parent: int
    session: int
    started: int


def find_family(pid: int, container_id: str, proc: Path = PROC) -> frozenset[Process]:
    """The process `pid`, its descendants and the rest of its session, as far as they are in the container.

    Empty when there is no such process of that container here: all have ended, or the engine is on another host. The
    session counts because orphans are taken over by the container's first process; the engine's runtime gives every
    exec a session of its own, and the kernel gives its number to no other process while the session has members.
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
    """Those that still run; zombies do not."""
    return frozenset(
        process
        for process in family
        if (now := _read(process.pid, container_id, proc)) is not None and now.started == process.started
    )


def send_signal(family: frozenset[Process], container_id: str, number: signal.Signals, proc: Path = PROC) -> None:
    """Signal those that still run; what ended meanwhile, and what we may not signal, is passed over."""
    for process in alive(family, container_id, proc):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def _read(pid: int, container_id: str, proc: Path) -> Process | None:
    try:
        if container_id not in (proc / str(pid) / "cgroup").read_text():
            return None
        # The name is in parentheses and may itself contain them (proc(5)).
        rest = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        if rest[0] in ("Z", "X"):
            return None
        return Process(pid=pid, parent=int(rest[1]), session=int(rest[3]), started=int(rest[19]))
    except (OSError, ValueError, IndexError):
        return None  # it ended while being read
