"""One holder at a time, named, and freed by whatever ends it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from syntra.utils.errors import AgentError
from syntra.utils.file_lock import FileLock, Locked

HOLD = """
import sys
from syntra.utils.file_lock import FileLock
lock = FileLock.acquire(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_holder_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock.acquire(path):
        assert path.read_text() == f"{os.getpid()}\n" and path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(Locked, match=f"cannot lock {path}: process {os.getpid()} holds it; stop") as caught:
            FileLock.acquire(path)
        assert caught.value.holder == os.getpid() and caught.value.path == path
    assert path.read_text() == ""
    FileLock.acquire(path).release()


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == b"held\n"
        with pytest.raises(Locked) as caught:
            FileLock.acquire(path)
        assert caught.value.holder == child.pid
        child.kill()
        child.wait()
    # The dead holder's pid is still in the file, and longer than ours may be.
    with FileLock.acquire(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_child_that_was_executed_does_not_keep_the_lock(tmp_path: Path) -> None:
    lock = FileLock.acquire(tmp_path / "lock")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False):
        lock.release()
        FileLock.acquire(tmp_path / "lock").release()


def test_a_refused_attempt_leaves_no_descriptor_and_the_holder_its_lock(tmp_path: Path) -> None:
    with FileLock.acquire(tmp_path / "lock"):
        before = os.listdir("/proc/self/fd")
        for _ in range(3):
            with pytest.raises(Locked):
                FileLock.acquire(tmp_path / "lock")
        assert len(os.listdir("/proc/self/fd")) == len(before)


def test_releasing_twice_does_nothing(tmp_path: Path) -> None:
    lock = FileLock.acquire(tmp_path / "lock")
    lock.release()
    with FileLock.acquire(tmp_path / "lock"):
        lock.release()
        with pytest.raises(Locked):
            FileLock.acquire(tmp_path / "lock")


def test_an_unreadable_pid_is_another_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock.acquire(path):
        path.write_text("what?")
        with pytest.raises(Locked, match="another process holds it") as caught:
            FileLock.acquire(path)
        assert caught.value.holder is None


def test_a_symlink_and_a_missing_directory_are_errors_in_words(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    for path in (tmp_path / "link", tmp_path / "no" / "lock"):
        with pytest.raises(AgentError, match=r"cannot lock .*; check the directory"):
            FileLock.acquire(path)
