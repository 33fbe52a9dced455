"""The launcher on a program of a few lines: where it unpacks, what it removes, and what it says when it cannot."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from build.compile import PROGRAM, own_nuitka
from build.launcher import launcher
from build.pack import FAST, pack

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems and gives files away")
STAYS = '#!/bin/sh\necho "$$ $0 $SYNTRA_BINARY $*"\nread line\nexit 7\n'
"""Says its process id, name and arguments, waits for a line, ends with 7."""


@pytest.fixture(scope="session")
def compiled_launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler")
    patched = pytest.MonkeyPatch()
    with patched.context() as environment:
        environment.setenv("SYNTRA_BUILD_CACHE", str(tmp_path_factory.mktemp("cache")))
        return launcher("test", ["gcc"], own_nuitka() / "build/inline_copy/zstd")


class Packed:
    """One file, made of a small program; `run` starts it with `place` as the directory it was told to use."""

    def __init__(self, made_with: Path, folder: Path, text: str = STAYS, version: str = "1.0", extra: int = 0) -> None:
        source = folder / f"source-{version}"
        (source / "inner/deep").mkdir(parents=True)
        (source / PROGRAM).write_text(text)
        (source / PROGRAM).chmod(0o755)
        (source / "inner/deep/data").write_bytes(os.urandom(extra) + b"data")
        self.file = folder / f"packed-{version}"
        self.name = pack(made_with, source, version, self.file, level=FAST)
        self.place = folder / "place"

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        environment = {"PATH": os.environ["PATH"], "SYNTRA_RUNTIME_DIR": str(self.place)} | env
        piped = subprocess.PIPE
        return subprocess.Popen(
            [self.file, *words], env=environment, stdin=piped, stdout=piped, stderr=piped, text=True
        )

    def run(self, *words: str, **env: str) -> tuple[int, str, str]:
        with self.start(*words, **env) as started:
            out, err = started.communicate("\n", timeout=20)
        return started.returncode, out, err


@pytest.fixture
def packed(compiled_launcher: Path, tmp_path: Path) -> Packed:
    return Packed(compiled_launcher, tmp_path)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_it_becomes_the_program(packed: Packed) -> None:
    with packed.start("one", "two words", "") as started:
        assert started.stdout is not None
        first = started.stdout.readline()
        started.communicate("\n", timeout=20)
    program = packed.place / packed.name / PROGRAM
    assert first == f"{started.pid} {program} {packed.file} one two words \n"
    assert started.returncode == 7
    assert (packed.place / packed.name / "inner/deep/data").read_bytes() == b"data"
    assert stat.S_IMODE((packed.place / packed.name).stat().st_mode) == 0o700
    assert stat.S_IMODE(packed.place.stat().st_mode) == 0o700


def test_a_second_start_writes_nothing(packed: Packed) -> None:
    packed.run()
    before = {path: path.stat().st_mtime_ns for path in packed.place.rglob("*")}
    assert packed.run()[0] == 7
    assert {path: path.stat().st_mtime_ns for path in packed.place.rglob("*")} == before
    assert [path.name for path in packed.place.iterdir()] == [packed.name]


def test_first_starts_side_by_side_all_succeed(compiled_launcher: Path, tmp_path: Path) -> None:
    packed = Packed(compiled_launcher, tmp_path, extra=5_000_000)
    started = [packed.start() for _ in range(8)]
    assert [(one.communicate("\n", timeout=60)[1], one.returncode) for one in started] == [("", 7)] * 8
    assert [path.name for path in packed.place.iterdir()] == [packed.name]


def test_two_versions_run_side_by_side_and_an_unused_one_is_removed(compiled_launcher: Path, tmp_path: Path) -> None:
    old, new = Packed(compiled_launcher, tmp_path), Packed(compiled_launcher, tmp_path, version="2.0")
    with old.start() as running:
        assert running.stdout is not None
        running.stdout.readline()
        assert new.run()[0] == 7
        assert {path.name for path in new.place.iterdir()} == {old.name, new.name}
        running.communicate("\n", timeout=20)
    assert new.run()[0] == 7
    assert [path.name for path in new.place.iterdir()] == [new.name]


def test_a_program_that_becomes_its_update_frees_its_directory(compiled_launcher: Path, tmp_path: Path) -> None:
    new = Packed(compiled_launcher, tmp_path, version="2.0")
    old = Packed(compiled_launcher, tmp_path, text=f'#!/bin/sh\nexec "{new.file}"\n')
    assert old.run()[0] == 7
    assert [path.name for path in new.place.iterdir()] == [new.name]


def test_a_killed_program_holds_nothing(compiled_launcher: Path, tmp_path: Path) -> None:
    old, new = Packed(compiled_launcher, tmp_path), Packed(compiled_launcher, tmp_path, version="2.0")
    with old.start() as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.kill()
    assert new.run()[0] == 7
    assert [path.name for path in new.place.iterdir()] == [new.name]


def test_other_things_in_a_chosen_place_stay(packed: Packed) -> None:
    kept = ["photos", "syntra-agent-1.0", "syntra-agent-0123456789abcdef-notes", ".syntra-agent-backup"]
    for name in kept:
        (packed.place / name).mkdir(parents=True, mode=0o700)
    packed.place.chmod(0o700)
    packed.run()
    packed.run()
    assert {path.name for path in packed.place.iterdir()} == {*kept, packed.name}


def test_the_rest_of_an_interrupted_start_is_replaced(packed: Packed) -> None:
    rest = packed.place / f".{packed.name}"
    rest.mkdir(parents=True, mode=0o700)
    packed.place.chmod(0o700)
    (rest / "half").write_text("half")
    assert packed.run()[0] == 7
    assert [path.name for path in packed.place.iterdir()] == [packed.name]


def test_a_directory_without_its_program_is_unpacked_again(packed: Packed) -> None:
    packed.run()
    (packed.place / packed.name / PROGRAM).unlink()
    assert packed.run()[0] == 7


def sentence(packed: Packed, reason: str) -> str:
    return (
        f"syntra-agent: cannot find a place to unpack the program: {packed.place} ({reason}); "
        "set SYNTRA_RUNTIME_DIR to a private directory that has room and lets programs run\n"
    )


def test_a_place_that_others_may_write_to_is_refused(packed: Packed) -> None:
    packed.place.mkdir()
    packed.place.chmod(0o777)
    assert packed.run() == (2, "", sentence(packed, "other users may write to it"))
    assert list(packed.place.iterdir()) == []


def test_a_link_and_a_file_are_no_places(packed: Packed, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    packed.place.symlink_to(tmp_path / "elsewhere")
    assert packed.run() == (2, "", sentence(packed, "not a directory"))
    packed.place.unlink()
    packed.place.write_text("")
    assert packed.run() == (2, "", sentence(packed, "not a directory"))


def test_a_relative_place_is_refused(packed: Packed) -> None:
    packed.place = Path("here")
    assert packed.run() == (2, "", sentence(packed, "SYNTRA_RUNTIME_DIR has to be an absolute path"))


@AS_ROOT
def test_another_users_place_is_refused(packed: Packed) -> None:
    packed.place.mkdir(mode=0o700)
    os.chown(packed.place, 65534, 65534)
    assert packed.run() == (2, "", sentence(packed, "it belongs to another user"))


@AS_ROOT
def test_a_place_without_programs_is_refused(packed: Packed, small: Path) -> None:
    subprocess.run(["mount", "-o", "remount,noexec", small], check=True)
    packed.place = small
    assert packed.run() == (2, "", sentence(packed, "mounted noexec"))
    assert list(small.iterdir()) == []


@AS_ROOT
def test_a_full_place_is_refused_and_left_clean(compiled_launcher: Path, tmp_path: Path, small: Path) -> None:
    packed = Packed(compiled_launcher, tmp_path, extra=3_000_000)
    packed.place = small
    assert packed.run() == (2, "", sentence(packed, "0 MB are free, 3 MB needed"))
    assert list(small.iterdir()) == []


@AS_ROOT
def test_the_next_place_is_used(packed: Packed, tmp_path: Path, small: Path) -> None:
    """A cache on a file system without programs, then the home directory."""
    subprocess.run(["mount", "-o", "remount,noexec", small], check=True)
    home = tmp_path / "home"
    home.mkdir()
    assert packed.run(SYNTRA_RUNTIME_DIR="", XDG_CACHE_HOME=str(small), HOME=str(home))[0] == 7
    assert (home / ".cache/syntra-agent" / packed.name / PROGRAM).exists()


@AS_ROOT
def test_every_place_is_named_when_none_can_be_used(compiled_launcher: Path, tmp_path: Path) -> None:
    """In a root without /proc and /etc, with a home that is not there."""
    Packed(compiled_launcher, tmp_path / "made").file.rename(tmp_path / "agent")
    for folder in ("var/tmp", "tmp"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "syntra-agent-0").write_text("")
    inside = f"os.chroot({str(tmp_path)!r}); os.chdir('/'); os.execve('/agent', ['agent'], {{'HOME': '/home/me'}})"
    ended = subprocess.run(
        [sys.executable, "-c", f"import os; {inside}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (
        2,
        "syntra-agent: cannot find a place to unpack the program: /home/me/.cache/syntra-agent (No such file or "
        "directory), /var/cache/syntra-agent (No such file or directory), /var/tmp/syntra-agent-0 (not a directory), "
        "/tmp/syntra-agent-0 (not a directory); set SYNTRA_RUNTIME_DIR to a private directory that has room and lets "
        "programs run\n",
    )
    assert not (tmp_path / "home").exists()


@AS_ROOT
def test_a_user_without_a_home_uses_the_shared_directory(compiled_launcher: Path, tmp_path: Path) -> None:
    packed = Packed(compiled_launcher, tmp_path)
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(0o711)
    place = Path("/var/tmp/syntra-agent-65534")
    shutil.rmtree(place, ignore_errors=True)
    try:
        ended = subprocess.run([packed.file], user=65534, group=65534, env={}, input="\n", text=True, check=False)
        assert ended.returncode == 7
        assert (place / packed.name / PROGRAM).exists()
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize("cut", [1, 50, 127, 128, 1000])
def test_a_file_that_ends_early_says_so(packed: Packed, cut: int) -> None:
    packed.file.write_bytes(packed.file.read_bytes()[:-cut])
    ended = packed.run()
    assert ended == (
        2,
        "",
        f"syntra-agent: cannot start from {packed.file}: the file is incomplete; download it again\n",
    )


@pytest.mark.parametrize("position", [0.02, 0.3, 0.6, 0.9])
def test_a_damaged_file_never_becomes_a_program(compiled_launcher: Path, tmp_path: Path, position: float) -> None:
    packed = Packed(compiled_launcher, tmp_path, extra=100_000)
    content, start = bytearray(packed.file.read_bytes()), compiled_launcher.stat().st_size + 4096
    at = start + int((len(content) - 128 - start) * position)
    content[at] ^= 0xFF
    packed.file.write_bytes(content)
    status, out, err = packed.run()
    assert (status, out) == (2, "")
    assert "this file is damaged" in err
    assert list(packed.place.iterdir()) == []
