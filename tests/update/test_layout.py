"""The directory of an installed agent, on a real filesystem."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from syntra.update import layout
from syntra.update.errors import UpdateError
from syntra.update.trial import Trial


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    path = tmp_path / "downloaded"
    path.write_text("#!/bin/sh\necho one\n")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "opt" / "syntra-agent"


def test_the_first_install_makes_the_version_current_and_executable_for_everyone(root: Path, binary: Path) -> None:
    before = os.umask(0o077)
    try:
        program = layout.install_version(root, "1.2.0", binary)
    finally:
        os.umask(before)
    assert program == root / "current/syntra-agent"
    assert os.readlink(root / "current") == "versions/1.2.0"
    assert not (root / "previous").exists()
    assert program.read_bytes() == binary.read_bytes()
    for path in (program.resolve(), program.resolve().parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert layout.root_of(program) == root


def test_the_next_install_keeps_the_version_before_it(root: Path, binary: Path) -> None:
    layout.install_version(root, "1.2.0", binary)
    layout.install_version(root, "1.3.0", binary)
    layout.install_version(root, "1.3.0", binary)
    assert (layout.linked(root, "current"), layout.linked(root, "previous")) == ("1.3.0", "1.2.0")


def test_the_program_of_the_current_version_is_replaced_while_it_is_open(root: Path, binary: Path) -> None:
    program = layout.install_version(root, "1.2.0", binary)
    with program.open("rb") as running:
        binary.write_text("#!/bin/sh\necho two\n")
        layout.install_version(root, "1.2.0", binary)
        assert running.read() == b"#!/bin/sh\necho one\n"
    assert program.read_text() == "#!/bin/sh\necho two\n"
    assert sorted(path.name for path in (root / "versions").iterdir()) == ["1.2.0"]


def test_an_install_ends_a_trial(root: Path, binary: Path) -> None:
    layout.install_version(root, "1.2.0", binary)
    layout.write_trial(root, Trial(to_version="1.3.0", from_version="1.2.0"))
    layout.install_version(root, "1.2.0", binary)
    assert layout.read_trial(root) is None


@pytest.mark.parametrize("version", ["..", "1.2", "1.2.0/..", "", "latest"])
def test_a_version_cannot_leave_the_directory(root: Path, binary: Path, version: str) -> None:
    with pytest.raises(UpdateError, match="is not a version"):
        layout.install_version(root, version, binary)


def test_a_program_elsewhere_belongs_to_no_root(binary: Path, tmp_path: Path) -> None:
    stray = tmp_path / "versions" / "latest" / "syntra-agent"
    stray.parent.mkdir(parents=True)
    stray.write_text("")
    for program in (binary, stray, tmp_path / "missing"):
        assert layout.root_of(program) is None


def test_only_current_previous_and_named_versions_survive_a_clean_up(root: Path, binary: Path) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0", "1.3.0"):
        layout.install_version(root, version, binary)
    (root / "versions/notes").mkdir()
    assert layout.remove_old_versions(root, frozenset({"1.0.0"})) == ["1.1.0"]
    assert sorted(path.name for path in (root / "versions").iterdir()) == ["1.0.0", "1.2.0", "1.3.0", "notes"]


def test_leftovers_of_an_interrupted_update_are_removed(root: Path, binary: Path) -> None:
    program = layout.install_version(root, "1.2.0", binary)
    layout.new_partial(root, "1.3.0")
    (root / "staging").mkdir()
    (root / ".0123.tmp").symlink_to("versions/1.3.0")
    layout.remove_leftovers(root)
    assert sorted(path.name for path in root.iterdir()) == ["current", "versions"]
    assert [path.name for path in (root / "versions").iterdir()] == ["1.2.0"]
    assert program.exists()


def test_a_missing_binary_leaves_nothing_behind(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UpdateError, match=r"cannot update the agent: No such file .*missing"):
        layout.install_version(root, "1.2.0", tmp_path / "missing")
    assert list((root / "versions").iterdir()) == []


def test_the_boot_check_is_executable(root: Path) -> None:
    root.mkdir(parents=True)
    path = layout.write_boot_check(root)
    assert path == root / "boot-check"
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
