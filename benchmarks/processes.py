"""Measures processes from /proc: proportional memory and CPU time, for whole process trees."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    found = [root]
    for pid in found:
        for task in _entries(PROC / str(pid) / "task"):
            found += [int(child) for child in _text(PROC / str(pid) / "task" / task / "children").split()]
    return found


def memory_kb(pids: Iterable[int]) -> dict[str, int]:
    """Sums over the processes, in KiB: `pss` (shared pages split among their users) and `private` (unshared pages)."""
    sums = {"pss": 0, "private": 0}
    for pid in pids:
        for line in _text(PROC / str(pid) / "smaps_rollup").splitlines():
            name, _, rest = line.partition(":")
            if name == "Pss":
                sums["pss"] += int(rest.split()[0])
            elif name in ("Private_Clean", "Private_Dirty"):
                sums["private"] += int(rest.split()[0])
    return sums


def cpu_secs(pids: Iterable[int]) -> float:
    """CPU time of the processes so far, user and kernel, including children that they have waited for."""
    total = 0
    for pid in pids:
        # The name in parentheses may contain anything; utime, stime, cutime and cstime are fields 14 to 17 (proc(5)).
        fields = _text(PROC / str(pid) / "stat").rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15])
    return total / _TICKS


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (OSError, ProcessLookupError):
        return ""  # it has ended


def _entries(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
