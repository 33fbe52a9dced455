"""A file is the old one or the new one, whole; failures leave the old one and nothing else."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from syntra.utils import atomic_file
from syntra.utils.errors import AgentError
from tests.engine import missing


def test_a_new_file_has_the_content_and_the_mode_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        atomic_file.write(tmp_path / "private", b"a")
        atomic_file.write(tmp_path / "shared", b"", mode=0o644)
    finally:
        os.umask(old)
    assert (tmp_path / "private").read_bytes() == b"a" and (tmp_path / "shared").read_bytes() == b""
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o644
    assert sorted(os.listdir(tmp_path)) == ["private", "shared"]


def test_an_open_reader_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "state"
    atomic_file.write(path, b"old")
    with path.open("rb") as reader:
        atomic_file.write(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


def test_a_symlink_is_replaced_and_its_target_untouched(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("target")
    atomic_file.write(tmp_path / "link", b"new")
    assert not (tmp_path / "link").is_symlink() and (tmp_path / "target").read_bytes() == b"precious"


def test_a_name_as_long_as_names_may_be_works(tmp_path: Path) -> None:
    atomic_file.write(tmp_path / ("n" * 255), b"x")
    assert os.listdir(tmp_path) == ["n" * 255]


def test_a_relative_path_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    atomic_file.write("plain", b"x")
    assert (tmp_path / "plain").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["missing/file", "file/below", "directory"])
def test_a_place_that_cannot_hold_the_file_is_an_error_with_its_cause(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "directory").mkdir()
    with pytest.raises(AgentError, match=r"cannot write .*; ") as caught:
        atomic_file.write(tmp_path / name, b"x")
    assert isinstance(caught.value.__cause__, OSError)
    assert sorted(os.listdir(tmp_path)) == ["directory", "file"]


@contextlib.contextmanager
def tiny_filesystem(path: Path) -> Iterator[None]:
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)], capture_output=True)
    if made.returncode:
        missing("a tmpfs cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    with tiny_filesystem(tmp_path / "tiny"):
        path = tmp_path / "tiny" / "state"
        atomic_file.write(path, b"old")
        with pytest.raises(AgentError, match="free space"):
            atomic_file.write(path, b"x" * 1_000_000)
        assert path.read_bytes() == b"old" and os.listdir(path.parent) == ["state"]
        atomic_file.write(path, b"new")  # and the space is free again
        assert path.read_bytes() == b"new"


LIMITED = """
import resource, sys
from syntra.utils import atomic_file
from syntra.utils.errors import AgentError

atomic_file.write(sys.argv[1], b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    atomic_file.write(sys.argv[1], b"x" * 8192)
except AgentError as error:
    print(error)
"""


def test_a_file_size_limit_in_the_middle_of_a_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=10)
    assert done.stdout.startswith(f"cannot write {path}: File too large"), done.stderr
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["state"]
