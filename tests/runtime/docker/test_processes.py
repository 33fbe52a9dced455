"""Whose processes a command's are, from a laid-out /proc."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from syntra.runtime.docker.processes import Process, alive, find_family, send_signal

CONTAINER = "c" * 64


def add(proc: Path, pid: int, parent: int, session: int, *, started: int = 5, container: str = CONTAINER) -> None:
    directory = proc / str(pid)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cgroup").write_text(f"0::/docker/{container}\n")
    tail = " ".join(["0"] * 15)
    (directory / "stat").write_text(f"{pid} (odd ) name) S {parent} {session} {session} {tail} {started} 0\n")


def pids(family: frozenset[Process]) -> set[int]:
    return {process.pid for process in family}


def test_descendants_and_the_session_belong_but_other_containers_do_not(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    add(tmp_path, 100, 1, 100)
    add(tmp_path, 101, 100, 100)
    add(tmp_path, 102, 101, 102)
    add(tmp_path, 103, 50, 100)  # an orphan, taken over by the container's first process
    add(tmp_path, 104, 50, 50)
    add(tmp_path, 105, 100, 100, container="d" * 64)
    assert pids(find_family(100, CONTAINER, tmp_path)) == {100, 101, 102, 103}
    shutil.rmtree(tmp_path / "100")
    assert pids(find_family(100, CONTAINER, tmp_path)) == {101, 102, 103}, "the session outlives its leader"


def test_a_process_of_another_container_has_no_family(tmp_path: Path) -> None:
    add(tmp_path, 100, 1, 100, container="d" * 64)
    assert find_family(100, CONTAINER, tmp_path) == frozenset()
    assert find_family(1, CONTAINER, tmp_path) == frozenset()
    assert find_family(100, "", tmp_path) == frozenset()


def test_a_recycled_process_id_is_not_alive(tmp_path: Path) -> None:
    add(tmp_path, 100, 1, 100)
    family = find_family(100, CONTAINER, tmp_path)
    assert alive(family, CONTAINER, tmp_path) == family
    add(tmp_path, 100, 1, 100, started=6)
    assert alive(family, CONTAINER, tmp_path) == frozenset()


def test_only_what_is_still_the_same_process_is_signalled(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        add(tmp_path, child.pid, os.getpid(), child.pid)
        family = find_family(child.pid, CONTAINER, tmp_path)
        add(tmp_path, child.pid, os.getpid(), child.pid, started=6)
        send_signal(family, CONTAINER, signal.SIGKILL, tmp_path)
        assert child.poll() is None
        add(tmp_path, child.pid, os.getpid(), child.pid)
        send_signal(family, CONTAINER, signal.SIGKILL, tmp_path)
        assert child.wait(5) == -signal.SIGKILL
    send_signal(family, CONTAINER, signal.SIGKILL, tmp_path)
