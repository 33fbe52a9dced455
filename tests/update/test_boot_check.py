"""`boot-check` under the shells that machines have, on a real directory."""

from __future__ import annotations

import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from syntra.update import layout
from syntra.update.trial import STARTS_ALLOWED, Trial
from tests.engine import missing

SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash", "--posix"]}


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    command = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        missing(f"no {command[0]}")
    return command


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """1.3.0 is on trial after 1.2.0; both are programs that print their version."""
    # A space, so that a missing quote shows.
    root = tmp_path / "opt dir" / "syntra-agent"
    for version in ("1.2.0", "1.3.0"):
        program = tmp_path / version
        program.write_text(f"#!/bin/sh\necho {version} $*\n")
        layout.install_version(root, version, program)
    layout.write_boot_check(root)
    layout.write_trial(root, Trial(to_version="1.3.0", from_version="1.2.0"))
    return root


def check(shell: list[str], root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One run; it must end with 0 whatever it finds."""
    command = [*shell, str(root / "boot-check"), *arguments]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=True, timeout=20)


def test_without_a_trial_nothing_happens(shell: list[str], root: Path) -> None:
    layout.remove_trial(root)
    before = sorted(path.name for path in root.iterdir())
    for _ in range(5):
        ended = check(shell, root)
        assert ended.stdout + ended.stderr == ""
    assert sorted(path.name for path in root.iterdir()) == before
    assert layout.linked(root, "current") == "1.3.0"


def test_three_starts_are_allowed_and_the_fourth_brings_the_previous_version_back(shell: list[str], root: Path) -> None:
    for starts in range(1, STARTS_ALLOWED + 1):
        check(shell, root)
        trial = layout.read_trial(root)
        assert trial is not None
        assert trial.starts == starts
        assert layout.linked(root, "current") == "1.3.0"
    ended = check(shell, root)
    assert "version 1.3.0 did not hold: 3 starts; version 1.2.0 is back" in ended.stdout + ended.stderr
    assert layout.linked(root, "current") == "1.2.0"
    assert layout.linked(root, "previous") is None
    assert not (root / "versions/1.2.0/previous").is_symlink(), "the link was moved into the directory"


def test_later_starts_of_the_previous_version_are_not_counted(shell: list[str], root: Path) -> None:
    for _ in range(6):
        check(shell, root)
    assert layout.linked(root, "current") == "1.2.0"
    trial = layout.read_trial(root)
    assert trial is not None
    assert trial.starts == STARTS_ALLOWED


def test_an_update_that_was_cut_off_before_the_links_changed_counts_nothing(shell: list[str], root: Path) -> None:
    layout.link(root, "current", "1.2.0")
    for _ in range(5):
        check(shell, root)
    trial = layout.read_trial(root)
    assert trial is not None
    assert trial.starts == 0
    assert layout.linked(root, "current") == "1.2.0"


@pytest.mark.parametrize("text", ["", "\n", "to=1.3.0\n", "from=1.2.0\n", "to=\nfrom=\n", "\0\xff\n", "start\n" * 9])
def test_a_damaged_trial_stops_no_start(shell: list[str], root: Path, text: str) -> None:
    (root / "trial").write_text(text, encoding="latin-1")
    for _ in range(5):
        check(shell, root)
    assert layout.linked(root, "current") == "1.3.0"


def test_a_trial_cut_at_any_byte_stops_no_start(shell: list[str], root: Path) -> None:
    whole = Trial(to_version="1.3.0", from_version="1.2.0", was_connected=True, starts=3).encode()
    for cut in range(len(whole)):
        layout.link(root, "current", "1.3.0")
        layout.link(root, "previous", "1.2.0")
        (root / "trial").write_text(whole[:cut])
        check(shell, root)
        assert (root / "current/syntra-agent").exists()


def test_a_previous_version_that_is_gone_is_not_brought_back(shell: list[str], root: Path) -> None:
    shutil.rmtree(root / "versions/1.2.0")
    for _ in range(4):
        ended = check(shell, root)
    assert "cannot bring back version 1.2.0: it is not there" in ended.stdout + ended.stderr
    assert layout.linked(root, "current") == "1.3.0"


def test_a_reason_of_the_agent_is_not_a_start(shell: list[str], root: Path) -> None:
    check(shell, root)
    layout.add_reason(root, "no hello_ack\nstart\nto=9.9.9")
    check(shell, root)
    trial = layout.read_trial(root)
    assert trial is not None
    assert (trial.to_version, trial.starts, trial.reason) == ("1.3.0", 2, "no hello_ack start to=9.9.9")


def test_starts_that_cannot_be_counted_bring_the_previous_version_back(shell: list[str], root: Path) -> None:
    """As on a full disk: no file can grow, and the way back needs no space."""
    ended = subprocess.run(
        [*shell, str(root / "boot-check")],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
        # SIGXFSZ stays ignored, as Python has it, so that the write fails with EFBIG.
        restore_signals=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert "its starts cannot be counted; version 1.2.0 is back" in ended.stdout + ended.stderr
    assert layout.linked(root, "current") == "1.2.0"


def test_with_a_program_it_becomes_the_program_of_the_version_that_it_chose(shell: list[str], root: Path) -> None:
    program = str(root / "current/syntra-agent")
    for _ in range(3):
        assert check(shell, root, program, "start", "a  b").stdout.splitlines()[-1] == "1.3.0 start a b"
    assert check(shell, root, program, "start").stdout.splitlines()[-1] == "1.2.0 start"


def test_shellcheck_finds_nothing() -> None:
    if shutil.which("shellcheck") is None:
        missing("no shellcheck")
    script = Path(layout.__file__).with_name("boot_check.sh")
    subprocess.run(["shellcheck", "-s", "sh", str(script)], check=True, timeout=60)
