"""A program outside an installation: replaced in place, or left to its owner."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from syntra.update.bare import replace_in_place, require_own
from syntra.update.errors import UpdateError
from syntra.update.swap import Step
from tests.engine import missing
from tests.update.release_site import archive_of, stand_in

OLD, NEW = stand_in("1.2.0"), stand_in("1.3.0")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    path = folder / "syntra-agent"
    path.write_bytes(OLD)
    path.chmod(0o755)
    return path


def download(path: Path) -> None:
    path.write_bytes(archive_of(NEW))


def test_the_file_is_replaced_and_the_old_one_kept(program: Path) -> None:
    with program.open("rb") as running:
        kept = replace_in_place(program, "1.3.0", download)
        assert running.read() == OLD
    assert program.read_bytes() == NEW
    assert stat.S_IMODE(program.stat().st_mode) == 0o755
    assert kept.read_bytes() == OLD
    assert sorted(path.name for path in program.parent.iterdir()) == ["syntra-agent", "syntra-agent.previous"]


def test_a_program_that_is_not_what_it_should_be_changes_nothing(program: Path) -> None:
    with pytest.raises(UpdateError, match="says that it is"):
        replace_in_place(program, "1.4.0", download)
    assert [path.name for path in program.parent.iterdir()] == ["syntra-agent"]
    assert program.read_bytes() == OLD


@pytest.mark.parametrize(
    "step", [Step.STAGE, Step.DOWNLOAD, Step.UNPACK, Step.TRY, Step.LINK_PREVIOUS, Step.LINK_CURRENT]
)
def test_an_error_before_any_step_leaves_the_old_program(program: Path, step: Step) -> None:
    def before(now: Step) -> None:
        if now is step:
            raise OSError(28, "No space left on device")

    with pytest.raises(UpdateError, match="free space"):
        replace_in_place(program, "1.3.0", download, before=before)
    assert program.read_bytes() == OLD


def test_a_python_package_and_a_container_say_who_owns_them(program: Path, tmp_path: Path) -> None:
    require_own(program, is_compiled=True, filesystem=tmp_path)
    with pytest.raises(UpdateError, match="Python package; update that package"):
        require_own(program, is_compiled=False, filesystem=tmp_path)
    (tmp_path / ".dockerenv").touch()
    with pytest.raises(UpdateError, match="part of a container image; run a newer image"):
        require_own(program, is_compiled=True, filesystem=tmp_path)


def test_a_pod_says_who_owns_it(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(UpdateError, match="image of its workload"):
        require_own(program, is_compiled=True, filesystem=tmp_path)


def test_a_file_of_a_package_names_the_package(tmp_path: Path) -> None:
    if shutil.which("dpkg") is None or subprocess.run(["dpkg", "-S", "/bin/ls"], capture_output=True).returncode:
        missing("no dpkg that owns /bin/ls")
    with pytest.raises(UpdateError, match=r"belongs to the dpkg package coreutils; run `apt-get .* coreutils`"):
        require_own(Path("/bin/ls"), is_compiled=True, filesystem=tmp_path)
