"""The compiled binary as a machine meets it: nothing in the environment, one process, a private unpack directory."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import syntra
from tests.e2e.artifact import live


def version(binary: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binary, "version"],
        env={"XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def unpacked(cache: Path) -> Path:
    (folder,) = (cache / "syntra-agent").iterdir()
    return folder


@pytest.fixture
def home_cache() -> Iterator[Path]:
    """Where the binary unpacks when nothing tells it another place; what a test adds there is removed again."""
    folder = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".cache/syntra-agent"
    before = set(folder.glob("*"))
    yield folder
    for added in set(folder.glob("*")) - before:
        shutil.rmtree(added)


def test_version_works_from_an_empty_environment(built_binary: Path, tmp_path: Path, home_cache: Path) -> None:
    ended = subprocess.run(
        [built_binary, "version", "--json"],
        env={},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    said = json.loads(ended.stdout)
    assert said["version"] == syntra.__version__
    assert said["compiled"] is True
    assert ended.stderr == ""
    assert any(home_cache.iterdir())


def test_the_unpack_directory_is_private_and_named_after_its_content(built_binary: Path, tmp_path: Path) -> None:
    version(built_binary, tmp_path).check_returncode()
    folder = unpacked(tmp_path)
    assert folder.name.startswith(f"{syntra.__version__}-")
    for path in (folder, folder.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_first_starts_side_by_side_all_succeed(built_binary: Path, tmp_path: Path) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path)}
    starts = [subprocess.Popen([built_binary, "version"], env=env, stdout=subprocess.PIPE) for _ in range(6)]
    outputs = [start.communicate(timeout=60)[0] for start in starts]
    assert [start.returncode for start in starts] == [0] * 6
    assert len(set(outputs)) == 1


def test_a_second_start_writes_nothing(built_binary: Path, tmp_path: Path) -> None:
    version(built_binary, tmp_path).check_returncode()
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    version(built_binary, tmp_path).check_returncode()
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_interrupted_unpacking_is_completed_by_the_next_start(built_binary: Path, tmp_path: Path) -> None:
    version(built_binary, tmp_path).check_returncode()
    folder = unpacked(tmp_path)
    (folder / ".program").unlink()
    program = folder / "syntra-agent.bin"
    program.write_bytes(program.read_bytes()[:1000])
    assert version(built_binary, tmp_path).returncode == 0
    assert (folder / ".program").is_symlink()


def test_a_program_that_was_removed_is_unpacked_again(built_binary: Path, tmp_path: Path) -> None:
    version(built_binary, tmp_path).check_returncode()
    (unpacked(tmp_path) / "syntra-agent.bin").unlink()
    assert version(built_binary, tmp_path).returncode == 0


@pytest.mark.parametrize("complete", [False, True])
def test_a_directory_that_others_may_write_to_is_refused(built_binary: Path, tmp_path: Path, complete: bool) -> None:
    if complete:
        version(built_binary, tmp_path).check_returncode()
        shared = unpacked(tmp_path)
    else:
        shared = tmp_path / "syntra-agent"
        shared.mkdir()
    shared.chmod(0o777)
    refused = version(built_binary, tmp_path)
    assert refused.returncode == 2
    assert refused.stderr == (
        f"syntra-agent: cannot unpack to {shared}: other users may write to it; "
        "set XDG_CACHE_HOME to a private directory\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_another_users_directory_is_refused(built_binary: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "syntra-agent"
    foreign.mkdir(mode=0o700)
    os.chown(foreign, 65534, 65534)
    refused = version(built_binary, tmp_path)
    assert refused.returncode == 2
    assert "it belongs to another user" in refused.stderr
    assert list(foreign.iterdir()) == []


def test_the_program_is_the_process_that_was_started(built_binary: Path, tmp_path: Path) -> None:
    """No supervising parent stands between: the process that was started is the unpacked program."""
    version(built_binary, tmp_path).check_returncode()
    # A reader that never reads keeps the program in its first write: a pipe that is full already.
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, bytes(65536))
    except BlockingIOError:
        os.set_blocking(writing, True)
    with subprocess.Popen([built_binary, "version"], env={"XDG_CACHE_HOME": str(tmp_path)}, stdout=writing) as started:
        os.close(writing)
        try:
            while os.readlink(f"/proc/{started.pid}/exe") != str(unpacked(tmp_path) / "syntra-agent.bin"):
                os.sched_yield()
            children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text()
            assert children == ""
        finally:
            os.close(reading)
            started.kill()


@pytest.mark.engine
@pytest.mark.timeout(240, func_only=True)
def test_the_binary_alone_runs_the_whole_product(built_binary: Path, tmp_path: Path) -> None:
    """Control plane and agent from one file that was copied away from the sources."""
    alone = tmp_path / "bin/syntra-agent"
    alone.parent.mkdir()
    shutil.copy(built_binary, alone)
    live([str(alone)], tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
