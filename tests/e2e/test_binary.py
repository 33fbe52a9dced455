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
from build.facts import requirements
from tests.e2e.artifact import ROOT, live


def version(binary: Path, place: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binary, "version", *more],
        env={"SYNTRA_RUNTIME_DIR": str(place)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def unpacked(place: Path) -> Path:
    (folder,) = place.iterdir()
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
        timeout=60,
    )
    said = json.loads(ended.stdout)
    assert said["version"] == syntra.__version__
    assert said["compiled"] is True
    assert ended.stderr == ""
    assert any(home_cache.iterdir())


def test_it_knows_what_it_was_built_from(built_binary: Path, tmp_path: Path) -> None:
    said = json.loads(version(built_binary, tmp_path / "place", "--verbose", "--json").stdout)
    assert said["file"] == str(built_binary)
    assert said["target"] not in ("", "source")
    assert said["libraries"].items() >= requirements().items()


def test_the_unpack_directory_is_private_and_named_after_its_content(built_binary: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    version(built_binary, place).check_returncode()
    folder = unpacked(place)
    assert folder.name.startswith(f"syntra-agent-{syntra.__version__}-")
    for path in (folder, folder.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_first_starts_side_by_side_all_succeed(built_binary: Path, tmp_path: Path) -> None:
    env = {"SYNTRA_RUNTIME_DIR": str(tmp_path / "place")}
    starts = [subprocess.Popen([built_binary, "version"], env=env, stdout=subprocess.PIPE) for _ in range(6)]
    outputs = [start.communicate(timeout=60)[0] for start in starts]
    assert [start.returncode for start in starts] == [0] * 6
    assert len(set(outputs)) == 1


def test_a_second_start_writes_nothing(built_binary: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    version(built_binary, place).check_returncode()
    before = {path: path.lstat().st_mtime_ns for path in place.rglob("*")}
    version(built_binary, place).check_returncode()
    assert {path: path.lstat().st_mtime_ns for path in place.rglob("*")} == before


def test_a_crash_names_our_files_and_lines(built_binary: Path, tmp_path: Path) -> None:
    """A file of the unpacked program is damaged, which no code of ours expects."""
    place = tmp_path / "place"
    version(built_binary, place).check_returncode()
    (unpacked(place) / "build.json").write_text("{")
    crashed = version(built_binary, place, "--verbose")
    lines = (ROOT / "syntra/cli/build_facts.py").read_text().splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if "json.loads" in line)
    assert crashed.returncode == 1
    assert f'syntra/cli/build_facts.py", line {number}, in build_facts\n' in crashed.stderr


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
    with subprocess.Popen(
        [built_binary, "version"], env={"SYNTRA_RUNTIME_DIR": str(tmp_path)}, stdout=writing
    ) as started:
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
    live([str(alone)], tmp_path, SYNTRA_RUNTIME_DIR=str(tmp_path / "cache"))
