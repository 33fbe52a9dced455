"""The configuration file: whole at any moment, readable by a proxy, seen by it as one event."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from syntra.networking.file_writer import FILE_NAME, FileWriter
from syntra.utils.errors import AgentError
from tests.engine import missing


def test_the_directory_and_the_file_can_be_read_by_a_proxy_of_another_user(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        writer = FileWriter(tmp_path / "traefik" / "dynamic")
        assert writer.write(b"one")
    finally:
        os.umask(old)
    modes = [path.stat().st_mode & 0o777 for path in (writer.path, writer.path.parent, writer.path.parent.parent)]
    assert modes == [0o644, 0o755, 0o755]
    assert writer.path.read_bytes() == b"one"


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    directory = tmp_path / "dynamic"
    directory.mkdir(mode=0o750)
    FileWriter(directory).write(b"one")
    assert directory.stat().st_mode & 0o777 == 0o750


def test_what_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    writer = FileWriter(tmp_path)
    assert writer.write(b"one")
    before = writer.path.stat()
    assert not writer.write(b"one")
    assert not FileWriter(tmp_path).write(b"one")
    assert writer.path.stat() == before
    assert writer.write(b"two")
    assert writer.path.read_bytes() == b"two"


def test_a_file_that_a_person_changed_is_put_right(tmp_path: Path) -> None:
    writer = FileWriter(tmp_path)
    writer.write(b"one")
    writer.path.write_bytes(b"edited")
    assert writer.write(b"one")
    assert writer.path.read_bytes() == b"one"


def test_the_proxy_sees_nothing_but_the_file(tmp_path: Path) -> None:
    writer = FileWriter(tmp_path)
    for content in (b"one", b"two"):
        writer.write(content)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [FILE_NAME]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [writer.path]


def test_the_proxy_sees_one_event(tmp_path: Path) -> None:
    """Traefik takes the first event and then waits for its throttle: a second one would cost two seconds."""
    writer = FileWriter(tmp_path)
    writer.write(b"one")
    moved_to = 0x80
    # inotify(7): everything that fsnotify asks for, which is all but reading.
    changes = 0x2 | 0x4 | 0x8 | 0x40 | moved_to | 0x100 | 0x200
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert watch >= 0
    try:
        assert libc.inotify_add_watch(watch, str(tmp_path).encode(), changes) >= 0
        writer.write(b"two")
        data = os.read(watch, 65536)
    finally:
        os.close(watch)
    _, mask, _, length = struct.unpack_from("iIII", data)
    name = data[16 : 16 + length].rstrip(b"\0").decode()
    assert (mask, name, len(data)) == (moved_to, FILE_NAME, 16 + length)


def test_what_a_killed_agent_left_is_cleared_away(tmp_path: Path) -> None:
    writer = FileWriter(tmp_path)
    writer.write(b"one")
    staging = next(path for path in tmp_path.iterdir() if path.is_dir())
    for name in ("next", ".0123456789abcdef.tmp"):
        (staging / name).write_bytes(b"half")
    writer.write(b"two")
    assert writer.path.read_bytes() == b"two"
    assert list(staging.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)], capture_output=True)
    if made.returncode != 0:
        missing("a tmpfs cannot be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_on_a_full_disk_the_old_file_stays_and_a_later_write_succeeds(small_disk: Path) -> None:
    writer = FileWriter(small_disk / "dynamic")
    writer.write(b"old")
    with pytest.raises(AgentError, match=r"^cannot write .*: No space left on device; free space"):
        writer.write(b"x" * 200_000)
    assert writer.path.read_bytes() == b"old"
    assert writer.write(b"new")
    assert writer.path.read_bytes() == b"new"


LIMITED = """
import resource, sys
from pathlib import Path
from syntra.networking.file_writer import FileWriter
from syntra.utils.errors import AgentError
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    FileWriter(Path(sys.argv[1])).write(b"x" * 10_000)
except AgentError as error:
    print(error)
"""


def test_a_write_that_is_cut_short_leaves_the_old_file(tmp_path: Path) -> None:
    writer = FileWriter(tmp_path)
    writer.write(b"old")
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True, env=os.environ
    )
    assert "cannot write" in ran.stdout
    assert writer.path.read_bytes() == b"old"


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AgentError, match=r"^cannot make .*file/dynamic"):
        FileWriter(tmp_path / "file" / "dynamic").write(b"x")


def test_a_directory_in_the_files_place_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(AgentError, match=f"^cannot write .*{FILE_NAME}: Is a directory"):
        FileWriter(tmp_path).write(b"x")
