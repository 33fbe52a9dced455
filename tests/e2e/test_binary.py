"""The compiled binary as a machine meets it: nothing in the environment, one process, a private unpack directory."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import syntra


def test_version_works_from_an_empty_environment(built_binary: Path, tmp_path: Path) -> None:
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


def test_the_unpack_directory_is_private_and_named_after_its_content(built_binary: Path, tmp_path: Path) -> None:
    subprocess.run([built_binary, "version"], env={"XDG_CACHE_HOME": str(tmp_path)}, check=True, timeout=30)
    (unpacked,) = (tmp_path / "syntra-agent").iterdir()
    assert unpacked.name.startswith(f"{syntra.__version__}-")
    for folder in (unpacked, unpacked.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_first_starts_side_by_side_all_succeed(built_binary: Path, tmp_path: Path) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path)}
    starts = [subprocess.Popen([built_binary, "version"], env=env, stdout=subprocess.PIPE) for _ in range(4)]
    outputs = [start.communicate(timeout=60)[0] for start in starts]
    assert [start.returncode for start in starts] == [0] * 4
    assert len(set(outputs)) == 1
